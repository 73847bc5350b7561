// app/api/revalidate/route.ts of a Next.js site (App Router, Next.js 16): notion-kv-sync tells here which tags and
// paths changed. REVALIDATE_SECRET is the same text on both sides. For Next.js 13 to 15: revalidateTag(tag) alone.
import { createHmac, timingSafeEqual } from "node:crypto";
import { revalidatePath, revalidateTag } from "next/cache";

export const runtime = "nodejs";

const SIGNATURE_HEADER = "x-revalidate-signature";
const OLDEST_SECONDS = 300; // a call that somebody recorded is worth nothing five minutes later

export async function POST(request: Request): Promise<Response> {
  const secret = process.env.REVALIDATE_SECRET;
  if (!secret) return refusal(503, "not_configured");
  const body = Buffer.from(await request.arrayBuffer());
  const header = request.headers.get(SIGNATURE_HEADER) ?? "";
  if (!isSigned(body, header, secret, Date.now() / 1000)) return refusal(401, "bad_signature");
  let told: { tags?: unknown; paths?: unknown } | null;
  try {
    told = JSON.parse(body.toString("utf8"));
  } catch {
    return refusal(400, "no_json");
  }
  const tags = texts(told?.tags);
  const paths = texts(told?.paths);
  // expire 0: the next visitor waits for the new version instead of being shown the old one once more.
  for (const tag of tags) revalidateTag(tag, { expire: 0 });
  for (const path of paths) revalidatePath(path);
  return Response.json({ ok: true, tags: tags.length, paths: paths.length });
}

/** Whether the header `t=<unix seconds>,v1=<hex>` signs this body: HMAC-SHA256 over `<t>.<body>`, compared in constant time. */
function isSigned(body: Buffer, header: string, secret: string, nowSeconds: number): boolean {
  const found = /^t=(\d{1,12}),v1=([0-9a-f]{64})$/.exec(header);
  if (!found || Math.abs(nowSeconds - Number(found[1])) > OLDEST_SECONDS) return false;
  const right = createHmac("sha256", secret).update(`${found[1]}.`).update(body).digest();
  return timingSafeEqual(Buffer.from(found[2], "hex"), right);
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one): one is string => typeof one === "string" && one !== "") : [];
}

function refusal(status: number, error: string): Response {
  return Response.json({ ok: false, error }, { status });
}
