import { type Index, read } from "../kv";

export const dynamic = "force-static";

export default async function Posts() {
  const index = await read<Index>("posts:index");
  return (
    <ul>
      {index?.items.map((item) => (
        <li key={item.slug}>{item.title}</li>
      ))}
    </ul>
  );
}
