"""Writes over HTTP do what the editor's do, and are refused where Notion refuses them."""

import copy

import httpx
import pytest
from notion_client import AsyncClient

from daemon.clock import DrivenClock
from daemon.demo import Sandbox
from daemon.demo import blocks as b
from tests.support.sandbox_client import Connect, Json, ids, refusal, title_of

pytest_plugins = ["tests.support.sandbox_fixtures"]


def words(text: str) -> Json:
    """A title property as it is written."""
    return {"title": [{"text": {"content": text}}]}


async def test_create_pages(sandbox: Sandbox, notion: AsyncClient) -> None:
    """Under a page, in a data source, and at the top, with icon, cover and body, in the bot's name."""
    home = sandbox.workspace.create_page(None, "Home")
    _, source = sandbox.workspace.create_database(home, "Posts", {"tags": "multi_select", "done": "checkbox"})
    child = await notion.pages.create(
        parent={"page_id": home},
        properties={"title": words("Child")},
        icon={"type": "emoji", "emoji": "🌱"},
        cover={"type": "external", "external": {"url": "https://example.com/c.png"}},
        children=[b.paragraph("first"), b.toggle("second", [b.paragraph("inside")])],
    )
    assert (title_of(child), child["icon"]["emoji"]) == ("Child", "🌱")
    assert child["created_by"]["id"] == sandbox.workspace.bot_id
    assert len((await notion.blocks.children.list(child["id"]))["results"]) == 2
    assert child["id"] in ids((await notion.blocks.children.list(home))["results"])
    row = await notion.pages.create(
        parent={"type": "data_source_id", "data_source_id": source},
        properties={
            "Name": words("Row"),
            "tags": {"multi_select": [{"name": "a"}]},
            "done": {"checkbox": True},
        },
    )
    assert row["properties"]["tags"]["multi_select"][0]["name"] == "a"
    assert row["properties"]["done"]["checkbox"] is True
    assert ids((await notion.data_sources.query(source))["results"]) == [row["id"]]
    top = await notion.pages.create(
        parent={"type": "workspace", "workspace": True}, properties={"title": words("T")}
    )
    assert top["parent"] == {"type": "workspace", "workspace": True}


@pytest.mark.parametrize(
    "body",
    [
        {"properties": {}},
        {"parent": {"page_id": "7855b161-f63e-4683-b7c7-8ca6e97ee266"}, "properties": {}},
        {"parent": {"data_source_id": "SOURCE"}, "properties": {"No such": {"checkbox": True}}},
        {"parent": {"data_source_id": "SOURCE"}, "properties": {"words": {"formula": {}}}},
        {"parent": {"data_source_id": "SOURCE"}, "properties": {"Name": {"checkbox": True}}},
        {"parent": {"data_source_id": "SOURCE"}, "properties": {}, "unknown": 1},
        {"parent": {"data_source_id": "x"}, "properties": {}},
    ],
)
async def test_creations_that_are_refused(sandbox: Sandbox, http: httpx.AsyncClient, body: Json) -> None:
    """Without a parent, with one that does not exist, with columns that do not exist or are computed."""
    home = sandbox.workspace.create_page(None, "Home")
    _, source = sandbox.workspace.create_database(home, "Posts", {"words": "formula"})
    sent = copy.deepcopy(body)
    if sent.get("parent", {}).get("data_source_id") == "SOURCE":
        sent["parent"]["data_source_id"] = source
    answer = await http.post("/pages", json=sent)
    assert answer.status_code in (400, 404)
    assert answer.json()["code"] in ("validation_error", "object_not_found")
    assert sandbox.workspace.rows(source) == []


async def test_update_pages(sandbox: Sandbox, notion: AsyncClient, clock: DrivenClock) -> None:
    """Properties by name or id, looks, lock, trash and restore; the stamp moves, the editor is the bot."""
    home = sandbox.workspace.create_page(None, "Home")
    _, source = sandbox.workspace.create_database(home, "Posts", {"n/%": "number"})
    row = sandbox.workspace.add_row(source, "Row")
    clock.advance(60)
    column = (await notion.pages.retrieve(row))["properties"]["n/%"]["id"]
    page = await notion.pages.update(row, properties={column: {"number": 3}, "title": words("New")})
    assert (title_of(page), page["properties"]["n/%"]["number"]) == ("New", 3)
    assert page["last_edited_time"] == "2026-01-05T09:01:00.000Z"
    assert page["last_edited_by"]["id"] == sandbox.workspace.bot_id
    page = await notion.pages.update(home, properties={"title": words("House")}, icon={"emoji": "🏠"})
    assert (title_of(page), page["icon"]) == ("House", {"type": "emoji", "emoji": "🏠"})
    assert (await notion.pages.update(row, in_trash=True))["in_trash"] is True
    assert "archived" in str(await refusal(notion.pages.update(row, properties={"title": words("x")})))
    assert (await notion.pages.update(row, in_trash=False))["in_trash"] is False


async def test_the_older_word_for_trash(sandbox: Sandbox, connect: Connect) -> None:
    """`archived` is taken by 2025-09-03 and refused by 2026-03-11."""
    page = sandbox.workspace.create_page(None, "Page")
    error = await refusal(connect("2026-03-11").pages.update(page, archived=True))
    assert str(error) == "body failed validation: body.archived should be not present, instead was `true`."
    assert (await connect("2025-09-03").pages.update(page, archived=True))["archived"] is True


async def test_blocks_are_edited(sandbox: Sandbox, notion: AsyncClient) -> None:
    """A block's text changes, it goes to the trash by PATCH or DELETE, and cannot be edited there."""
    home = sandbox.workspace.create_page(None, "Home", blocks=[b.to_do("x"), b.paragraph("y")])
    first, second = sandbox.workspace.children(home)
    edited = await notion.blocks.update(first, to_do={"rich_text": b.rich("done"), "checked": True})
    assert (edited["to_do"]["checked"], edited["to_do"]["rich_text"][0]["plain_text"]) == (True, "done")
    assert (await notion.blocks.delete(first))["in_trash"] is True
    assert (await notion.blocks.update(second, in_trash=True))["in_trash"] is True
    assert sandbox.workspace.children(home) == []
    assert (await refusal(notion.blocks.delete(first))).status == 400
    assert (await refusal(notion.blocks.update(second, paragraph={"rich_text": []}))).status == 400
    assert (await notion.blocks.update(second, in_trash=False))["in_trash"] is False


async def test_append_places(sandbox: Sandbox, connect: Connect) -> None:
    """At the end, at the start, behind a block; `after` belongs to the older version, `position` to both."""
    home = sandbox.workspace.create_page(None, "Home", blocks=[b.paragraph("0")])
    new, old = connect("2026-03-11"), connect("2025-09-03")
    first = sandbox.workspace.children(home)[0]
    made = await new.blocks.children.append(home, children=[b.paragraph("9")])
    assert (made["type"], made["results"][0]["paragraph"]["rich_text"][0]["plain_text"]) == ("block", "9")
    behind = {"type": "after_block", "after_block": {"id": first}}
    await new.blocks.children.append(home, children=[b.paragraph("2")], position=behind)
    await old.blocks.children.append(home, children=[b.paragraph("1")], after=first)
    await new.blocks.children.append(home, children=[b.paragraph("-")], position={"type": "start"})
    listed = (await new.blocks.children.list(home))["results"]
    assert [x["paragraph"]["rich_text"][0]["plain_text"] for x in listed] == ["-", "0", "1", "2", "9"]
    refused = new.blocks.children.append(home, children=[b.paragraph("x")], after=first)
    assert "body.after should be not present" in str(await refusal(refused))


def nested(levels: int) -> Json:
    """A toggle in a toggle, so many levels below the first."""
    return b.toggle("x", [nested(levels - 1)]) if levels else b.toggle("x")


@pytest.mark.parametrize(
    ("children", "message"),
    [
        ([b.paragraph("x")] * 101, "body.children.length should be ≤ `100`, instead was `101`."),
        ([nested(3)], "toggle.children should be not present"),
        ([b.paragraph("x" * 2001)], "text.content.length should be ≤ `2000`, instead was `2001`."),
        ([b.toggle("x", [b.toggle("y", [b.paragraph("z")] * 60)] * 20)], "1000 blocks"),
        ([b.unsupported()], "should be defined"),
        ([{"type": "no_such_type", "no_such_type": {}}], "should be defined"),
        ("text", "should be an array"),
    ],
)
async def test_append_limits(sandbox: Sandbox, http: httpx.AsyncClient, children: Json, message: str) -> None:
    """100 children, two levels below the first, 2,000 characters a run, 1,000 blocks, known types."""
    home = sandbox.workspace.create_page(None, "Home")
    answer = await http.patch(f"/blocks/{home}/children", json={"children": children})
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert message in answer.json()["message"]
    assert sandbox.workspace.children(home) == []


async def test_two_levels_are_taken(sandbox: Sandbox, notion: AsyncClient) -> None:
    """Two levels below the first are within the limits, and read back level by level."""
    home = sandbox.workspace.create_page(None, "Home")
    container = home
    await notion.blocks.children.append(home, children=[nested(2)])
    for has_children in (True, True, False):
        block = (await notion.blocks.children.list(container))["results"][0]
        assert block["has_children"] is has_children
        container = block["id"]


def test_impossible_edits(sandbox: Sandbox) -> None:
    """The editor's own mistakes are told at once: unknown ids, columns and types, ids that are taken."""
    workspace = sandbox.workspace
    home = workspace.create_page(None, "Home")
    database, source = workspace.create_database(home, "Posts", {"slug": "rich_text"})
    row = workspace.add_row(source, "Row")
    with pytest.raises(KeyError):
        workspace.trash("7855b161-f63e-4683-b7c7-8ca6e97ee266")
    with pytest.raises(ValueError, match="has no column 'no'"):
        workspace.set_properties(row, {"no": 1})
    with pytest.raises(ValueError, match="is no property type"):
        workspace.add_property(source, "x", "nonsense")
    with pytest.raises(ValueError, match="taken"):
        workspace.create_page(None, "Twin", page_id=home)
    with pytest.raises(ValueError, match="add_row"):
        workspace.create_page(database, "Not a row")
    with pytest.raises(ValueError, match="into itself"):
        workspace.move(home, home)
    with pytest.raises(ValueError, match="only a title"):
        workspace.set_properties(home, {"slug": "x"})
