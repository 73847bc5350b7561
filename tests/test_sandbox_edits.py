"""What edits in the sandbox do: which stamps move, what trash, moves and lost access make of listings."""

from datetime import UTC, datetime, timedelta

from notion_client import AsyncClient

from daemon.clock import DrivenClock
from daemon.demo import Sandbox
from daemon.demo import blocks as b
from tests.support.sandbox_client import ids, refusal, site, stamp, title_of

pytest_plugins = ["tests.support.sandbox_fixtures"]


# Stamps


def test_edits_move_the_page(sandbox: Sandbox, clock: DrivenClock) -> None:
    """Title, properties, looks and every edit of the body move the page's stamp, deep ones too."""
    workspace = sandbox.workspace
    _, _, source = site(sandbox)
    row = workspace.add_row(source, "Row", blocks=[b.toggle("t", [b.paragraph("deep")])])
    toggle = workspace.children(row)[0]
    deep = workspace.children(toggle)[0]
    for edit in (
        lambda: workspace.set_title(row, "New"),
        lambda: workspace.set_properties(row, slug="new"),
        lambda: workspace.set_icon(row, "🌱"),
        lambda: workspace.set_cover(row, "https://example.com/c.png"),
        lambda: workspace.append_blocks(row, [b.paragraph("more")]),
        lambda: workspace.append_blocks(toggle, [b.paragraph("more")]),
        lambda: workspace.update_text(deep, "deeper"),
        lambda: workspace.delete_block(deep),
        lambda: workspace.restore(deep),
    ):
        clock.advance(1)
        edit()
        assert stamp(sandbox, row) == clock.now()
    assert stamp(sandbox, deep) == clock.now() - timedelta(seconds=1)
    assert stamp(sandbox, toggle) == datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


def test_what_moves_a_parent(sandbox: Sandbox, clock: DrivenClock) -> None:
    """A child page made, trashed or moved moves the page above; what happens inside it, and rows, do not."""
    workspace = sandbox.workspace
    home, database, source = site(sandbox)
    column = workspace.append_blocks(home, [b.columns([b.paragraph("x")])])[0]
    cell = workspace.children(workspace.children(column)[0])[0]
    child = workspace.create_page(cell, "Child", blocks=[b.paragraph("x")])
    elsewhere = workspace.create_page(None, "Elsewhere")
    row = workspace.add_row(source, "Row")
    before = stamp(sandbox, home)
    clock.advance(60)
    for edit in (
        lambda: workspace.set_title(child, "Renamed"),
        lambda: workspace.append_blocks(child, [b.paragraph("y")]),
        lambda: workspace.set_properties(row, slug="x"),
        lambda: workspace.add_row(source, "Another"),
        lambda: workspace.trash(row),
    ):
        edit()
        assert stamp(sandbox, home) == before
        assert stamp(sandbox, database) == before
    for edit in (
        lambda: workspace.create_page(home, "Second"),
        lambda: workspace.trash(child),
        lambda: workspace.restore(child),
        lambda: workspace.move(child, elsewhere),
        lambda: workspace.move(child, home),
    ):
        clock.advance(1)
        edit()
        assert stamp(sandbox, home) == clock.now()
    assert stamp(sandbox, elsewhere) == clock.now()


async def test_child_page_blocks_follow_their_page(
    sandbox: Sandbox, notion: AsyncClient, clock: DrivenClock
) -> None:
    """A child_page block has its page's stamps and title, and children when the page has a body."""
    workspace = sandbox.workspace
    home = workspace.create_page(None, "Home")
    child = workspace.create_page(home, "Child")
    clock.advance(120)
    workspace.set_title(child, "Renamed")
    block = (await notion.blocks.children.list(home))["results"][0]
    assert (block["child_page"], block["has_children"]) == ({"title": "Renamed"}, False)
    assert block["last_edited_time"] == "2026-01-05T09:02:00.000Z"
    assert (await notion.pages.retrieve(home))["last_edited_time"] == "2026-01-05T09:00:00.000Z"
    workspace.append_blocks(child, [b.paragraph("text")])
    assert (await notion.blocks.retrieve(child))["has_children"] is True


def test_computed_values_move_no_stamp(sandbox: Sandbox, clock: DrivenClock) -> None:
    """A formula that comes out differently leaves the stamp where it was."""
    workspace = sandbox.workspace
    home = workspace.create_page(None, "Home")
    _, source = workspace.create_database(home, "Posts", {"words": "formula"})
    row = workspace.add_row(source, "Row")
    before = stamp(sandbox, row)
    clock.advance(60)
    workspace.set_computed(row, "words", 12)
    assert stamp(sandbox, row) == before


async def test_synced_blocks(sandbox: Sandbox, notion: AsyncClient, clock: DrivenClock) -> None:
    """A copy lists the original's children with their own ids; editing them moves only the original's page."""
    workspace = sandbox.workspace
    home = workspace.create_page(None, "Home", blocks=[b.synced_original([b.paragraph("shared")])])
    original = workspace.children(home)[0]
    shows = workspace.create_page(None, "Shows", blocks=[b.synced_copy(original)])
    copy = (await notion.blocks.children.list(shows))["results"][0]
    assert (copy["has_children"], copy["synced_block"]["synced_from"]) == (
        True,
        {"type": "block_id", "block_id": original},
    )
    clock.advance(60)
    workspace.update_text(workspace.children(original)[0], "edited")
    listed = (await notion.blocks.children.list(copy["id"]))["results"]
    assert listed == (await notion.blocks.children.list(original))["results"]
    assert listed[0]["paragraph"]["rich_text"][0]["plain_text"] == "edited"
    assert stamp(sandbox, home) == clock.now()
    assert stamp(sandbox, shows) == clock.now() - timedelta(seconds=60)
    workspace.unshare(home)
    for block_id in (copy["id"], original):
        assert (await refusal(notion.blocks.children.list(block_id))).status == 404
    assert (await notion.blocks.retrieve(copy["id"]))["has_children"] is True


# Access, trash, moves


async def test_unshared_is_not_found(sandbox: Sandbox, notion: AsyncClient) -> None:
    """What is taken from the integration is 404 with everything below, and leaves every listing."""
    workspace = sandbox.workspace
    home, database, source = site(sandbox, 2)
    child = workspace.create_page(home, "Child", blocks=[b.paragraph("x")])
    first, second = workspace.rows(source)
    workspace.unshare(first)
    assert ids((await notion.data_sources.query(source))["results"]) == [second]
    workspace.unshare(child)
    assert ids((await notion.blocks.children.list(home))["results"]) == [database]
    workspace.unshare(home)
    for asked in (
        notion.pages.retrieve(home),
        notion.pages.retrieve(second),
        notion.blocks.children.list(child),
        notion.databases.retrieve(database),
        notion.data_sources.query(source),
    ):
        assert (await refusal(asked)).status == 404
    assert (await notion.search())["results"] == []
    workspace.share(child)
    assert (await notion.pages.retrieve(child))["id"] == child
    workspace.share(home)
    assert ids((await notion.data_sources.query(source))["results"]) == [second]


async def test_linked_databases_are_refused(sandbox: Sandbox, notion: AsyncClient) -> None:
    """A linked view is a child_database block and nothing else."""
    home = sandbox.workspace.create_page(None, "Home")
    linked = sandbox.workspace.create_linked_database(home, "View of posts")
    block = (await notion.blocks.children.list(home))["results"][0]
    assert (block["id"], block["child_database"]) == (linked, {"title": "View of posts"})
    for asked in (notion.databases.retrieve(linked), notion.data_sources.query(linked)):
        assert (await refusal(asked)).status == 404


async def test_trashed_blocks_are_not_listed(sandbox: Sandbox, notion: AsyncClient) -> None:
    """Blocks, pages and databases in the trash leave their parent's list, and a GET says so."""
    home, database, _ = site(sandbox)
    child = sandbox.workspace.create_page(home, "Child")
    text = sandbox.workspace.append_blocks(home, [b.paragraph("x")])[0]
    for object_id in (database, child, text):
        sandbox.workspace.trash(object_id)
        assert (await notion.blocks.retrieve(object_id))["in_trash"] is True
    assert (await notion.blocks.children.list(home))["results"] == []
    assert (await notion.blocks.retrieve(home))["has_children"] is False


async def test_purged_is_gone(sandbox: Sandbox, notion: AsyncClient) -> None:
    """After its time in the trash an object is 404 with everything below it, and in no listing."""
    workspace = sandbox.workspace
    home, database, source = site(sandbox, 2)
    row, other = workspace.rows(source)
    workspace.purge(row)
    assert ids((await notion.data_sources.query(source))["results"]) == [other]
    child = workspace.create_page(home, "Child", blocks=[b.paragraph("x")])
    text = workspace.children(child)[0]
    workspace.trash(home)
    workspace.purge(home)
    for asked in (
        notion.pages.retrieve(child),
        notion.blocks.retrieve(text),
        notion.databases.retrieve(database),
        notion.data_sources.query(source),
        notion.pages.retrieve(other),
    ):
        assert (await refusal(asked)).status == 404
    assert (await notion.search())["results"] == []


async def test_moves(sandbox: Sandbox, notion: AsyncClient) -> None:
    """A row that is moved out leaves the query and keeps its cells for when it is moved back."""
    workspace = sandbox.workspace
    home, _, source = site(sandbox, 1)
    row = workspace.rows(source)[0]
    other = workspace.create_page(None, "Other")
    moved = await notion.pages.move(row, parent={"type": "page_id", "page_id": other})
    assert (moved["parent"], list(moved["properties"])) == ({"type": "page_id", "page_id": other}, ["title"])
    assert (await notion.data_sources.query(source))["results"] == []
    assert ids((await notion.blocks.children.list(other))["results"]) == [row]
    back = await notion.pages.move(row, parent={"type": "data_source_id", "data_source_id": source})
    assert back["properties"]["slug"]["rich_text"][0]["plain_text"] == "post-0"
    assert (await notion.blocks.children.list(other))["results"] == []
    into_itself = notion.pages.move(home, parent={"page_id": home})
    assert (await refusal(into_itself)).status == 400


async def test_several_data_sources(sandbox: Sandbox, notion: AsyncClient) -> None:
    """A database may have several sources, each with a schema and rows of its own."""
    _, database, source = site(sandbox, 1)
    second = sandbox.workspace.add_data_source(database, "More", {"n": "number"})
    sandbox.workspace.add_row(second, "Other")
    assert ids((await notion.databases.retrieve(database))["data_sources"]) == [source, second]
    assert [title_of(p) for p in (await notion.data_sources.query(second))["results"]] == ["Other"]
    refused = await refusal(notion.pages.create(parent={"database_id": database}, properties={}))
    assert refused.additional_data is not None
    assert refused.additional_data["error_type"] == "multiple_data_sources_for_database"


async def test_schema_changes(sandbox: Sandbox, notion: AsyncClient, clock: DrivenClock) -> None:
    """Columns added, renamed and removed show at once in source and rows, and move the source's stamp."""
    workspace = sandbox.workspace
    _, _, source = site(sandbox, 1)
    await notion.data_sources.query(source)
    clock.advance(60)
    workspace.add_property(source, "tags", {"multi_select": {"options": ["a"]}})
    workspace.rename_property(source, "slug", "path")
    table = await notion.data_sources.retrieve(source)
    assert set(table["properties"]) == {"Name", "path", "tags"}
    assert table["last_edited_time"] == "2026-01-05T09:01:00.000Z"
    row = (await notion.data_sources.query(source))["results"][0]
    assert row["properties"]["path"]["rich_text"][0]["plain_text"] == "post-0"
    assert row["last_edited_time"] == "2026-01-05T09:00:00.000Z"
    workspace.remove_property(source, "path")
    row = (await notion.data_sources.query(source))["results"][0]
    assert set(row["properties"]) == {"Name", "tags"}
