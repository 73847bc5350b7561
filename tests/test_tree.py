"""A page is read whole or not at all, whatever its blocks, its listings and Notion do."""

import json
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from daemon.clock import DrivenClock
from daemon.demo import Sandbox
from daemon.demo import blocks as b
from daemon.demo.wire import Json
from daemon.ledger import work
from daemon.notion.api import NotionApi
from daemon.notion.errors import NotionError, NotionNotFound
from daemon.notion.limiter import Lane
from daemon.notion.tree import DEEPEST, Tree, TreeError, read_tree
from tests.support.world import OLD, World, a_world, texts

pytest_plugins = ["tests.support.sandbox_fixtures"]


@asynccontextmanager
async def door(sandbox: Sandbox, base_url: str) -> AsyncIterator[NotionApi]:
    """The daemon's door to the sandbox."""
    api = NotionApi(
        token="ntn_sandbox",
        base_url=base_url,
        version="2026-03-11",
        requests_per_minute=100_000,
        clock=sandbox.clock,
        rng=random.Random(1),
    )
    try:
        yield api
    finally:
        await api.close()


@pytest.fixture
async def api(sandbox: Sandbox, base_url: str) -> AsyncIterator[NotionApi]:
    """The daemon's door to the sandbox, open for a test."""
    async with door(sandbox, base_url) as opened:
        yield opened


async def raw_tree(http: httpx.AsyncClient, container: str) -> list[Json]:
    """A page's blocks, read one by one with nothing but HTTP."""
    found: list[Json] = []
    cursor: str | None = None
    while True:
        query = {"page_size": 100} | ({"start_cursor": cursor} if cursor else {})
        answer = (await http.get(f"/blocks/{container}/children", params=query)).json()
        found += answer["results"]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
    for block in found:
        if block["has_children"] and block["type"] not in ("child_page", "child_database"):
            block["__children"] = await raw_tree(http, block["id"])
    return found


def rich_page(sandbox: Sandbox) -> str:
    """A page of 116 blocks with containers of several kinds, three levels deep, in a second listing page too."""
    inner = [b.toggle("deep", [b.paragraph("deeper")]), b.paragraph("plain")]
    return sandbox.workspace.create_page(
        None,
        "Page",
        blocks=[
            b.heading(1, "Start"),
            b.columns([b.paragraph("left"), *inner], [b.callout("right", [b.to_do("done", checked=True)])]),
            *[b.paragraph(f"line {number}") for number in range(110)],
            b.table([["a", "b"], ["c", "d"]]),
            b.unsupported("form"),
            b.image(hosted="photo.jpg"),
            b.quote("last", [b.bulleted("end")]),
        ],
    )


def containers(blocks: list[Json]) -> list[str]:
    """The ids of the blocks whose children were read."""
    found = []
    for block in blocks:
        if "__children" in block:
            found += [block["id"], *containers(block["__children"])]
    return found


def listings(sandbox: Sandbox, container: str) -> int:
    """How many pages of results of a container's listing were asked for."""
    return sandbox.count("GET", f"/blocks/{container}/children")


# What is there


async def test_every_block_as_notion_returns_it(
    sandbox: Sandbox, api: NotionApi, http: httpx.AsyncClient
) -> None:
    """The tree holds every block, in order, field for field, children under `__children`, and no request id."""
    sandbox.habits.rotating_urls = False
    page = rich_page(sandbox)
    tree = await read_tree(api, page, Lane.READ)
    assert tree.blocks == await raw_tree(http, page)
    assert len(tree.blocks) == 116
    assert "request_id" not in str(tree.blocks)
    assert list(texts(tree.blocks[1]["__children"][:1])) == ["", "left", "deep", "deeper", "plain"]


async def test_an_empty_page_costs_one_request(sandbox: Sandbox, api: NotionApi) -> None:
    """A page without blocks is an empty tree."""
    page = sandbox.workspace.create_page(None, "Empty")
    assert await read_tree(api, page, Lane.READ) == Tree([], {}, 1)


async def test_no_container_is_listed_twice(sandbox: Sandbox, api: NotionApi) -> None:
    """Reading costs one request per hundred blocks of each container, and says so."""
    page = rich_page(sandbox)
    tree = await read_tree(api, page, Lane.READ)
    assert listings(sandbox, page) == 2
    assert [listings(sandbox, container) for container in containers(tree.blocks)] == [1] * 7
    assert tree.requests == len(sandbox.requests) == 9


async def test_250_blocks_in_a_row(sandbox: Sandbox, api: NotionApi) -> None:
    """A container longer than two pages of results is read to its end, in order."""
    page = sandbox.workspace.create_page(None, "Long", blocks=[b.paragraph(str(n)) for n in range(250)])
    tree = await read_tree(api, page, Lane.READ)
    assert list(texts(tree.blocks)) == [str(n) for n in range(250)]


def nested(depth: int) -> Json:
    """Toggles inside toggles."""
    block = b.paragraph("bottom")
    for level in range(depth, 0, -1):
        block = b.toggle(f"level {level}", [block])
    return block


async def test_nesting_12_deep(sandbox: Sandbox, api: NotionApi) -> None:
    """Depth does not matter."""
    page = sandbox.workspace.create_page(None, "Deep", blocks=[nested(12)])
    tree = await read_tree(api, page, Lane.READ)
    assert list(texts(tree.blocks)) == [*(f"level {n}" for n in range(1, 13)), "bottom"]


async def test_nesting_beyond_any_editor_fails(sandbox: Sandbox, api: NotionApi) -> None:
    """What never ends is not read for ever: the error names the block and what to do."""
    page = sandbox.workspace.create_page(None, "Abyss", blocks=[nested(DEEPEST + 2)])
    with pytest.raises(TreeError, match="deep at block") as caught:
        await read_tree(api, page, Lane.READ)
    assert "Flatten" in caught.value.hint


@pytest.mark.parametrize("levels_up", [0, 1, 2])
async def test_a_block_inside_itself(sandbox: Sandbox, api: NotionApi, levels_up: int) -> None:
    """A block that shows up below itself is not opened again; what stands beside it is read."""
    block = b.toggle("one", [b.toggle("two", [b.toggle("three", [b.paragraph("end")])])])
    page = sandbox.workspace.create_page(None, "Loop", blocks=[block])
    chain = [sandbox.workspace.children(page)[0]]
    for _ in range(2):
        chain.append(sandbox.workspace.children(chain[-1])[0])
    sandbox.workspace.add_cycle(chain[2], chain[2 - levels_up])
    tree = await read_tree(api, page, Lane.READ)
    again = ["three", "two", "one"][levels_up]
    assert list(texts(tree.blocks)) == ["one", "two", "three", "end", again]
    assert tree.requests == 4


async def test_pointers_are_never_opened(sandbox: Sandbox, api: NotionApi) -> None:
    """Child pages, child databases and links to pages stay as Notion returns them, nothing is asked about them."""
    workspace = sandbox.workspace
    page = workspace.create_page(None, "Page")
    child = workspace.create_page(page, "Child", blocks=[b.paragraph("inside")])
    database, source = workspace.create_database(page, "Rows", {})
    workspace.add_row(source, "Row")
    workspace.append_blocks(page, [b.link_to_page(child)])
    tree = await read_tree(api, page, Lane.READ)
    assert [block["type"] for block in tree.blocks] == ["child_page", "child_database", "link_to_page"]
    assert [block["id"] for block in tree.blocks[:2]] == [child, database]
    assert tree.blocks[0]["has_children"] and not containers(tree.blocks)
    assert [request.path for request in sandbox.requests] == [f"/blocks/{page}/children"]


async def test_refused_children_make_a_leaf(sandbox: Sandbox, api: NotionApi) -> None:
    """A block whose children Notion says it does not support is a leaf; the rest is read."""
    sandbox.habits.refuse_children = True
    blocks = [b.unsupported(), b.toggle("more", [b.unsupported(), b.paragraph("text")])]
    page = sandbox.workspace.create_page(None, "Page", blocks=blocks)
    tree = await read_tree(api, page, Lane.READ)
    assert tree.blocks[0]["has_children"] and "__children" not in tree.blocks[0]
    assert [child["type"] for child in tree.blocks[1]["__children"]] == ["unsupported", "paragraph"]


async def test_partial_blocks_are_completed(
    sandbox: Sandbox, api: NotionApi, http: httpx.AsyncClient
) -> None:
    """A block that a listing shows as a bare id is asked for, so that its content and children are there."""
    page = sandbox.workspace.create_page(
        None, "Page", blocks=[b.toggle(f"t{n}", [b.paragraph(f"p{n}")]) for n in range(12)]
    )
    whole = await raw_tree(http, page)
    sandbox.habits.partial_objects = 0.5
    tree = await read_tree(api, page, Lane.READ)
    assert tree.blocks == whole
    assert sandbox.count("GET", "/blocks/") > 13 * 2


# Synced blocks


def two_homes(sandbox: Sandbox) -> tuple[str, str, str]:
    """A page with a synced original (a toggle in it), a page with two copies of it: (first, original, second)."""
    workspace = sandbox.workspace
    first = workspace.create_page(
        None, "First", blocks=[b.synced_original([b.toggle("hours", [b.paragraph("10 to 18")])])]
    )
    original = workspace.children(first)[0]
    second = workspace.create_page(
        None,
        "Second",
        blocks=[b.synced_copy(original), b.toggle("below", [b.synced_copy(original)])],
    )
    return first, original, second


async def test_copies_carry_their_originals_children(sandbox: Sandbox, api: NotionApi) -> None:
    """Two copies on one page show the same children, each its own; the original's page is unchanged by them."""
    first, original, second = two_homes(sandbox)
    at_home = await read_tree(api, first, Lane.READ)
    away = await read_tree(api, second, Lane.READ)
    shown = [away.blocks[0], away.blocks[1]["__children"][0]]
    for copy in shown:
        assert copy["synced_block"]["synced_from"]["block_id"] == original
        assert copy["__children"] == at_home.blocks[0]["__children"]
        assert "__synced_unshared" not in copy
    assert list(texts(shown[0]["__children"])) == ["hours", "10 to 18"]
    assert shown[0]["__children"] is not shown[1]["__children"]
    assert (at_home.copies, away.copies) == ({}, {original: False})


@pytest.mark.parametrize("trouble", ["unshared", "forbidden"])
async def test_an_original_that_cannot_be_read(sandbox: Sandbox, api: NotionApi, trouble: str) -> None:
    """The copy says so and has no children; everything else on the page is read."""
    _, original, second = two_homes(sandbox)
    if trouble == "unshared":
        sandbox.workspace.unshare(original)
    else:
        sandbox.faults.add(403, path=f"/blocks/{original}/children", times=9)
    tree = await read_tree(api, second, Lane.READ)
    assert tree.copies == {original: True}
    assert tree.blocks[0]["__synced_unshared"] is True and "__children" not in tree.blocks[0]
    assert tree.blocks[1]["__children"][0]["__synced_unshared"] is True


async def test_an_outage_does_not_make_an_original_unshared(sandbox: Sandbox, api: NotionApi) -> None:
    """Only Notion saying no is a reason to show a copy without its children."""
    _, original, second = two_homes(sandbox)
    sandbox.faults.add(500, path=f"/blocks/{original}/children", times=999)
    with pytest.raises(NotionError):
        await read_tree(api, second, Lane.READ)


async def test_copies_that_show_each_other_end(sandbox: Sandbox, api: NotionApi) -> None:
    """Originals that hold copies of each other are opened once on the way down."""
    workspace = sandbox.workspace
    first = workspace.create_page(None, "First", blocks=[b.synced_original([b.paragraph("A")])])
    second = workspace.create_page(None, "Second", blocks=[b.synced_original([b.paragraph("B")])])
    one, two = workspace.children(first)[0], workspace.children(second)[0]
    workspace.append_blocks(one, [b.synced_copy(two)])
    workspace.append_blocks(two, [b.synced_copy(one)])
    tree = await read_tree(api, first, Lane.READ)
    assert list(texts(tree.blocks)) == ["", "A", "", "B", ""]


# Blocks that come and go


def on_listing(sandbox: Sandbox, container: str, act: Callable[[], None]) -> None:
    """Do something, once, when a container's children are asked for."""
    done: list[bool] = []

    def watch(_method: str, path: str) -> None:
        if path == f"/blocks/{container}/children" and not done:
            done.append(True)
            act()

    sandbox.watchers.append(watch)


@pytest.mark.parametrize("beside", [0, 3])
async def test_a_block_deleted_under_our_hands(sandbox: Sandbox, api: NotionApi, beside: int) -> None:
    """Its parent is listed once more, does not show it any more, and the page is whole without it."""
    others = [b.toggle(f"t{n}", [b.paragraph(f"p{n}")]) for n in range(beside)]
    page = sandbox.workspace.create_page(None, "Page", blocks=[b.toggle("gone", [b.paragraph("x")]), *others])
    doomed = sandbox.workspace.children(page)[0]
    on_listing(sandbox, doomed, lambda: sandbox.workspace.purge(doomed))
    tree = await read_tree(api, page, Lane.READ)
    assert list(texts(tree.blocks)) == [text for n in range(beside) for text in (f"t{n}", f"p{n}")]
    assert listings(sandbox, page) == 2


async def test_a_block_deleted_inside_a_synced_original(sandbox: Sandbox, api: NotionApi) -> None:
    """The original is listed once more, for both of its copies."""
    _, original, second = two_homes(sandbox)
    toggle = sandbox.workspace.children(original)[0]
    on_listing(sandbox, toggle, lambda: sandbox.workspace.purge(toggle))
    tree = await read_tree(api, second, Lane.READ)
    assert tree.copies == {original: False}
    assert list(texts(tree.blocks)) == ["", "below", ""]


@pytest.mark.parametrize("beside", [0, 3])
async def test_a_block_that_is_listed_but_answers_404(sandbox: Sandbox, api: NotionApi, beside: int) -> None:
    """Still there in the second listing: the page fails, and the error names the block."""
    others = [b.toggle(f"t{n}", [b.paragraph(f"p{n}")]) for n in range(beside)]
    page = sandbox.workspace.create_page(None, "Page", blocks=[b.toggle("odd", [b.paragraph("x")]), *others])
    odd = sandbox.workspace.children(page)[0]
    sandbox.faults.add(404, path=f"/blocks/{odd}/children", times=99)
    with pytest.raises(TreeError, match=odd):
        await read_tree(api, page, Lane.READ)
    assert listings(sandbox, page) == 2


async def test_deep_vanishing_does_not_reread_the_page(sandbox: Sandbox, api: NotionApi) -> None:
    """Only the vanished block's own parent is listed again."""
    page = sandbox.workspace.create_page(None, "Page", blocks=[nested(4)])
    chain = [page]
    for _ in range(4):
        chain.append(sandbox.workspace.children(chain[-1])[0])
    on_listing(sandbox, chain[4], lambda: sandbox.workspace.purge(chain[4]))
    tree = await read_tree(api, page, Lane.READ)
    assert list(texts(tree.blocks)) == ["level 1", "level 2", "level 3"]
    assert [listings(sandbox, container) for container in chain] == [1, 1, 1, 2, 1]


async def test_a_page_that_crumbles_while_it_is_read(sandbox: Sandbox, api: NotionApi) -> None:
    """One block after the other vanishing ends in an error that says so, not in an endless read."""
    page = sandbox.workspace.create_page(
        None, "Page", blocks=[b.toggle(f"t{n}", [b.paragraph("x")]) for n in range(5)]
    )

    def watch(_method: str, path: str) -> None:
        block = path.split("/")[2]
        if block != page and block in sandbox.workspace.children(page)[:1]:
            sandbox.workspace.purge(block)

    sandbox.watchers.append(watch)
    with pytest.raises(TreeError, match="kept vanishing") as caught:
        await read_tree(api, page, Lane.READ)
    assert caught.value.hint and listings(sandbox, page) == 3


async def test_the_page_itself_is_gone(sandbox: Sandbox, api: NotionApi) -> None:
    """A 404 for the page's own listing is not a vanished block."""
    page = sandbox.workspace.create_page(None, "Page")
    sandbox.workspace.purge(page)
    with pytest.raises(NotionNotFound):
        await read_tree(api, page, Lane.READ)


# Failures


@pytest.mark.parametrize("trouble", [{"status": 500}, {"status": 502}, {"status": 400}, {"cut": True}])
async def test_any_request_that_fails_for_good_fails_the_page(
    sandbox: Sandbox, api: NotionApi, trouble: dict[str, Any]
) -> None:
    """Whichever of a page's requests never gets an answer, nothing comes out but an error."""
    page = rich_page(sandbox)
    whole = await read_tree(api, page, Lane.READ)
    for number in range(whole.requests):
        sandbox.faults.add(**trouble, path="/children", after=number, times=999)
        with pytest.raises(NotionError):
            await read_tree(api, page, Lane.READ)
        sandbox.faults.clear()
    assert containers((await read_tree(api, page, Lane.READ)).blocks) == containers(whole.blocks)


async def test_passing_failures_cost_nothing_but_time(
    sandbox: Sandbox, api: NotionApi, clock: DrivenClock
) -> None:
    """A third of all requests failing now and then leaves the page whole."""
    page = rich_page(sandbox)
    whole = await read_tree(api, page, Lane.READ)
    sandbox.faults.random(0.3, [500, 502, 504, "cut", "reset"], seed=3)
    sandbox.habits.rotating_urls = False
    again = await read_tree(api, page, Lane.READ)
    sandbox.faults.clear()
    assert containers(again.blocks) == containers(whole.blocks)
    assert list(texts(again.blocks)) == list(texts(whole.blocks))
    assert clock.monotonic() > 0


def dying_cursor(sandbox: Sandbox, act: Callable[[], None] = lambda: None) -> None:
    """Let the first continuation of a listing be refused, after doing something."""
    asked: list[str] = []

    def watch(_method: str, path: str) -> None:
        asked.append(path)
        sandbox.habits.cursor_dies = float(len(asked) == 2)
        if len(asked) == 2:
            act()

    sandbox.watchers.append(watch)


async def test_a_dying_cursor_leaves_no_hole(sandbox: Sandbox, api: NotionApi) -> None:
    """Where a listing has to begin again, every block is there once, in order."""
    page = sandbox.workspace.create_page(None, "Long", blocks=[b.paragraph(str(n)) for n in range(250)])
    dying_cursor(sandbox)
    tree = await read_tree(api, page, Lane.READ)
    assert list(texts(tree.blocks)) == [str(n) for n in range(250)]
    assert [request.status for request in sandbox.requests] == [200, 400, 200, 200, 200]


async def test_blocks_that_move_while_a_listing_begins_again(sandbox: Sandbox, api: NotionApi) -> None:
    """What counts is the listing that came to its end: its order, and nothing that it does not show."""
    workspace = sandbox.workspace
    page = workspace.create_page(None, "Long", blocks=[b.paragraph(str(n)) for n in range(150)])

    def edit() -> None:
        workspace.purge(workspace.children(page)[0])
        workspace.insert_first(page, [b.paragraph("new")])

    dying_cursor(sandbox, edit)
    tree = await read_tree(api, page, Lane.READ)
    assert list(texts(tree.blocks)) == ["new", *(str(n) for n in range(1, 150))]


async def test_repeating_cursors_fail_the_page(sandbox: Sandbox, api: NotionApi) -> None:
    """A listing that never ends is given up, not taken for the whole."""
    page = sandbox.workspace.create_page(None, "Long", blocks=[b.paragraph(str(n)) for n in range(350)])
    sandbox.habits.cursor_repeats = True
    with pytest.raises(NotionError, match="does not come to an end"):
        await read_tree(api, page, Lane.READ)


@pytest.mark.parametrize("is_gone", [True, False])
async def test_partial_blocks_that_answer_404(sandbox: Sandbox, api: NotionApi, is_gone: bool) -> None:
    """A bare id that cannot be completed is a block that vanished: listed once more, then gone or a failure."""
    page = sandbox.workspace.create_page(None, "Page", blocks=[b.paragraph("x"), b.paragraph("y")])
    block = sandbox.workspace.children(page)[0]
    sandbox.habits.partial_objects = 1.0

    def watch(_method: str, path: str) -> None:
        if path == f"/blocks/{block}":
            sandbox.workspace.purge(block)

    if is_gone:
        sandbox.watchers.append(watch)
        tree = await read_tree(api, page, Lane.READ)
        assert list(texts(tree.blocks)) == ["y"]
    else:
        sandbox.faults.add(404, path=f"/blocks/{block}$", times=99)
        with pytest.raises(TreeError, match=block):
            await read_tree(api, page, Lane.READ)
    assert listings(sandbox, page) == 2


# What becomes of a page that fails


PROPERTIES: dict[str, Any] = {
    "slug": "rich_text",
    "Related": "relation",
    "Notes": "rich_text",
    "Team": "people",
}


def row_with_depth(world: World, source: str) -> tuple[str, str]:
    """A row whose reading takes six requests, and the block that lies deepest in it: (page, block)."""
    others = [world.workspace.add_row(source, f"Other {n}", {"slug": f"o{n}"}) for n in range(30)]
    blocks = [b.toggle("outer", [b.toggle("inner", [b.paragraph("old words")])]), b.paragraph("end")]
    page = world.workspace.add_row(source, "Row", {"slug": "row", "Related": others}, blocks=blocks)
    inner = world.workspace.children(world.workspace.children(page)[0])[0]
    return page, world.workspace.children(inner)[0]


async def test_a_page_that_cannot_be_read_keeps_its_last_good_version(tmp_path: Path) -> None:
    """Whichever request of an edited page fails for good, its key stays as it is, stamp and all; the rest goes on."""
    async with a_world(tmp_path) as world:
        source = world.add_source(schema=PROPERTIES)
        page, block = row_with_depth(world, source)
        neighbour = world.workspace.add_row(source, "Neighbour", {"slug": "neighbour"})
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        async with world.counted() as asked:
            world.workspace.update_text(block, "warm up")
            await world.settle()
        paths = {request.path for request in asked if page in request.path or "/children" in request.path}
        assert len(paths) == 5
        for number, path in enumerate(sorted(paths)):
            before = await world.kv.get("page:row")
            world.workspace.update_text(block, f"words {number}")
            world.workspace.set_title(neighbour, f"Neighbour {number}")
            world.sandbox.faults.add(500, path=f"^{re.escape(path)}$", times=999)
            world.clock.advance(100)  # young enough that no listed body will do
            await world.settle()
            assert await world.kv.get("page:row") == before
            assert (await world.value("page:neighbour"))["meta"]["title"] == f"Neighbour {number}"
            world.sandbox.faults.clear()
            world.clock.advance(OLD)
            await world.settle()
            value = await world.value("page:row")
            assert list(texts(value["blocks"])) == ["outer", "inner", f"words {number}", "end"]
            assert value["meta"]["lastEdited"] != json.loads(before or "")["meta"]["lastEdited"]


async def test_a_failing_page_is_named_with_its_reason_and_tried_again_later(tmp_path: Path) -> None:
    """The ledger says which page fails and why; retries come further and further apart, an edit is tried at once."""
    async with a_world(tmp_path) as world:
        page, block = row_with_depth(world, world.add_source(schema=PROPERTIES))
        world.clock.advance(OLD)
        await world.start()
        world.sandbox.faults.add(400, path=f"/blocks/{page}/children", times=999)
        await world.catch_up()
        assert "page:row" not in await world.keys()
        waits = []
        for _ in range(4):
            (row,) = await world.ledger.call(work.troubled)
            assert row["id"] == page and "400" in row["reason"]
            waits.append(row["nextTryAt"] - world.api.notion_now())
            world.clock.advance(waits[-1] + 1)
            await world.catch_up()
        assert waits == pytest.approx([30, 60, 120, 240], abs=2)
        world.sandbox.faults.clear()
        world.workspace.update_text(block, "new words")
        await world.catch_up()
        assert "new words" in texts((await world.value("page:row"))["blocks"])
        assert await world.ledger.call(work.troubled) == []


async def test_long_properties_are_completed(tmp_path: Path) -> None:
    """More than 25 relations, people or mentions reach the KV whole, though a page object holds 25 of them."""
    async with a_world(tmp_path) as world:
        source = world.add_source(schema=PROPERTIES)
        others = [world.workspace.add_row(source, f"Other {n}", {"slug": f"o{n}"}) for n in range(60)]
        people = [world.workspace.add_person(f"P{n}", f"p{n}@example.com") for n in range(40)]
        mentions = [b.mention_page(other) for other in others[:50]]
        title = [part for other in others[:30] for part in (b.mention_page(other), b.text(", "))]
        page = world.workspace.add_row(
            source, title, {"slug": "long", "Related": others, "Notes": mentions, "Team": people}
        )
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        meta = (await world.value("page:long"))["meta"]
        assert meta["notionId"] == page
        assert meta["properties"]["Related"] == others
        assert meta["properties"]["Notes"] == "".join(f"Other {n}" for n in range(50))
        assert [person["name"] for person in meta["properties"]["Team"]] == [f"P{n}" for n in range(40)]
        assert meta["title"] == "".join(f"Other {n}, " for n in range(30))
        index = (await world.value("pages:index"))["items"]
        assert next(item for item in index if item["slug"] == "long")["title"] == meta["title"]
