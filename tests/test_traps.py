"""The traps that Notion's API sets for whoever keeps a copy of it, each by its number in `tests/traps.py`.

Everything is real but the time: the daemon's parts talk over HTTP to a Notion in a box with the habit in question.
"""

import ast
import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from daemon import jsontext
from daemon.demo import blocks as b
from daemon.demo.habits import Habits
from daemon.ledger import links, work
from daemon.notion import api
from daemon.notion.errors import NotionBlocked
from daemon.sync import reader
from daemon.sync.plan import Priority
from daemon.sync.reading import stored_read
from tests.support.site import Site, listed, said, synced
from tests.support.world import OLD, World, a_world
from tests.traps import TRAPS

HERE = Path(__file__).parent
BLIND = 1.0
"""Search forgets every page: only queries and the sweep can tell."""
RUN_SECONDS = 600.0
"""A walk so long that a query that begins after it does not reach back to its beginning."""


@contextmanager
def on_request(world: World, number: int, path: str, happens: Callable[[], None]) -> Iterator[None]:
    """While the n-th request from now whose path holds `path` is being answered, something happens first."""
    seen = 0

    def watch(_: str, asked: str) -> Awaitable[None] | None:
        nonlocal seen
        seen += path in asked
        if path in asked and seen == number:
            happens()
        return None

    world.sandbox.watchers.append(watch)
    try:
        yield
    finally:
        world.sandbox.watchers.remove(watch)
    assert seen >= number, "what should have happened in between never did"


def write(world: World, page: str, text: str) -> None:
    """Somebody adds a paragraph to a page."""
    world.workspace.append_blocks(page, [b.paragraph(text)])


@pytest.fixture
def short_listings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two results a page, so that a few rows make a long walk."""
    monkeypatch.setattr(api, "_PAGE_SIZE", 2)


# The table --------------------------------------------------------------------------------------------------------


def collected(path: Path) -> set[str]:
    """The node ids of a file's tests, without parameters."""
    file = f"tests/{path.name}"
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        inside = [(f"{node.name}::", part) for part in node.body] if isinstance(node, ast.ClassDef) else []
        for place, part in [("", node), *inside]:
            if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and part.name.startswith("test_"):
                found.add(f"{file}::{place}{part.name}")
    return found


def test_every_trap_has_its_tests_or_the_reason_why_it_needs_none() -> None:
    """All fifty, one of the two for each, and every test that is named is there."""
    assert list(TRAPS) == list(range(1, 51))
    assert [number for number, trap in TRAPS.items() if bool(trap.tests) == bool(trap.cannot)] == []
    assert len({trap.name for trap in TRAPS.values()}) == 50
    there = set[str]().union(*(collected(path) for path in HERE.glob("test_*.py")))
    assert sorted({test for trap in TRAPS.values() for test in trap.tests} - there) == []


def test_every_test_of_a_trap_stands_under_its_number() -> None:
    """A test here that bears a number is named by that trap."""
    for test in collected(Path(__file__)):
        numbered = re.search(r"::test_trap_(\d\d)_", test)
        assert numbered is None or test in TRAPS[int(numbered[1])].tests


# Change detection -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compares", ["stored", "shown"])
async def test_trap_02_a_sibling_edited_in_the_same_minute_is_found(tmp_path: Path, compares: Any) -> None:
    """The next query reaches back behind the last. Fails without the overlap, where floored stamps are compared."""
    async with a_world(tmp_path, habits=Habits(compares=compares, search_forgets=BLIND)) as world:
        site = await synced(world, rows=2)
        first, second = site.more
        write(world, first, "before the poll")
        await world.poll()
        write(world, second, "after the poll")
        stamps = {world.workspace.last_edited_ms(page) // 60_000 for page in site.more}
        assert len(stamps) == 1
        await world.poll()
        assert "before the poll" in await said(world, "row-0")
        assert "after the poll" in await said(world, "row-1")


@pytest.mark.usefixtures("short_listings")
async def test_trap_03_an_edit_made_while_a_query_runs_is_found_by_the_next(tmp_path: Path) -> None:
    """The watermark is the time of the first answer. Fails when it is that of the last."""
    async with a_world(tmp_path, habits=Habits(search_forgets=BLIND)) as world:
        site = await synced(world, rows=4)
        for row in site.more:
            write(world, row, "edited")

        def meanwhile() -> None:
            write(world, site.hello, "meanwhile")
            world.clock.advance(RUN_SECONDS)

        with on_request(world, 2, f"{site.rows}/query", meanwhile):
            await world.poll()
        assert "meanwhile" not in await said(world, "hello")
        await world.poll()
        assert "meanwhile" in await said(world, "hello")


@pytest.mark.usefixtures("short_listings")
async def test_trap_04_a_walk_that_breaks_off_moves_no_watermark(tmp_path: Path) -> None:
    """Rows of one minute on both sides of a failure: all arrive. Fails when a failed walk moves the watermark."""
    async with a_world(tmp_path, habits=Habits(search_forgets=BLIND)) as world:
        site = await synced(world, rows=4)
        for row in site.more:
            write(world, row, "edited")
        for _ in range(2):
            world.sandbox.faults.add(500, path=f"{site.rows}/query", after=1, times=5)
            await world.poll()
            assert len([n for n in range(4) if "edited" in await said(world, f"row-{n}")]) == 2
            world.clock.advance(RUN_SECONDS)
        await world.poll()
        assert [n for n in range(4) if "edited" in await said(world, f"row-{n}")] == [0, 1, 2, 3]


@pytest.mark.parametrize("skew", [-900.0, 900.0])
async def test_trap_05_a_clock_of_ours_that_is_wrong_hides_no_edit(tmp_path: Path, skew: float) -> None:
    """Watermarks are Notion's own times. Fails when ours is taken and runs ahead."""
    async with a_world(tmp_path, habits=Habits(clock_skew_seconds=skew, search_forgets=BLIND)) as world:
        site = await synced(world)
        await world.poll()
        write(world, site.hello, "two")
        await world.poll()
        assert "two" in await said(world, "hello")


async def test_trap_05_a_stamp_from_the_future_hides_no_edit(tmp_path: Path) -> None:
    """What is edited after it, under an older stamp, is read. Fails when only newer stamps are edits."""
    async with a_world(tmp_path, habits=Habits(search_forgets=BLIND)) as world:
        site = await synced(world)
        world.sandbox.habits.future_stamps_seconds = 86_400.0
        write(world, site.hello, "from tomorrow")
        await world.poll()
        assert "from tomorrow" in await said(world, "hello")
        world.sandbox.habits.future_stamps_seconds = 0.0
        await world.settle()
        await world.settle()
        write(world, site.hello, "from today")
        await world.poll()
        assert "from today" in await said(world, "hello")


@pytest.mark.parametrize("forgets", [0.0, BLIND])
async def test_trap_07_a_child_page_is_read_though_nothing_above_it_moves(
    tmp_path: Path, forgets: float
) -> None:
    """A grandchild's text, found by search or by the sweep. Fails when the sweep asks only for what moved above it."""
    async with a_world(tmp_path, habits=Habits(search_forgets=forgets)) as world:
        site = await synced(world)
        above = [world.workspace.last_edited_ms(page) for page in (site.parent, site.child)]
        write(world, site.grandchild, "two")
        assert above == [world.workspace.last_edited_ms(page) for page in (site.parent, site.child)]
        await world.poll()
        if forgets:
            await world.sweep()
        assert "two" in await said(world, "parent/child/grandchild")


@pytest.mark.parametrize("forgets", [0.0, BLIND])
async def test_trap_08_a_renamed_row_reaches_the_list_though_nothing_above_it_moves(
    tmp_path: Path, forgets: float
) -> None:
    """Neither the page that shows the database nor the database has a new stamp; by the sweep if search is blind."""
    async with a_world(tmp_path, habits=Habits(search_forgets=forgets)) as world:
        site = await synced(world)
        key = f"db:{site.jobs}:cursor:_"
        above = [world.workspace.last_edited_ms(thing) for thing in (site.parent, site.jobs)]
        world.workspace.set_title(site.job, "Plotter")
        await world.poll()
        assert above == [world.workspace.last_edited_ms(thing) for thing in (site.parent, site.jobs)]
        if forgets:
            await world.sweep()
        assert [item["title"] for item in await listed(world, key)] == ["Plotter"]


async def test_trap_10_an_edit_that_moves_no_stamp_is_found_by_a_full_sync(tmp_path: Path) -> None:
    """No listing can tell of it: a forced sync trusts no stamp. Fails when that skips pages whose stamp is the same."""
    async with a_world(tmp_path) as world:
        site = await synced(world)
        await world.settle()
        shown = (await world.value("page:hello"))["meta"]["lastEdited"]
        block = world.workspace.blocks[world.workspace.children(site.hello)[0]]
        block.content = block.content.replace(b"one", b"two")
        await world.sweep()
        assert "one" in await said(world, "hello")
        await world.cycle.begin_force()
        await world.catch_up()
        assert "two" in await said(world, "hello")
        assert (await world.value("page:hello"))["meta"]["lastEdited"] == shown


# What changes by itself -------------------------------------------------------------------------------------------


async def test_trap_13_a_hosted_file_says_when_its_address_dies(tmp_path: Path) -> None:
    """The value names the file and its hour, so that a reader can tell; a full sync renews the address."""
    async with a_world(tmp_path) as world:
        site = Site(world)
        world.workspace.append_blocks(site.hello, [b.image(hosted=True)])
        world.clock.advance(OLD)
        await world.start()
        await world.settle()

        async def image() -> dict[str, Any]:
            block = (await world.value("page:hello"))["blocks"][-1]
            assert block["id"]
            file: dict[str, Any] = block["image"]["file"]
            return file

        first = await image()
        world.clock.advance(7200)
        await world.cycle.begin_force()
        await world.catch_up()
        renewed = await image()
        assert first["url"].partition("?")[0] == renewed["url"].partition("?")[0]
        assert first["url"] != renewed["url"] and first["expiry_time"] < renewed["expiry_time"]


async def test_trap_14_notion_moving_to_another_address_is_no_edit(tmp_path: Path) -> None:
    """Pages read again under their new `url` write no page and no index. Fails when `url` is part of their hash."""
    async with a_world(tmp_path) as world:
        site = await synced(world)
        await world.settle()
        before = {key: await world.value(key) for key in await world.keys()}
        world.sandbox.habits.page_url_base = "https://app.notion.com/p/"
        pages = [site.hello, site.parent, site.child, site.grandchild, site.job]
        await world.ledger.call(work.make_due, pages, Priority.FRESH, "test")
        summary = await world.poll()
        assert summary.read == len(pages)
        await world.sweep()
        assert await world.ledger.call(work.due, world.api.notion_now(), 10, []) == []
        after = {key: await world.value(key) for key in await world.keys()}
        changed = {key for key in after if after[key] != before.get(key)}
        assert changed == {f"db:{site.jobs}:cursor:_"}  # whose items name their pages' address


async def test_trap_15_a_flood_of_new_hashes_is_worked_off_behind_the_edits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row looks different at once: read again once, after what was really edited, and then never again."""
    async with a_world(tmp_path) as world:
        site = await synced(world, rows=10)
        await world.settle()
        monkeypatch.setattr(jsontext, "CANONICAL_VERSION", jsontext.CANONICAL_VERSION + 1)
        world.clock.advance(OLD)
        await world.cycle.sweep.run()
        due = await world.ledger.call(work.due, world.api.notion_now(), 100, [])
        assert {page.priority for page in due} == {Priority.BACKLOG} and len(due) == 13
        write(world, site.more[5], "edited")
        await world.cycle.feeds.poll()
        (first, *_) = await world.ledger.call(work.due, world.api.notion_now(), 100, [])
        assert (first.id, first.priority) == (site.more[5], Priority.FRESH)
        await world.settle()
        assert "edited" in await said(world, "row-5")
        world.clock.advance(OLD)
        async with world.counted() as again:
            await world.sweep()
        rows = tuple(f"/blocks/{row}/children" for row in site.more)
        assert [request for request in again if request.path in rows] == []


# Listings ---------------------------------------------------------------------------------------------------------


async def test_trap_16_rows_beyond_the_cap_are_not_missing(tmp_path: Path) -> None:
    """A listing that Notion cuts off nominates nobody. Fails when `has_more: false` is taken for the end."""
    async with a_world(tmp_path) as world:
        site = await synced(world, rows=6)
        keys = await world.keys()
        world.sandbox.habits.result_cap = 4
        async with world.counted() as asked:
            await world.sweep()
        assert await world.keys() == keys
        assert not [request for request in asked if request.path.endswith(tuple(site.more))]
        assert await world.ledger.call(links.to_ask, 10) == []


@pytest.mark.usefixtures("short_listings")
async def test_trap_21_a_row_edited_while_a_query_pages_pushes_no_other_out(tmp_path: Path) -> None:
    """Where cursors count results: rows come in the order of creation. Fails when they come in that of edits."""
    async with a_world(tmp_path, habits=Habits(cursor_position="offset", search_forgets=BLIND)) as world:
        site = await synced(world, rows=4)
        for row in site.more:
            world.clock.advance(60)
            write(world, row, "edited")

        def meanwhile() -> None:
            world.clock.advance(60)
            write(world, site.more[0], "edited again")

        with on_request(world, 2, f"{site.rows}/query", meanwhile):
            await world.poll()
        await world.run(look=False)
        assert [n for n in range(4) if "edited" in await said(world, f"row-{n}")] == [0, 1, 2, 3]


async def test_trap_22_search_that_knows_nothing_removes_nothing(tmp_path: Path) -> None:
    """Silent for hours, over polls and sweeps: every key stays."""
    async with a_world(tmp_path) as world:
        await synced(world)
        keys = await world.keys()
        world.sandbox.habits.search_forgets = BLIND
        for _ in range(2):
            world.clock.advance(OLD)
            await world.sweep()
            await world.poll()
            world.cycle.changed = True
            await world.run(look=False)
            assert await world.keys() == keys


async def test_trap_22_search_that_lags_takes_nothing_back(tmp_path: Path) -> None:
    """Hits with the body and the stamp from before an edit that the sweep has seen: it stays published."""
    async with a_world(tmp_path, habits=Habits(search_lag_seconds=200.0)) as world:
        site = await synced(world)
        world.workspace.set_title(site.grandchild, "Renamed")
        write(world, site.grandchild, "two")
        await world.sweep()
        for _ in range(7):
            assert "two" in await said(world, "parent/child/renamed")
            await world.poll(40)


# Absence ----------------------------------------------------------------------------------------------------------


async def test_trap_24_a_row_that_a_listing_leaves_out_is_asked_for(tmp_path: Path) -> None:
    """Its GET says that it is where it was: kept. Fails when absence alone removes."""
    async with a_world(tmp_path) as world:
        site = await synced(world, rows=4)
        await world.settle()
        world.sandbox.habits.query_lag_seconds = 250.0
        young = world.workspace.add_row(site.rows, "Young", {"slug": "young"})
        await world.poll()
        assert "young" in await world.slugs()
        async with world.counted() as asked:
            await world.sweep()
        assert [r for r in asked if r.path == f"/pages/{young}"]
        assert "young" in await world.slugs()


async def test_trap_24_an_archived_page_leaves_and_comes_back(tmp_path: Path) -> None:
    """Archived is neither trashed nor moved: its listing and its GET say so."""
    async with a_world(tmp_path) as world:
        site = await synced(world)
        world.workspace.archive(site.hello)
        await world.sweep()
        assert "hello" not in await world.slugs()
        world.workspace.archive(site.hello, archived=False)
        world.clock.advance(900)
        await world.sweep()
        assert "hello" in await world.slugs()


@pytest.mark.parametrize("word", ["no", "flag", "not_found"])
async def test_trap_26_what_lies_below_trash_leaves_whatever_it_says_of_itself(
    tmp_path: Path, word: Any
) -> None:
    """Under a trashed page, and in a deleted toggle: nothing, `in_trash` or 404. The rest stays, all comes back."""
    async with a_world(tmp_path, habits=Habits(trash_reaches_down=word)) as world:
        site = Site(world)
        (toggle,) = world.workspace.append_blocks(site.hello, [b.toggle("drawer")])
        world.workspace.create_page(toggle, "Inside", blocks=[b.paragraph("inside")])
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        keys = await world.keys()
        assert "page:hello/inside" in keys
        world.workspace.trash(site.parent)
        world.workspace.delete_block(toggle)
        for _ in range(2):  # a page that answers 404 is asked for again before that is believed
            world.clock.advance(900)
            await world.sweep()
        assert await world.keys() == {"page:hello", "pages:index"}
        world.workspace.restore(site.parent)
        world.workspace.restore(toggle)
        world.clock.advance(900)
        await world.sweep()
        assert await world.keys() == keys


# Refusals and failures --------------------------------------------------------------------------------------------


async def test_trap_31_a_block_that_never_clears_stops_the_run(tmp_path: Path) -> None:
    """One request, no retry, no key touched; once it is lifted the run goes on. Fails when it is any 429."""
    async with a_world(tmp_path) as world:
        site = await synced(world)
        keys = await world.keys()
        write(world, site.hello, "two")
        world.sandbox.faults.add(429, times=1000, reason="public_api_request_blocked")
        async with world.counted() as asked:
            with pytest.raises(NotionBlocked):
                await world.poll()
        assert len(asked) == 1 and await world.keys() == keys
        world.sandbox.faults.clear()
        await world.poll()
        assert "two" in await said(world, "hello")


async def test_trap_33_a_page_that_nobody_foresaw_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that no part of ours raises on purpose costs its page, which says so, and is tried again."""
    async with a_world(tmp_path) as world:
        site = await synced(world, rows=2)
        write(world, site.hello, "two")
        write(world, site.more[0], "two")

        def surprised(page: dict[str, Any], *rest: Any, **more: Any) -> Any:
            if page["id"] == site.hello:
                raise KeyError("something new")
            return stored_read(page, *rest, **more)

        monkeypatch.setattr(reader, stored_read.__name__, surprised)
        await world.poll()
        assert "two" in await said(world, "row-0") and "two" not in await said(world, "hello")
        (trouble,) = await world.ledger.call(work.troubled)
        assert trouble["id"] == site.hello and "KeyError" in trouble["reason"]
        monkeypatch.undo()
        await world.poll(60)
        assert "two" in await said(world, "hello")


# Reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forgets", [0.0, BLIND])
@pytest.mark.parametrize("home", ["on the site", "outside it"])
async def test_trap_39_an_edit_of_an_original_reaches_the_page_that_shows_a_copy(
    tmp_path: Path, home: str, forgets: float
) -> None:
    """Whose stamp stays as it was: by search or by the sweep. Fails when the original's page is not looked at."""
    async with a_world(tmp_path, habits=Habits(search_forgets=forgets)) as world:
        site = Site(world)
        host = site.child if home == "on the site" else world.workspace.create_page(site.root, "Outside")
        words = b.synced_original([b.paragraph("original")])
        (original,) = world.workspace.append_blocks(host, [words])
        world.workspace.append_blocks(site.hello, [b.synced_copy(original)])
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        world.clock.advance(OLD)
        shown = world.workspace.last_edited_ms(site.hello)
        world.workspace.update_text(world.workspace.children(original)[0], "edited")
        await world.poll()
        if forgets:
            await world.sweep()
        await world.settle()
        assert "edited" in await said(world, "hello")
        assert world.workspace.last_edited_ms(site.hello) == shown


async def test_trap_41_a_page_edited_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    """Half from before an edit, half from after it: the key ends up as the page is. Fails when that read is trusted."""
    async with a_world(tmp_path, habits=Habits(search_forgets=BLIND)) as world:
        site = await synced(world)
        await world.settle()
        top, toggle = world.workspace.children(site.hello)
        (inside,) = world.workspace.children(toggle)

        def meanwhile() -> None:
            world.workspace.update_text(top, "new top")
            world.workspace.update_text(inside, "new inside")

        await world.ledger.call(work.make_due, [site.hello], Priority.FRESH, "test")
        with on_request(world, 1, f"/blocks/{toggle}/children", meanwhile):
            await world.run(look=False)
        assert await said(world, "hello") == ["one", "more", "new inside"]
        world.clock.advance(71)
        await world.run(look=False)
        assert await said(world, "hello") == ["new top", "more", "new inside"]


async def test_trap_42_a_row_that_is_listed_as_a_bare_id_is_asked_for(tmp_path: Path) -> None:
    """In a first listing, in a query and in the sweep. Fails when what a listing does not show whole is passed over."""
    async with a_world(tmp_path, habits=Habits(partial_objects=1.0, search_forgets=BLIND)) as world:
        site = await synced(world, rows=2)
        assert {"hello", "parent", "parent/child", "parent/printer", "row-0", "row-1"} <= await world.slugs()
        write(world, site.hello, "two")
        await world.poll()
        assert "two" in await said(world, "hello")
        world.workspace.set_computed(site.hello, "total", 42)
        world.clock.advance(OLD)
        await world.sweep()
        assert (await world.value("page:hello"))["meta"]["properties"]["total"] == 42
        world.workspace.trash(site.more[0])
        await world.sweep()
        assert "row-0" not in await world.slugs() and "row-1" in await world.slugs()


async def test_trap_44_a_full_sync_that_is_killed_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second process reads what the first had not, and nothing twice. Fails when a start begins it anew."""
    async with a_world(tmp_path) as world:
        await synced(world, rows=12)
        await world.settle()
        await world.cycle.begin_force()
        whole = await world.ledger.call(work.forced_left)

        usual, stored = world.cycle.reader._store, 0

        async def dying(*read: Any) -> None:
            nonlocal stored
            if stored == 5:
                world.cycle.hurry()
                await asyncio.Event().wait()
            stored += 1
            await usual(*read)

        monkeypatch.setattr(world.cycle.reader, "_store", dying)
        await world.run(look=False)
        await world.kill()
        await world.start()
        await world.cycle.begin_force()
        left = await world.ledger.call(work.forced_left)
        assert left == whole - 5
        async with world.counted() as asked:
            await world.catch_up()
        await world.cycle.end_force()
        read = {r.path for r in asked if r.path.startswith("/pages/")}
        assert len(read) == left and await world.ledger.call(work.forced_left) == 0


async def test_trap_48_nothing_is_ever_written_to_notion(tmp_path: Path) -> None:
    """No echo of our own: over a first sync, polls, a sweep and a full sync every request only asks."""
    async with a_world(tmp_path) as world:
        site = await synced(world, rows=3)
        write(world, site.hello, "two")
        world.workspace.trash(site.more[0])
        await world.poll()
        await world.sweep()
        await world.cycle.sweep.trash()
        await world.cycle.begin_force()
        await world.settle()
        asked = {(r.method, r.path.rsplit("/", 1)[1]) for r in world.sandbox.requests if r.method != "GET"}
        assert asked == {("POST", "query"), ("POST", "search")}
