// Drives a sandbox with Notion's own client: node drive_sandbox.cjs URL VERSION IDS(JSON). Prints what it saw as JSON.
const { Client, isFullPage, isFullBlock, isFullDatabase, isFullDataSource, iteratePaginatedAPI, APIErrorCode } = require("@notionhq/client");

const [url, version, ids] = [process.argv[2], process.argv[3], JSON.parse(process.argv[4])];
const notion = new Client({ auth: "ntn_sandbox", baseUrl: url, notionVersion: version, logLevel: "error" });
const paragraph = (content) => ({ type: "paragraph", paragraph: { rich_text: [{ type: "text", text: { content } }] } });

async function collected(list, args) {
  const ids = [];
  for await (const each of iteratePaginatedAPI(list, args)) ids.push(each.id);
  return ids;
}

async function refusal(promise) {
  try { await promise; return null; } catch (error) { return error.code; }
}

async function main() {
  const seen = {};
  seen.me = (await notion.users.me({})).type;
  const database = await notion.databases.retrieve({ database_id: ids.database });
  seen.database = isFullDatabase(database) && database.data_sources.map((source) => source.id);
  const source = await notion.dataSources.retrieve({ data_source_id: ids.dataSource });
  seen.dataSource = isFullDataSource(source) && Object.keys(source.properties).sort();
  seen.rows = (await collected(notion.dataSources.query, {
    data_source_id: ids.dataSource, page_size: 2, sorts: [{ timestamp: "created_time", direction: "ascending" }],
  })).length;
  seen.recent = (await notion.dataSources.query({
    data_source_id: ids.dataSource,
    filter: { timestamp: "last_edited_time", last_edited_time: { on_or_after: "2000-01-01T00:00:00Z" } },
  })).results.every(isFullPage);
  const made = await notion.pages.create({
    parent: { type: "data_source_id", data_source_id: ids.dataSource },
    properties: { Name: { title: [{ text: { content: "Made by the client" } }] } },
    children: [paragraph("one")],
  });
  seen.made = isFullPage(made);
  const page = await notion.pages.retrieve({ page_id: made.id });
  seen.title = page.properties.Name.title[0].plain_text;
  seen.property = (await notion.pages.properties.retrieve({ page_id: made.id, property_id: page.properties.Name.id })).object;
  const appended = await notion.blocks.children.append({ block_id: made.id, children: [paragraph("two"), paragraph("three")] });
  seen.appended = appended.results.every(isFullBlock);
  const [first, second] = await collected(notion.blocks.children.list, { block_id: made.id, page_size: 1 });
  await notion.blocks.update({ block_id: first, ...{ paragraph: { rich_text: [{ text: { content: "edited" } }] } } });
  seen.text = (await notion.blocks.retrieve({ block_id: first })).paragraph.rich_text[0].plain_text;
  await notion.blocks.delete({ block_id: second });
  seen.left = (await collected(notion.blocks.children.list, { block_id: made.id })).length;
  seen.found = (await collected(notion.search, { filter: { property: "object", value: "page" }, page_size: 2 })).includes(made.id);
  await notion.pages.move({ page_id: made.id, parent: { type: "page_id", page_id: ids.page } });
  seen.moved = (await notion.pages.retrieve({ page_id: made.id })).parent.page_id === ids.page;
  await notion.pages.update({ page_id: made.id, in_trash: true });
  seen.trashed = (await notion.pages.retrieve({ page_id: made.id })).in_trash;
  seen.missing = await refusal(notion.pages.retrieve({ page_id: "12345678-1234-4234-8234-123456789abc" }));
  seen.invalid = await refusal(notion.dataSources.query({ data_source_id: ids.dataSource, start_cursor: "nonsense" }));
  seen.codes = [APIErrorCode.ObjectNotFound, APIErrorCode.ValidationError];
  return seen;
}

main().then((seen) => console.log(JSON.stringify(seen)), (error) => { console.error(error); process.exit(1); });
