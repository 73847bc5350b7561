// Reads a store with @upstash/redis and with @vercel/kv as a site does, and prints what each of them saw as JSON.
// Usage: node read_kv.cjs URL TOKEN

const { Redis } = require("@upstash/redis");
const { createClient } = require("@vercel/kv");

const [url, token] = process.argv.slice(2);

async function failureOf(promise) {
  try {
    await promise;
    return null;
  } catch (error) {
    return String(error.message);
  }
}

async function everyKey(client, match) {
  const keys = [];
  let cursor = "0";
  do {
    const [next, found] = await client.scan(cursor, { match, count: 2 });
    keys.push(...found);
    cursor = String(next);
  } while (cursor !== "0");
  return keys.sort();
}

async function seenBy(client) {
  return {
    ping: await client.ping(),
    page: await client.get("page:a/b"),
    large: (await client.get("page:large")).text.length,
    absent: await client.get("page:none"),
    several: await client.mget("page:a/b", "page:none", "posts:index"),
    exists: await client.exists("page:a/b", "page:none", "posts:index"),
    length: await client.strlen("page:a/b"),
    ttl: [await client.ttl("page:a/b"), await client.ttl("page:none")],
    scanned: await everyKey(client, "page:*").catch((error) => String(error.message)),
    atOnce: await Promise.all([client.get("posts:index"), client.get("page:none"), client.exists("page:a/b")]),
    pipeline: await client.pipeline().get("posts:index").exists("page:none").exec(),
    transaction: await client.multi().get("posts:index").ttl("page:none").exec(),
    write: await failureOf(client.set("page:a/b", "overwritten")),
    deletion: await failureOf(client.del("page:a/b")),
  };
}

async function main() {
  const options = { url, token, retry: false };
  const stranger = new Redis({ url, token: "another-token", retry: false });
  const seen = {
    "@upstash/redis": await seenBy(new Redis(options)),
    "@upstash/redis without base64": await seenBy(new Redis({ ...options, responseEncoding: false })),
    "@vercel/kv": await seenBy(createClient(options)),
    stranger: await failureOf(stranger.get("page:a/b")),
  };
  console.log(JSON.stringify(seen));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
