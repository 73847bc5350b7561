import { Redis } from "@upstash/redis";
import { notFound } from "next/navigation";
import { type Page, text } from "../../kv";

export const dynamic = "force-static";
export const generateStaticParams = () => [];

/** Reads without a tag: only its path tells Next.js to make this page again. */
export default async function Post({ params }: { params: Promise<{ slug: string[] }> }) {
  const slug = (await params).slug.map(decodeURIComponent).join("/");
  const store = new Redis({ url: process.env.KV_REST_API_URL, token: process.env.KV_REST_API_TOKEN });
  const page = await store.get<Page>(`page:${slug}`);
  if (!page) notFound();
  return (
    <main>
      <h1>{page.meta.title}</h1>
      <pre>{text(page)}</pre>
    </main>
  );
}
