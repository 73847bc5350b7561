import { notFound } from "next/navigation";
import { type Page, read, text } from "../kv";

export const dynamic = "force-static";
export const generateStaticParams = () => [];

export default async function Site({ params }: { params: Promise<{ slug?: string[] }> }) {
  const slug = (await params).slug?.map(decodeURIComponent).join("/") ?? "index";
  const page = await read<Page>(`page:${slug}`);
  if (!page) notFound();
  return (
    <main>
      <h1>{page.meta.title}</h1>
      <pre>{text(page)}</pre>
    </main>
  );
}
