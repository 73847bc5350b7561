"""G1: what Notion shows is in the store in time, whenever the edit was made and whoever tells of it."""

import json
from collections.abc import Callable, Iterator
from itertools import combinations_with_replacement
from pathlib import Path

import pytest

from daemon.demo import blocks as b
from daemon.demo.habits import Habits
from daemon.demo.sandbox import RequestRecord
from tests.support.site import Site, said, synced
from tests.support.world import OLD, POLL_SECONDS, REAL, World, a_world

READING_SECONDS = 1.0
SLOW_POLL_SECONDS = 30.0
OFFSETS = (0.0, 1.0, 15.0, 30.0, 45.0, 58.0, 59.9)
"""Seconds of a minute, which is as fine as stamps are."""

Edit = Callable[[World, str], object]


def soon(lag: float = 0.0, poll: float = POLL_SECONDS) -> float:
    """By when an edit has to be in the store, in seconds."""
    return lag + poll + REAL.settles_at(0.0) + READING_SECONDS


def to_full_minute(world: World) -> None:
    """Let time pass until a minute of Notion's clock begins."""
    world.clock.advance(60.0 - world.workspace.now_ms() / 1000 % 60.0)


async def poll_for(world: World, seconds: float, poll: float = POLL_SECONDS) -> None:
    """Polls at their interval, the last of them when that time has passed."""
    while seconds > 0:
        await world.poll(min(poll, seconds))
        seconds -= poll


def written(world: World, container: str) -> Iterator[str]:
    """The texts of everything in a page or block, as Notion has them now."""
    for child in world.workspace.children(container):
        if child in world.workspace.blocks:
            content = json.loads(world.workspace.blocks[child].content)
            yield "".join(part["plain_text"] for part in content["rich_text"])
            yield from written(world, child)


async def is_shown(world: World, page: str, slug: str) -> bool:
    """Whether the store has the page's title and texts as they are in Notion."""
    title = (await world.value(f"page:{slug}"))["meta"]["title"]
    return title == world.workspace.title_of(page) and await said(world, slug) == list(written(world, page))


def reads_of(seen: list[RequestRecord], page: str) -> int:
    """How often a page's blocks were asked for from the start."""
    return sum(r.path == f"/blocks/{page}/children" and "start_cursor" not in r.query for r in seen)


def content(world: World, page: str) -> None:
    """Blocks before everything that is there."""
    world.workspace.insert_first(page, [b.paragraph("at the top")])


def nested(world: World, page: str) -> None:
    """Blocks inside a toggle: the page's own blocks stay as they are."""
    toggle = next(c for c in world.workspace.children(page) if world.workspace.blocks[c].kind == "toggle")
    world.workspace.append_blocks(toggle, [b.paragraph("in the toggle")])


def deletion(world: World, page: str) -> None:
    """A block less: none is left that could tell by its stamp."""
    world.workspace.delete_block(world.workspace.children(page)[0])


def title(world: World, page: str) -> None:
    """A property: no block tells of it."""
    world.workspace.set_title(page, f"{world.workspace.title_of(page)}, renamed")


KINDS: dict[str, Edit] = {"content": content, "nested": nested, "deletion": deletion, "title": title}


async def test_an_edit_is_read_at_first_sight_and_once_more_when_settled(tmp_path: Path) -> None:
    """From a listed body at first sight; with a GET first when the stamp can be trusted; then no more.

    Fails when a page is asked for at first sight although it was listed, and when it is not the second time.
    """
    async with a_world(tmp_path) as world:
        site = await synced(world)
        world.workspace.append_blocks(site.hello, [b.paragraph("two")])
        async with world.counted() as first:
            summary = await world.poll()
        told = [request.path.split("/")[-1] for request in first]
        assert told == ["query", "search", "children", "children"]
        assert summary.batches == 1 and "two" in await said(world, "hello")
        async with world.counted() as settled:
            summary = await world.poll(75)
        asked = [request.path.split("/")[1] for request in settled]
        assert asked == ["data_sources", "search", "pages", "blocks", "blocks"]
        assert summary.batches == 0
        async with world.counted() as after:
            await world.poll()
        assert len(after) == 2


async def test_an_edit_seen_late_is_read_once(tmp_path: Path) -> None:
    """Seen when its stamp can be trusted already: one read, which begins with a GET."""
    async with a_world(tmp_path) as world:
        site = await synced(world)
        world.workspace.append_blocks(site.hello, [b.paragraph("two")])
        async with world.counted() as seen:
            await world.poll(71 + 60)
            await poll_for(world, 200, SLOW_POLL_SECONDS)
        assert "two" in await said(world, "hello")
        assert reads_of(seen, site.hello) == 1
        assert sum(request.path == f"/pages/{site.hello}" for request in seen) == 1


@pytest.mark.parametrize("kind", ["content", "property"])
async def test_every_pair_of_edits_within_a_stamp(tmp_path: Path, kind: str) -> None:
    """The first is read at once, the second moves no stamp; two reads are enough for both.

    Fails when a first read is trusted, and when the granularity is left out of the settling time.
    """
    async with a_world(tmp_path) as world:
        pairs = list(combinations_with_replacement(OFFSETS, 2))
        site = await synced(world, rows=len(pairs))

        def edit(row: str, number: int) -> None:
            if kind == "content":
                world.workspace.append_blocks(row, [b.paragraph(f"edit {number}")])
            else:
                world.workspace.set_properties(row, {"total": number})

        to_full_minute(world)
        passed = 0.0
        async with world.counted() as seen:
            for offset in OFFSETS:
                world.clock.advance(offset - passed)
                passed = offset
                for row in (row for row, pair in zip(site.more, pairs, strict=True) if pair[0] == offset):
                    edit(row, 1)
                await world.run()
                for row in (row for row, pair in zip(site.more, pairs, strict=True) if pair[1] == offset):
                    edit(row, 2)
            await poll_for(world, soon())
        for number, (row, pair) in enumerate(zip(site.more, pairs, strict=True)):
            bundle = await world.value(f"page:row-{number}")
            total, texts = bundle["meta"]["properties"]["total"], await said(world, f"row-{number}")
            assert "edit 2" in texts if kind == "content" else total == 2, pair
            assert reads_of(seen, row) == 2, pair


@pytest.mark.parametrize("phase", ["first", "settling"])
async def test_an_edit_in_the_middle_of_a_read(tmp_path: Path, phase: str) -> None:
    """Before the GET, between it and the blocks, between two pages of results, between two listings, and after.

    Fails when a first read is trusted.
    """
    places = {
        "before the page": "/pages/{page}",
        "before the blocks": "/blocks/{page}/children",
        "in the blocks": "/blocks/{page}/children",
        "before the toggle": "/blocks/{toggle}/children",
        "after": "",
    }
    if phase == "first":
        del places["before the page"]  # it is not asked for
    async with a_world(tmp_path) as world:
        cases = [(place, kind) for place in places for kind in KINDS]
        site = await synced(world, rows=len(cases))
        waiting: list[tuple[str, int, Edit, str]] = []
        for (place, kind), row in zip(cases, site.more, strict=True):
            lines = 101 if place == "in the blocks" else 1
            world.workspace.append_blocks(row, [b.paragraph(f"line {n}") for n in range(lines)])
            (toggle,) = world.workspace.append_blocks(row, [b.toggle("more", [b.paragraph("inside")])])
            path = places[place].format(page=row, toggle=toggle)
            waiting.append((path, 1 if place == "in the blocks" else 0, KINDS[kind], row))
        world.clock.advance(OLD)
        await world.settle()

        asked: dict[str, int] = {}

        def edit_meanwhile(_: str, path: str) -> None:
            asked[path] = asked.get(path, -1) + 1
            for case in [case for case in waiting if case[:2] == (path, asked[path])]:
                waiting.remove(case)
                case[2](world, case[3])

        to_full_minute(world)
        world.clock.advance(50)
        for row in site.more:
            world.workspace.append_blocks(row, [b.paragraph("first edit")])
        if phase == "settling":
            await world.poll()
            world.clock.advance(55)
        world.sandbox.watchers.append(edit_meanwhile)
        async with world.counted() as seen:
            await world.poll()
            for _, _, edit, row in [case for case in waiting if not case[0]]:
                edit(world, row)
            assert [case for case in waiting if case[0]] == []
            await poll_for(world, soon())
        for number, (case, row) in enumerate(zip(cases, site.more, strict=True)):
            assert await is_shown(world, row, f"row-{number}"), case
            assert reads_of(seen, row) <= (4 if phase == "first" else 3), case


@pytest.mark.parametrize(
    ("habits", "lags"),
    [(Habits(compares="stored"), (5.0, 69.0, 299.0)), (Habits(compares="shown"), (71.0, 150.0, 300.0))],
    ids=["short", "long"],
)
async def test_a_query_that_lags(tmp_path: Path, habits: Habits, lags: tuple[float, ...]) -> None:
    """Bodies and orders as they were some time ago, up to the feed lag, with two edits of one stamp each.

    Fails when a listed body is trusted as if it were an answer about the page.
    """
    async with a_world(tmp_path, habits=habits) as world:
        site = await synced(world, rows=len(lags))
        for number, lag in enumerate(lags):
            row = site.more[number]
            habits.query_lag_seconds = habits.search_lag_seconds = lag
            to_full_minute(world)
            world.clock.advance(2.5)
            async with world.counted() as seen:
                title(world, row)
                await world.poll(0.5)
                world.clock.advance(55)
                title(world, row)
                content(world, row)
                await poll_for(world, soon(lag, SLOW_POLL_SECONDS), SLOW_POLL_SECONDS)
            assert await is_shown(world, row, f"row-{number}"), lag
            assert reads_of(seen, row) <= 2, lag


@pytest.mark.parametrize("skew", [-3600.0, -90.0, -5.0, 5.0, 90.0, 3600.0])
async def test_notions_clock_decides(tmp_path: Path, skew: float) -> None:
    """It is ahead of or behind ours: nothing changes. If our own clock decided, reads would never end."""
    async with a_world(tmp_path, habits=Habits(clock_skew_seconds=skew)) as world:
        source = world.add_source()
        row = world.workspace.add_row(source, "Row", {"slug": "row"})
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        to_full_minute(world)
        world.clock.advance(1)
        async with world.counted() as seen:
            title(world, row)
            await world.poll(0.5)
            world.clock.advance(55)
            content(world, row)
            await poll_for(world, soon())
        assert await is_shown(world, row, "row")
        assert reads_of(seen, row) == 2


@pytest.mark.parametrize("ahead", [5.0, 90.0, 3600.0])
async def test_stamps_in_the_future(tmp_path: Path, ahead: float) -> None:
    """A second edit with the same stamp, one with the right stamp, and a new row: all of them in time.

    Fails when a stamp from the future is simply waited for, and when it outranks the right stamp of a later edit.
    """
    async with a_world(tmp_path) as world:
        site = await synced(world, rows=3)
        twice, corrected, later = site.more
        habits = world.sandbox.habits
        to_full_minute(world)
        async with world.counted() as seen:
            world.clock.advance(60 - ahead % 60 + 1)
            habits.future_stamps_seconds = ahead
            title(world, twice)
            title(world, corrected)
            title(world, later)
            world.workspace.add_row(site.rows, "New", {"slug": "new"})
            await world.poll(0.5)
            world.clock.advance(50)
            content(world, twice)
            habits.future_stamps_seconds = 0
            world.clock.advance(10)
            content(world, corrected)
            await poll_for(world, soon())
            assert await is_shown(world, twice, "row-0")
            assert await is_shown(world, corrected, "row-1")
            assert "new" in await world.slugs()
            await poll_for(world, 300, SLOW_POLL_SECONDS)
            content(world, later)
            await poll_for(world, soon())
            assert await is_shown(world, later, "row-2")
            await poll_for(world, ahead + 120, 600)
        assert max(reads_of(seen, row) for row in site.more) <= 4


@pytest.mark.parametrize("tells", ["search", "search that lags", "sweep"])
async def test_edits_below_the_sources(tmp_path: Path, tells: str) -> None:
    """Child pages, rows of inline databases and new ones of both: two edits of a stamp, none of which a query shows.

    Fails when whatever a listing says is trusted, when the sweep asks for no child pages, when it lists no inline
    database, and when it leaves out the blocks that hold child pages.
    """
    lag = 150.0 if tells == "search that lags" else 0.0
    habits = Habits(search_forgets=1.0 if tells == "sweep" else 0.0, search_lag_seconds=lag)
    async with a_world(tmp_path, habits=habits) as world:
        site, workspace = Site(world), world.workspace
        hidden = workspace.create_page(site.parent, "Hidden")
        workspace.unshare(hidden)
        await world.start()
        await world.catch_up()
        world.clock.advance(OLD)
        await world.poll()
        to_full_minute(world)
        world.clock.advance(3)
        async with world.counted() as seen:
            title(world, site.grandchild)
            title(world, site.job)
            workspace.add_row(site.job_rows, "Binder", {"slug": "binder"})
            workspace.create_page(site.grandchild, "New")
            if tells == "sweep":
                workspace.share(hidden)
            await (world.sweep() if tells == "sweep" else world.poll(0.5))
            world.clock.advance(50)
            content(world, site.grandchild)
            content(world, site.job)
            await poll_for(world, soon(lag))
        slug = "parent/child/grandchild-renamed"
        assert await is_shown(world, site.grandchild, slug)
        assert await is_shown(world, site.job, "parent/printer")
        assert {"parent/binder", f"{slug}/new"} <= await world.slugs()
        assert ("parent/hidden" in await world.slugs()) == (tells == "sweep")
        assert reads_of(seen, site.grandchild) <= 2 and reads_of(seen, site.job) <= 2


async def test_edits_at_the_edges_of_what_was_looked_at(tmp_path: Path) -> None:
    """Around the watermark, and around that less the lag and the overlap, with a query that is as late as it may be.

    Fails when the next query begins at the last one's watermark less the lag alone.
    """
    lag = REAL.lag_seconds
    edges = [-0.001, 0.0, 0.001]
    moments = sorted(back + edge for back in (0.0, lag, lag + 60.0) for edge in edges)
    async with a_world(tmp_path, habits=Habits(compares="shown")) as world:
        site = await synced(world, rows=len(moments))
        await world.settle()
        world.sandbox.habits.query_lag_seconds = lag
        world.sandbox.habits.search_forgets = 1.0
        to_full_minute(world)
        world.clock.advance(59.5)
        polled_at = world.clock.monotonic() + lag + 60.0 + 0.5
        for moment, row in sorted(zip(moments, site.more, strict=True), reverse=True):
            world.clock.advance(polled_at - moment - world.clock.monotonic())
            if moment < 0:
                await world.run()
            title(world, row)
        await poll_for(world, soon(lag, SLOW_POLL_SECONDS), SLOW_POLL_SECONDS)
        for number, (moment, row) in enumerate(zip(moments, site.more, strict=True)):
            assert await is_shown(world, row, f"row-{number}"), moment


async def test_an_edit_while_the_list_is_being_asked_for(tmp_path: Path) -> None:
    """Between the pages of results of one query, in rows that were listed already and in rows that were not.

    Fails when the watermark is taken from the last answer instead of the first.
    """
    async with a_world(tmp_path, habits=Habits(cursor_position="offset", search_forgets=1.0)) as world:
        site = await synced(world, rows=130)
        world.clock.advance(OLD)
        await world.poll()
        for row in site.more[:125]:
            title(world, row)
        late = [site.more[0], site.more[110], site.more[129]]
        asked = 0

        def edit_meanwhile(_: str, path: str) -> None:
            nonlocal asked
            asked += path.endswith("/query")
            if path.endswith("/query") and asked == 2:
                for row in late:
                    content(world, row)
                world.workspace.trash(site.more[1])
                world.clock.advance(REAL.lag_seconds + 100)

        world.sandbox.watchers.append(edit_meanwhile)
        await world.poll()
        assert asked >= 2
        await poll_for(world, soon())
        for row in late:
            assert await is_shown(world, row, f"row-{site.more.index(row)}")


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_edits_while_the_daemon_was_down(tmp_path: Path, end: str) -> None:
    """For hours, of a row, a child page and an inline row; and one between a first read and its second.

    Fails when a start looks at what is new from then on, and when the second read is only remembered in memory.
    """
    async with a_world(tmp_path, habits=Habits(search_forgets=1.0)) as world:
        site = await synced(world)
        world.workspace.append_blocks(site.hello, [b.paragraph("two")])
        await world.poll(0.5)
        content(world, site.hello)
        await (world.stop() if end == "stop" else world.kill())
        for page in (site.parent, site.grandchild, site.job):
            content(world, page)
            world.clock.advance(OLD)
        await world.start()
        await world.catch_up()
        assert await is_shown(world, site.hello, "hello")
        assert "at the top" in await said(world, "parent")
        await world.sweep()
        assert "at the top" in await said(world, "parent/child/grandchild")
        assert await is_shown(world, site.job, "parent/printer")


async def test_edits_during_a_first_sync(tmp_path: Path) -> None:
    """Of rows that were read and of rows that wait in the backlog, while a small budget makes it last for minutes.

    Fails when a body listed at the beginning is believed minutes later, and when edits wait for the backlog.
    """
    async with a_world(tmp_path, requests_per_minute=30) as world:
        source = world.add_source()
        rows = [
            world.workspace.add_row(source, f"Row {n}", {"slug": f"row-{n}"}, blocks=[b.paragraph("one")])
            for n in range(120)
        ]
        world.clock.advance(90)
        await world.start()
        world.api.limiter.reserve = 12
        while len(await world.slugs()) < 10:
            await world.poll()
        read = [row for n, row in enumerate(rows) if f"row-{n}" in await world.slugs()]
        unread = [row for row in rows if row not in read]
        edited = [read[0], unread[0], unread[-1]]
        for row in edited:
            title(world, row)
            content(world, row)
        end = world.clock.monotonic() + soon() + 60.0  # what is left of the budget may have to be waited for
        while world.clock.monotonic() < end:
            await world.poll(min(POLL_SECONDS, end - world.clock.monotonic()))
        for row in edited:
            assert await is_shown(world, row, f"row-{rows.index(row)}")
        assert len(await world.slugs()) < len(rows)


TRYING = Habits(
    query_lag_seconds=120.0,
    search_lag_seconds=200.0,
    search_forgets=0.5,
    short_pages=True,
    cursor_dies=0.02,
    cursor_position="offset",
    clock_skew_seconds=77.0,
    compares="shown",
    lists_unshared=True,
)


async def test_all_habits_at_once(tmp_path: Path) -> None:
    """Rows in time, everything below them one sweep later, two edits of a stamp each, nothing read too often."""
    async with a_world(tmp_path, habits=TRYING) as world:
        site = await synced(world, rows=30)
        children = [
            world.workspace.create_page(site.parent, f"Page {n}", blocks=[b.image(hosted=True)])
            for n in range(6)
        ]
        below = [site.child, site.grandchild, site.job, *children]
        world.clock.advance(OLD)
        await world.sweep()
        await world.settle()
        edited = [*site.more, *below]
        to_full_minute(world)
        async with world.counted() as seen:
            for page in edited:
                world.workspace.append_blocks(page, [b.paragraph("first")])
            await world.poll()
            world.clock.advance(35)
            for page in edited:
                world.workspace.append_blocks(page, [b.paragraph("second")])
            await poll_for(world, soon(120.0, SLOW_POLL_SECONDS), SLOW_POLL_SECONDS)
        for number in range(len(site.more)):
            assert "second" in await said(world, f"row-{number}")
        async with world.counted() as seen_by_sweep:
            world.clock.advance(200)
            await world.sweep()
            await poll_for(world, soon(0, SLOW_POLL_SECONDS), SLOW_POLL_SECONDS)
        for slug in ("parent/child", "parent/child/grandchild", "parent/printer", "parent/page-5"):
            assert "second" in await said(world, slug)
        assert max(reads_of(seen + seen_by_sweep, page) for page in edited) <= 4


async def test_a_page_that_was_asked_for_too_early(tmp_path: Path) -> None:
    """A new child page is read with a GET before its stamp can be trusted; a second edit follows, and no search.

    Fails when whatever a GET says is trusted.
    """
    async with a_world(tmp_path, habits=Habits(search_forgets=1.0)) as world:
        site = await synced(world)
        to_full_minute(world)
        world.clock.advance(2)
        new = world.workspace.create_page(site.hello, "New", blocks=[b.paragraph("one")])
        async with world.counted() as seen:
            await world.poll()
            assert "hello/new" in await world.slugs()
            world.clock.advance(35)
            content(world, new)
            await poll_for(world, soon())
        assert await is_shown(world, new, "hello/new")
        assert reads_of(seen, new) == 2


async def test_an_edit_that_is_told_of_while_the_page_is_read(tmp_path: Path) -> None:
    """The sweep sees a child page's new title after its read has begun; nobody else will tell of it.

    Fails when a read that is stored takes a newer sighting with it.
    """
    async with a_world(tmp_path, habits=Habits(search_forgets=1.0)) as world:
        site = await synced(world)
        world.workspace.append_blocks(site.child, [b.paragraph("two")])
        world.clock.advance(OLD)
        asked = 0

        async def sweep_meanwhile(_: str, path: str) -> None:
            nonlocal asked
            if path == f"/blocks/{site.child}/children":
                asked += 1
                if asked == 2:  # the first is the sweep's own, of what holds child pages
                    world.clock.advance(61)
                    title(world, site.child)
                    await world.cycle.sweep.run()

        world.sandbox.watchers.append(sweep_meanwhile)
        await world.sweep()
        world.sandbox.watchers.clear()
        assert asked >= 2
        await poll_for(world, soon())
        assert "parent/child-renamed" in await world.slugs()
