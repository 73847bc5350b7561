import { Redis } from "@upstash/redis";
import { unstable_cache } from "next/cache";

export type Page = { meta: { title: string }; blocks: { paragraph?: { rich_text: { plain_text: string }[] } }[] };
export type Index = { items: { slug: string; title: string }[] };

/** A key of the store, kept by Next.js for ever unless its tag is revalidated. */
export function read<T>(key: string): Promise<T | null> {
  const store = () => new Redis({ url: process.env.KV_REST_API_URL, token: process.env.KV_REST_API_TOKEN });
  return unstable_cache(() => store().get<T>(key), [key], { tags: [key], revalidate: false })();
}

/** The plain text of a page, a line a paragraph. */
export function text(page: Page): string {
  return page.blocks.map((block) => block.paragraph?.rich_text.map((part) => part.plain_text).join("") ?? "").join("\n");
}
