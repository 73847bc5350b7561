"""Queries, search, block lists and property lists of the sandbox: order, filters, pages, speed."""

import time

import httpx
import pytest
from notion_client import AsyncClient

from daemon.clock import DrivenClock
from daemon.demo import Sandbox
from daemon.demo import blocks as b
from tests.support.sandbox_client import Json, ids, refusal, site, title_of, walk

pytest_plugins = ["tests.support.sandbox_fixtures"]


# Listings


async def test_query_walks_in_order(sandbox: Sandbox, notion: AsyncClient, clock: DrivenClock) -> None:
    """Sorted by stamp either way, in pages of the size asked for, each row once; cursors name their session."""
    home, _, source = site(sandbox)
    rows = []
    for number in range(25):
        clock.advance(1)
        rows.append(sandbox.workspace.add_row(source, f"Post {number}"))
    for direction, expected in (("ascending", rows), ("descending", rows[::-1])):
        sorts = [{"timestamp": "last_edited_time", "direction": direction}]
        assert ids(await walk(notion.data_sources.query, source, sorts=sorts, page_size=10)) == expected
    answer = await notion.data_sources.query(source, page_size=10, sorts=sorts)
    assert answer["next_cursor"].startswith("s:")
    assert answer["next_cursor"].endswith(rows[14])
    assert list(answer) == [
        "object",
        "results",
        "next_cursor",
        "has_more",
        "type",
        "page_or_data_source",
        "request_id",
    ]
    assert (answer["type"], home in ids(answer["results"])) == ("page_or_data_source", False)


async def test_query_sorts_by_property(sandbox: Sandbox, notion: AsyncClient) -> None:
    """Sorting by columns: words, then numbers backwards, empty ones last; an unknown column is a 400."""
    workspace = sandbox.workspace
    home = workspace.create_page(None, "Home")
    _, source = workspace.create_database(home, "Posts", {"kind": "select", "rank": "number"})
    for title, kind, rank in (("d", None, 1), ("c", "x", 1), ("b", "x", 2), ("a", "y", 0)):
        workspace.add_row(source, title, {"kind": kind, "rank": rank})
    sorts = [{"property": "kind"}, {"property": "rank", "direction": "descending"}]
    found = await walk(notion.data_sources.query, source, sorts=sorts, page_size=1)
    assert [title_of(page) for page in found] == ["b", "c", "a", "d"]
    assert (await refusal(notion.data_sources.query(source, sorts=[{"property": "no"}]))).status == 400


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"on_or_after": "2026-01-05T09:02:00Z"}, [2, 3]),
        ({"after": "2026-01-05T10:02:00+01:00"}, [3]),
        ({"before": "2026-01-05T09:02:00.000Z"}, [0, 1]),
        ({"on_or_before": "2026-01-05T09:02:00.000Z"}, [0, 1, 2]),
        ({"equals": "2026-01-05T09:01:00"}, [1]),
        ({"equals": "2026-01-05"}, [0, 1, 2, 3]),
        ({"after": "2026-01-05"}, []),
        ({"on_or_after": "2026-01-05"}, [0, 1, 2, 3]),
    ],
)
@pytest.mark.parametrize("name", ["last_edited_time", "created_time"])
async def test_timestamp_filters(
    sandbox: Sandbox, notion: AsyncClient, clock: DrivenClock, name: str, condition: Json, expected: list[int]
) -> None:
    """Each operator, with and without a zone or a time of day, on both stamps."""
    _, _, source = site(sandbox)
    for number in range(4):
        sandbox.workspace.add_row(source, str(number))
        clock.advance(60)
    found = await notion.data_sources.query(
        source, filter={"timestamp": name, name: condition}, sorts=[{"timestamp": name}]
    )
    assert [int(title_of(page)) for page in found["results"]] == expected


async def test_compound_filters(sandbox: Sandbox, notion: AsyncClient, clock: DrivenClock) -> None:
    """`and` and `or`, nested two levels at most; conditions on properties are refused in clear words."""
    _, _, source = site(sandbox)
    for number in range(5):
        sandbox.workspace.add_row(source, str(number))
        clock.advance(60)

    def edited(**condition: str) -> Json:
        return {"timestamp": "last_edited_time", "last_edited_time": condition}

    middle = {"and": [edited(after="2026-01-05T09:00:00Z"), edited(before="2026-01-05T09:03:00Z")]}
    either = {"or": [middle, edited(equals="2026-01-05T09:04:00Z")]}
    found = await walk(notion.data_sources.query, source, filter=either)
    assert sorted(title_of(page) for page in found) == ["1", "2", "4"]
    for refused in (
        {"and": [{"or": [{"and": [edited(before="2026-01-05")]}]}]},
        {"property": "slug", "rich_text": {"equals": "x"}},
        edited(before="yesterday"),
        {"timestamp": "other", "other": {}},
    ):
        error = await refusal(notion.data_sources.query(source, filter=refused))
        assert (error.status, error.code) == (400, "validation_error")
    assert "timestamp filters" in str(
        await refusal(notion.data_sources.query(source, filter={"property": "slug", "rich_text": {}}))
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {"in_trash": False},
            "body failed validation: body.in_trash should be not present, instead was `false`.",
        ),
        (
            {"archived": True},
            "body failed validation: body.archived should be not present, instead was `true`.",
        ),
        ({"page_size": 101}, "body failed validation: body.page_size should be ≤ `100`, instead was `101`."),
        ({"start_cursor": "x"}, "The start_cursor provided is invalid: x"),
    ],
)
async def test_query_bodies_that_are_refused(
    sandbox: Sandbox, http: httpx.AsyncClient, body: Json, message: str
) -> None:
    """What the real thing refuses in a query's body is refused in its words."""
    _, _, source = site(sandbox)
    answer = await http.post(f"/data_sources/{source}/query", json=body)
    assert (answer.status_code, answer.json()["message"]) == (400, message)


async def test_query_shows_chosen_properties(sandbox: Sandbox, notion: AsyncClient) -> None:
    """`filter_properties` leaves only the named columns, in queries and in a page."""
    _, _, source = site(sandbox, 2)
    found = await notion.data_sources.query(source, filter_properties=["title"])
    assert [list(page["properties"]) for page in found["results"]] == [["Name"], ["Name"]]
    page = await notion.pages.retrieve(sandbox.workspace.rows(source)[0], filter_properties=["title"])
    assert list(page["properties"]) == ["Name"]


async def test_query_knows_trash_archive_and_result_type(
    sandbox: Sandbox, notion: AsyncClient, http: httpx.AsyncClient
) -> None:
    """Trashed rows are left out and come back; archived ones are the other set; no row is a data source."""
    _, _, source = site(sandbox, 3)
    first, second, third = sandbox.workspace.rows(source)
    sandbox.workspace.trash(first)
    sandbox.workspace.archive(second)
    assert ids((await notion.data_sources.query(source))["results"]) == [third]
    archived = await http.post(f"/data_sources/{source}/query", json={"is_archived": True})
    assert ids(archived.json()["results"]) == [second]
    assert (await notion.pages.retrieve(first))["in_trash"] is True
    assert (await notion.pages.retrieve(second))["is_archived"] is True
    sandbox.workspace.restore(first)
    assert set(ids((await notion.data_sources.query(source))["results"])) == {first, third}
    assert (await notion.data_sources.query(source, result_type="data_source"))["results"] == []


async def test_cursor_is_bound_to_its_query(sandbox: Sandbox, notion: AsyncClient) -> None:
    """A cursor of one query is no cursor of another."""
    _, _, source = site(sandbox, 5)
    cursor = (await notion.data_sources.query(source, page_size=2))["next_cursor"]
    sorts = [{"timestamp": "created_time"}]
    error = await refusal(notion.data_sources.query(source, page_size=2, start_cursor=cursor, sorts=sorts))
    assert str(error).startswith("The start_cursor provided is invalid")


async def test_search(sandbox: Sandbox, notion: AsyncClient, clock: DrivenClock) -> None:
    """Everything shared, newest edit first: pages, rows and data sources; by kind, title and trash."""
    home, _, source = site(sandbox, 1)
    row = sandbox.workspace.rows(source)[0]
    clock.advance(1)
    child = sandbox.workspace.create_page(home, "A child")
    clock.advance(1)
    trashed = sandbox.workspace.create_page(home, "Thrown away")
    sandbox.workspace.trash(trashed)
    sort: Json = {"timestamp": "last_edited_time", "direction": "descending"}
    found = await notion.search(sort=sort)
    assert ids(found["results"])[:2] == [home, child]
    assert set(ids(found["results"])) == {home, child, row, source}
    assert (found["type"], found["page_or_data_source"]) == ("page_or_data_source", {})

    def only(**wanted: object) -> Json:
        return {"property": "object", "value": "page", **wanted}

    assert set(ids(await walk(notion.search, filter=only(), page_size=1))) == {home, child, row}
    assert ids((await notion.search(filter=only(value="data_source")))["results"]) == [source]
    assert ids((await notion.search(filter=only(in_trash=True)))["results"]) == [trashed]
    assert ids((await notion.search(query="CHILD"))["results"]) == [child]
    upward = await notion.search(sort={**sort, "direction": "ascending"}, filter=only())
    assert upward["results"][-1]["id"] == home
    for refused in ({"timestamp": "created_time"}, {"direction": "up"}):
        assert (await refusal(notion.search(sort=refused))).status == 400


async def test_search_leaves_out_what_lies_below_trash(sandbox: Sandbox, notion: AsyncClient) -> None:
    """Pages below a trashed one are not found, although a GET still calls them live."""
    workspace = sandbox.workspace
    home = workspace.create_page(None, "Home")
    middle = workspace.create_page(home, "Middle")
    below = workspace.create_page(middle, "Below")
    workspace.trash(middle)
    assert ids((await notion.search())["results"]) == [home]
    assert (await notion.pages.retrieve(below))["in_trash"] is False


async def test_block_children_page_by_block_id(sandbox: Sandbox, notion: AsyncClient) -> None:
    """The cursor is the next block's id; one that is gone is refused."""
    home = sandbox.workspace.create_page(None, "Home", blocks=[b.paragraph(str(n)) for n in range(7)])
    expected = sandbox.workspace.children(home)
    answer = await notion.blocks.children.list(home, page_size=3)
    assert answer["next_cursor"] == expected[3]
    assert ids(await walk(notion.blocks.children.list, home, page_size=3)) == expected
    sandbox.workspace.delete_block(expected[3])
    refused = notion.blocks.children.list(home, page_size=3, start_cursor=expected[3])
    assert str(await refusal(refused)).startswith("The start_cursor provided is invalid")
    assert ids(await walk(notion.blocks.children.list, home)) == [*expected[:3], *expected[4:]]
    assert (await refusal(notion.blocks.children.list(home, page_size=0))).status == 400


async def test_properties_one_by_one(sandbox: Sandbox, notion: AsyncClient) -> None:
    """Long properties are cut to 25 references in page objects and paged whole by the property endpoint."""
    workspace = sandbox.workspace
    home = workspace.create_page(None, "Home")
    schema = {
        "related": "relation",
        "text": "rich_text",
        "who": "people",
        "sum": "rollup",
        "flag": "checkbox",
    }
    _, source = workspace.create_database(home, "Posts", schema)
    others = [workspace.add_row(source, f"Other {n}") for n in range(60)]
    row = workspace.add_row(source, "Row", {"related": others, "text": [b.mention_page(o) for o in others]})
    workspace.set_computed(row, "sum", 5)
    cells = (await notion.pages.retrieve(row))["properties"]
    assert (len(cells["related"]["relation"]), cells["related"]["has_more"]) == (25, True)
    assert len(cells["text"]["rich_text"]) == 25

    async def whole(name: str, size: int) -> list[Json]:
        return await walk(notion.pages.properties.retrieve, row, cells[name]["id"], page_size=size)

    assert [item["relation"]["id"] for item in await whole("related", 25)] == others
    assert [item["rich_text"]["plain_text"] for item in await whole("text", 100)][-1] == "Other 59"
    assert [item["title"]["plain_text"] for item in await whole("Name", 1)] == ["Row"]
    first = await notion.pages.properties.retrieve(row, cells["related"]["id"], page_size=10)
    assert first["property_item"]["next_url"].endswith(f"start_cursor={first['next_cursor']}")
    assert (first["type"], first["property_item"]["relation"]) == ("property_item", {})
    rollup = await notion.pages.properties.retrieve(row, cells["sum"]["id"])
    assert (rollup["results"], rollup["property_item"]["rollup"]["number"]) == ([], 5)
    flag = await notion.pages.properties.retrieve(row, cells["flag"]["id"])
    assert list(flag) == ["object", "type", "id", "checkbox", "request_id"]
    assert (await refusal(notion.pages.properties.retrieve(row, "none"))).status == 400


# Size


async def test_ten_thousand_rows_are_quick(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """A page of 100 bodies out of 10,000 rows costs milliseconds once the order is known."""
    _, _, source = site(sandbox, 10_000)
    body = {"sorts": [{"timestamp": "created_time", "direction": "ascending"}]}
    best = 1.0
    for _ in range(5):
        begun = time.perf_counter()
        answer = await http.post(f"/data_sources/{source}/query", json=body)
        best = min(best, time.perf_counter() - begun)
    assert len(answer.json()["results"]) == 100
    assert best < 0.05
