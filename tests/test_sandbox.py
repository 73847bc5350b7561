"""The sandbox answers as Notion does: shapes of every object, ids, headers, errors."""

import asyncio
from email.utils import parsedate_to_datetime

import httpx
import pytest
from notion_client import AsyncClient

from daemon.clock import DrivenClock
from daemon.demo import Sandbox
from daemon.demo import blocks as b
from tests.support.sandbox_client import Connect, ids, refusal, site, title_of

pytest_plugins = ["tests.support.sandbox_fixtures"]

PAGE_KEYS = [
    "object",
    "id",
    "created_time",
    "last_edited_time",
    "created_by",
    "last_edited_by",
    "cover",
    "icon",
    "parent",
    "in_trash",
    "is_archived",
    "is_locked",
    "properties",
    "url",
    "public_url",
    "request_id",
]
BLOCK_KEYS = [
    "object",
    "id",
    "parent",
    "created_time",
    "last_edited_time",
    "created_by",
    "last_edited_by",
    "has_children",
    "in_trash",
    "type",
]
DATA_SOURCE_KEYS = [
    "object",
    "id",
    "cover",
    "icon",
    "created_time",
    "created_by",
    "last_edited_by",
    "last_edited_time",
    "title",
    "description",
    "is_inline",
    "properties",
    "parent",
    "database_parent",
    "url",
    "public_url",
    "in_trash",
    "request_id",
]
DATABASE_KEYS = [
    "object",
    "id",
    "title",
    "description",
    "parent",
    "is_inline",
    "in_trash",
    "is_locked",
    "created_time",
    "last_edited_time",
    "data_sources",
    "icon",
    "cover",
    "url",
    "public_url",
    "request_id",
]


# Shapes


async def test_page_shape(sandbox: Sandbox, notion: AsyncClient) -> None:
    """A page has the recorded keys in the recorded order, a slug in its URL, floored stamps."""
    home, database, source = site(sandbox, 1)
    row = sandbox.workspace.rows(source)[0]
    page = await notion.pages.retrieve(row)
    assert list(page) == PAGE_KEYS
    assert page["url"] == f"https://www.notion.so/Post-0-{row.replace('-', '')}"
    assert page["last_edited_time"] == "2026-01-05T09:00:00.000Z"
    assert page["parent"] == {"type": "data_source_id", "data_source_id": source, "database_id": database}
    assert list(page["properties"]) == ["slug", "Name"]
    assert (await notion.pages.retrieve(home))["parent"] == {"type": "workspace", "workspace": True}


async def test_block_shape(sandbox: Sandbox, notion: AsyncClient) -> None:
    """A block has the recorded keys, its type's body in read form, and its parent."""
    home = sandbox.workspace.create_page(None, "Home", blocks=[b.toggle("More", [b.paragraph("inside")])])
    listing = await notion.blocks.children.list(home)
    assert list(listing) == ["object", "results", "next_cursor", "has_more", "type", "block", "request_id"]
    outer = listing["results"][0]
    assert list(outer) == [*BLOCK_KEYS, "toggle"]
    assert (outer["has_children"], outer["parent"]) == (True, {"type": "page_id", "page_id": home})
    inner = (await notion.blocks.children.list(outer["id"]))["results"][0]
    assert inner["parent"] == {"type": "block_id", "block_id": outer["id"]}
    assert list(inner["paragraph"]) == ["rich_text", "icon", "color"]
    assert inner["paragraph"]["rich_text"] == [
        {
            "type": "text",
            "text": {"content": "inside", "link": None},
            "annotations": {
                "bold": False,
                "italic": False,
                "strikethrough": False,
                "underline": False,
                "code": False,
                "color": "default",
            },
            "plain_text": "inside",
            "href": None,
        }
    ]
    assert list(await notion.blocks.retrieve(inner["id"])) == [*BLOCK_KEYS, "paragraph", "request_id"]


async def test_database_and_data_source_shapes(
    sandbox: Sandbox, notion: AsyncClient, clock: DrivenClock
) -> None:
    """A container's stamps are exact and have an offset, those of its source and its block are floored."""
    clock.advance(7.5)
    home, database, source = site(sandbox)
    container = await notion.databases.retrieve(database)
    assert list(container) == DATABASE_KEYS
    assert container["last_edited_time"] == "2026-01-05T09:00:07.500+00:00"
    assert container["data_sources"] == [{"id": source, "name": "Posts"}]
    table = await notion.data_sources.retrieve(source)
    assert list(table) == DATA_SOURCE_KEYS
    assert table["last_edited_time"] == "2026-01-05T09:00:00.000Z"
    assert table["database_parent"] == {"type": "page_id", "page_id": home}
    block = (await notion.blocks.children.list(home))["results"][0]
    assert (block["id"], block["type"], block["has_children"]) == (database, "child_database", False)
    assert block["child_database"] == {"title": "Posts"}
    assert block["last_edited_time"] == "2026-01-05T09:00:00.000Z"


async def test_older_version_still_says_archived(sandbox: Sandbox, connect: Connect) -> None:
    """2025-09-03 carries `archived` beside `in_trash` everywhere, 2026-03-11 nowhere."""
    home, database, source = site(sandbox, 1)
    row = sandbox.workspace.rows(source)[0]
    for version, expected in (("2025-09-03", True), ("2026-03-11", False)):
        notion = connect(version)
        hit = (await notion.data_sources.query(source))["results"][0]
        block = (await notion.blocks.children.list(home))["results"][0]
        objects = [await notion.pages.retrieve(row), await notion.databases.retrieve(database), hit, block]
        assert [("archived" in made) for made in objects] == [expected] * 4
        assert all(made["in_trash"] is False for made in objects)


async def test_every_property_type_reads_back(sandbox: Sandbox, notion: AsyncClient) -> None:
    """Plain values come back in Notion's form for every type of column."""
    workspace = sandbox.workspace
    home = workspace.create_page(None, "Home")
    kinds = [
        "rich_text",
        "url",
        "email",
        "phone_number",
        "checkbox",
        "number",
        "date",
        "select",
        "status",
        "multi_select",
        "files",
        "people",
    ]
    more = [
        "relation",
        "formula",
        "rollup",
        "unique_id",
        "created_time",
        "last_edited_time",
        "created_by",
        "last_edited_by",
    ]
    _, source = workspace.create_database(home, "All", {kind: kind for kind in [*kinds, *more]})
    other = workspace.add_row(source, "Other")
    row = workspace.add_row(
        source,
        "Row",
        {
            "rich_text": "words",
            "url": "https://example.com",
            "checkbox": True,
            "number": 4.5,
            "date": {"start": "2026-01-01", "end": "2026-01-02"},
            "select": "one",
            "status": "Done",
            "multi_select": ["a", "b"],
            "files": [{"name": "x.png", "url": "https://example.com/x.png"}, {"name": "y", "hosted": True}],
            "people": [workspace.person_id],
            "relation": [other],
        },
    )
    workspace.set_computed(row, "formula", "computed")
    workspace.set_computed(row, "rollup", 3)
    cells = (await notion.pages.retrieve(row))["properties"]
    values = {name: cell[cell["type"]] for name, cell in cells.items()}
    assert values["rich_text"][0]["plain_text"] == "words"
    assert (values["url"], values["email"], values["checkbox"], values["number"]) == (
        "https://example.com",
        None,
        True,
        4.5,
    )
    assert values["date"] == {"start": "2026-01-01", "end": "2026-01-02", "time_zone": None}
    assert (values["select"]["name"], values["status"]["name"]) == ("one", "Done")
    assert [option["name"] for option in values["multi_select"]] == ["a", "b"]
    assert values["files"][0]["external"]["url"] == "https://example.com/x.png"
    assert "X-Amz-Signature" in values["files"][1]["file"]["url"]
    assert values["people"][0]["person"]["email"] == "ada@example.com"
    assert (values["relation"], cells["relation"]["has_more"]) == ([{"id": other}], False)
    assert values["formula"] == {"type": "string", "string": "computed"}
    assert values["rollup"] == {"type": "number", "number": 3, "function": "show_original"}
    assert values["unique_id"] == {"prefix": None, "number": 2}
    assert values["created_time"] == "2026-01-05T09:00:00.000Z"
    assert values["created_by"]["id"] == workspace.person_id


async def test_every_block_helper_reads_back(sandbox: Sandbox, notion: AsyncClient) -> None:
    """Each block that can be written comes back under its type, media with either kind of file."""
    original = b.synced_original([b.paragraph("shared")])
    written = [
        *(b.heading(level, f"H{level}") for level in (1, 2, 3, 4)),
        b.heading(1, "unfolds", [b.paragraph("x")]),
        b.bulleted("x"),
        b.numbered("x"),
        b.to_do("x", checked=True),
        b.quote("x"),
        b.callout("x"),
        b.code("print()", "python"),
        b.divider(),
        b.breadcrumb(),
        b.table_of_contents(),
        b.equation("E=mc^2"),
        b.bookmark("https://example.com"),
        b.embed("https://example.com"),
        b.link_preview("https://example.com"),
        b.columns([b.paragraph("l")], [b.paragraph("r")], ratios=(0.25, 0.75)),
        b.table([["a", "b"], ["c", "d"]]),
        b.tabs(One=[b.paragraph("x")]),
        b.unsupported(),
        b.image("https://example.com/a.png"),
        b.video(hosted="v.mp4"),
        b.audio(hosted=True),
        b.pdf("https://example.com/a.pdf"),
        b.file("https://example.com/robots.txt"),
        original,
    ]
    home = sandbox.workspace.create_page(None, "Home", blocks=written)
    read = (await notion.blocks.children.list(home))["results"]
    assert [block["type"] for block in read] == [block["type"] for block in written]
    by_type = {block["type"]: block[block["type"]] for block in read}
    assert by_type["table"] == {"table_width": 2, "has_column_header": True, "has_row_header": False}
    assert by_type["file"]["name"] == "robots.txt"
    assert list(by_type["image"]) == ["caption", "type", "external"]
    assert by_type["video"]["file"]["url"].split("?")[0].endswith("/v.mp4")
    assert by_type["synced_block"] == {"synced_from": None}
    assert by_type["code"]["language"] == "python"
    table = next(block for block in read if block["type"] == "table")
    cells = [row["table_row"]["cells"] for row in (await notion.blocks.children.list(table["id"]))["results"]]
    assert [[cell[0]["plain_text"] for cell in row] for row in cells] == [["a", "b"], ["c", "d"]]
    columns = next(block for block in read if block["type"] == "column_list")
    widths = (await notion.blocks.children.list(columns["id"]))["results"]
    assert [column["column"] for column in widths] == [{"width_ratio": 0.25}, {"width_ratio": 0.75}]


async def test_mentions_carry_the_present_name(sandbox: Sandbox, notion: AsyncClient) -> None:
    """A mention shows the title its target has now, although the mentioning page was not edited."""
    workspace = sandbox.workspace
    target = workspace.create_page(None, "Before")
    home = workspace.create_page(None, "Home", blocks=[b.paragraph([b.text("see "), b.mention_page(target)])])
    workspace.set_title(target, "After")
    words = (await notion.blocks.children.list(home))["results"][0]["paragraph"]["rich_text"]
    assert [item["plain_text"] for item in words] == ["see ", "After"]
    assert words[1]["mention"] == {"type": "page", "page": {"id": target}}


async def test_lone_surrogates_travel(sandbox: Sandbox, notion: AsyncClient) -> None:
    """Half an emoji, which UTF-8 cannot carry, goes through titles, blocks and listings as an escape."""
    home, _, source = site(sandbox)
    row = sandbox.workspace.add_row(source, "half \ud83d", blocks=[b.paragraph("\udc00 rest")])
    assert title_of(await notion.pages.retrieve(row)) == "half \ud83d"
    assert title_of((await notion.data_sources.query(source))["results"][0]) == "half \ud83d"
    block = (await notion.blocks.children.list(row))["results"][0]
    assert block["paragraph"]["rich_text"][0]["plain_text"] == "\udc00 rest"
    assert home in ids((await notion.search())["results"])


async def test_users(notion: AsyncClient, sandbox: Sandbox) -> None:
    """The integration knows itself, and who edits."""
    me = await notion.users.me()
    assert (me["type"], me["bot"]["owner"]) == ("bot", {"type": "workspace", "workspace": True})
    assert (await notion.users.retrieve(sandbox.workspace.person_id))["type"] == "person"
    assert len((await notion.users.list())["results"]) == 2


# Doors, ids, errors


async def test_headers(http: httpx.AsyncClient, clock: DrivenClock) -> None:
    """Every answer has the sandbox's date and a request id, which its body repeats."""
    clock.advance(90)
    for path in ("/users/me", "/nowhere"):
        answer = await http.get(path)
        assert parsedate_to_datetime(answer.headers["date"]) == clock.now()
        assert answer.headers["x-notion-request-id"] == answer.json()["request_id"]
        assert answer.headers["content-type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Authorization": "Bearer other"}, 401, "unauthorized"),
        ({"Notion-Version": "2022-06-28"}, 400, "validation_error"),
    ],
)
async def test_bad_headers(http: httpx.AsyncClient, headers: dict[str, str], status: int, code: str) -> None:
    """A wrong token is a 401, a version that is not served a 400."""
    answer = await http.get("/users/me", headers=headers)
    assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (status, status, code)


async def test_version_is_mandatory(base_url: str) -> None:
    """Without the version header: 400 missing_version."""
    async with httpx.AsyncClient(headers={"Authorization": "Bearer ntn_sandbox"}) as client:
        answer = await client.get(f"{base_url}/v1/users/me")
    assert (answer.status_code, answer.json()["code"]) == (400, "missing_version")


async def test_revoked_token(sandbox: Sandbox, notion: AsyncClient) -> None:
    """A revoked token is refused until it is restored."""
    sandbox.workspace.revoke_token()
    error = await refusal(notion.users.me())
    assert (error.status, error.code) == (401, "unauthorized")
    sandbox.workspace.restore_token()
    assert (await notion.users.me())["object"] == "user"


async def test_ids_dashed_or_not(sandbox: Sandbox, notion: AsyncClient) -> None:
    """Both spellings of an id mean the same; answers are dashed."""
    home, database, source = site(sandbox)
    for ask, object_id in (
        (notion.pages.retrieve, home),
        (notion.databases.retrieve, database),
        (notion.data_sources.retrieve, source),
        (notion.blocks.retrieve, home),
    ):
        assert (await ask(object_id.replace("-", "").upper()))["id"] == object_id


async def test_what_is_no_uuid(notion: AsyncClient) -> None:
    """The message is the recorded one, also for a string that only looks like a UUID."""
    error = await refusal(notion.pages.retrieve("12345678-1234-1234-1234-123456789abc"))
    assert (error.status, str(error)) == (
        400,
        "path failed validation: path.page_id should be a valid uuid, instead was "
        '`"12345678-1234-1234-1234-123456789abc"`.',
    )


async def test_unknown_ids(notion: AsyncClient) -> None:
    """The message is the recorded one and names the integration."""
    missing = "7855b161-f63e-4683-b7c7-8ca6e97ee266"
    for ask, kind in (
        (notion.pages.retrieve, "page"),
        (notion.databases.retrieve, "database"),
        (notion.data_sources.retrieve, "data_source"),
        (notion.blocks.retrieve, "block"),
        (notion.blocks.children.list, "block"),
        (notion.data_sources.query, "data_source"),
    ):
        error = await refusal(ask(missing))
        assert (error.status, error.code) == (404, "object_not_found")
        assert str(error).startswith(
            f"Could not find {kind} with ID: {missing}. Make sure the relevant pages"
        )
        assert error.additional_data is not None
        assert list(error.additional_data) == ["integration_id"]


async def test_wrong_kinds_of_id(sandbox: Sandbox, notion: AsyncClient) -> None:
    """Databases, data sources and pages are not interchangeable; by habit the refusal is a 400."""
    home, database, source = site(sandbox)
    for asked in (
        notion.databases.retrieve(source),
        notion.databases.retrieve(home),
        notion.data_sources.retrieve(database),
        notion.data_sources.query(database),
        notion.pages.retrieve(database),
        notion.pages.retrieve(source),
        notion.blocks.retrieve(source),
    ):
        assert (await refusal(asked)).status == 404
    sandbox.habits.wrong_kind = "validation_error"
    assert "is a database, not a page" in str(await refusal(notion.pages.retrieve(database)))
    assert "is a page, not a database" in str(await refusal(notion.databases.retrieve(home)))


async def test_unknown_urls(http: httpx.AsyncClient) -> None:
    """A path or method that is not served is a 400, as is a body that is no JSON."""
    assert (await http.get("/nowhere")).json()["code"] == "invalid_request_url"
    assert (await http.delete("/search")).json()["code"] == "invalid_request_url"
    assert (await http.post("/search", content=b"{")).json()["code"] == "invalid_json"


async def test_requests_are_recorded(sandbox: Sandbox, notion: AsyncClient, clock: DrivenClock) -> None:
    """What came, what was answered and when can be read afterwards."""
    _, _, source = site(sandbox)
    clock.advance(5)
    await notion.data_sources.query(source, page_size=7)
    await refusal(notion.pages.retrieve("7855b161-f63e-4683-b7c7-8ca6e97ee266"))
    first, second = sandbox.requests
    assert (first.method, first.path, first.body) == (
        "POST",
        f"/data_sources/{source}/query",
        {"page_size": 7},
    )
    assert (first.status, second.status, first.at) == (200, 404, 5.0)
    assert sandbox.count("POST", "/query") == 1


async def test_watchers_edit_between_requests(sandbox: Sandbox, notion: AsyncClient) -> None:
    """An edit made when a request comes is in its answer; the answer waits for a watcher that takes time."""
    home = sandbox.workspace.create_page(None, "Before")
    release = asyncio.Event()

    async def rename(method: str, path: str) -> None:
        await release.wait()
        sandbox.workspace.set_title(home, f"{method} {path.split('/')[1]}")

    sandbox.watchers.append(rename)
    asking = asyncio.ensure_future(notion.pages.retrieve(home))
    await asyncio.sleep(0.02)
    assert not asking.done()
    release.set()
    assert title_of(await asking) == "GET pages"
