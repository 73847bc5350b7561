"""Store, ledger and Notion compared: what differs is found, named and mended, and nothing else is touched."""

import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import Connection, delete

from daemon.app import App
from daemon.config import load_settings
from daemon.demo import blocks as b
from daemon.demo.habits import Habits
from daemon.kv.base import KV, OWNER_KEY, Owner, Write
from daemon.kv.embedded import EmbeddedKV
from daemon.kv.redis import RedisKV
from daemon.ledger import meta
from daemon.ledger.meta import Fact
from daemon.ledger.tables import Link, Page
from daemon.notion.errors import NotionUnauthorized
from daemon.notion.limiter import Lane
from daemon.notion.listing import Answer
from daemon.oneshot import verify as verify_site
from daemon.schedule import Schedule, Wishes
from daemon.sync import verify
from daemon.sync.lease import Standing
from daemon.sync.verify import COMPARE_INTERVAL_SECONDS, Comparison, Kind, differing_keys, is_due
from daemon.vitals import Vitals
from tests.support.flaky_kv import FlakyKV
from tests.support.redis_server import RedisServer
from tests.support.site import Site, said, synced
from tests.support.stores import embedded_store
from tests.support.world import OLD, World, a_world

pytest_plugins = ["tests.support.kv_fixtures"]

DAY = COMPARE_INTERVAL_SECONDS


# --- helpers ---


@pytest.fixture(params=["embedded", "redis"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A world on the embedded store, and one on a real Redis."""
    kv: KV | None = None
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        kv = RedisKV(server.url)
    async with a_world(tmp_path, kv=kv) as made:
        yield made


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    """A world on the embedded store, where any store will do."""
    async with a_world(tmp_path) as made:
        yield made


async def by_hand(world: World, **texts: str | None) -> None:
    """Somebody else sets or removes keys (`__` stands for a colon) behind the daemon's back."""
    owner = await world.kv.read_owner()
    assert owner is not None
    writes = [Write(key.replace("__", ":"), text) for key, text in texts.items()]
    assert await world.kv.apply(writes, owner)


async def dump(world: World) -> dict[str, str]:
    """Every key and its text, those about the writer apart."""
    keys = sorted(await world.keys())
    return {key: text or "" for key, text in zip(keys, await world.kv.get_many(keys), strict=True)}


def ledger_of(world: World) -> list[str]:
    """The whole ledger as SQL."""
    with sqlite3.connect(world.folder / "ledger.db") as db:
        return list(db.iterdump())


async def store_differences(world: World) -> list[tuple[str, str]]:
    """(kind, key) of what the comparison with the store finds."""
    site = await world.ledger.call(world.cycle.compose_only)
    return named(await world.cycle.store_check.compare(site))


async def notion_differences(world: World) -> list[tuple[str, str]]:
    """(kind, page) of what the comparison with Notion finds; looking changes nothing."""
    before = ledger_of(world)
    found = await world.cycle.notion_check.compare()
    assert ledger_of(world) == before
    return named(found)


def named(found: Comparison) -> list[tuple[str, str]]:
    """(kind, key or page), sorted."""
    return sorted((str(difference.kind), difference.name) for difference in found.differences)


# --- pure ---


def test_keys_are_told_apart_by_their_hashes() -> None:
    """Equal: nothing; another hash: altered; none: removed. What was written goes along, for mending."""
    written = {"page:a": "1", "page:b": "2", "page:c": "3"}
    found = differing_keys(written, ["1", "x", None])
    assert [(d.kind, d.name, d.ref) for d in found] == [
        (Kind.ALTERED, "page:b", "2"),
        (Kind.REMOVED, "page:c", "3"),
    ]


@pytest.mark.parametrize(
    ("compared_at", "first_sync_at", "due"),
    [
        (None, None, False),
        (None, 1000.0, False),
        (None, 1000.0 - DAY, True),
        (1000.0, 0.0, False),
        (1001.0 - DAY, 0.0, False),
        (1000.0 - DAY, 0.0, True),
        (1000.0 + DAY, 0.0, True),
    ],
)
def test_the_store_is_compared_once_a_day(
    compared_at: float | None, first_sync_at: float | None, due: bool
) -> None:
    """Not before the first sync, a day after it, then daily; a moment noted by a wrong clock puts nothing off."""
    assert is_due(compared_at, first_sync_at, 1000.0) is due


# --- the store ---


async def test_what_somebody_did_to_the_store_is_found_and_mended(world: World) -> None:
    """Altered and removed keys are named and written again; foreign keys are named and never touched.

    Broken by comparing only whether a key is there; by not marking removed keys.
    """
    await synced(world)
    before = await dump(world)
    assert await store_differences(world) == []
    foreign = {
        "page__mine": json.dumps({"meta": {"notionId": str(UUID(int=1))}}),
        "hubs__index": "{}",
        "session__1": "x",
    }
    await by_hand(world, page__hello='"altered"', page__parent=None, pages__index=None, **foreign)
    ledger = ledger_of(world)
    site = await world.ledger.call(world.cycle.compose_only)
    found = await world.cycle.store_check.compare(site)
    assert ledger_of(world) == ledger and found.keys == len(before)
    assert named(found) == [
        ("altered", "page:hello"),
        ("leftover", "hubs:index"),
        ("leftover", "page:mine"),
        ("removed", "page:parent"),
        ("removed", "pages:index"),
    ]
    assert [d.name for d in found.differences if not d.counts] == ["hubs:index", "page:mine"]
    async with world.counted() as seen:
        await world.cycle.store_check.mark(found.differences)
        summary = await world.run(look=False)
    assert summary.written.total() == 3 and summary.deleted == 0 and seen == []
    after = await dump(world)
    assert {key: after.pop(key.replace("__", ":")) for key in foreign} == foreign
    assert set(after) == set(before)
    assert {json.dumps({**json.loads(text), "syncedAt": 0}) for text in after.values()} == {
        json.dumps({**json.loads(text), "syncedAt": 0}) for text in before.values()
    }
    assert {kind for kind, _ in await store_differences(world)} == {"leftover"}


async def test_no_value_travels(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred keys a command, hashed where they are. Broken by comparing texts."""
    await synced(world, rows=5)
    monkeypatch.setattr(verify, "KEYS_AT_ONCE", 4)
    texts: list[str] = []
    read = world.kv.get_many

    async def watched(keys: Sequence[str]) -> list[str | None]:
        texts.extend(keys)
        return await read(keys)

    monkeypatch.setattr(world.kv, "get_many", watched)
    before = world.kv.commands
    found = await world.cycle.store_check.altered()
    assert (found.keys, found.differences) == (12, [])
    assert texts == [] and world.kv.commands - before == 3


async def test_what_is_written_meanwhile_does_not_differ(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cycle that writes while the hashes are on their way. Broken by not asking the ledger again."""
    site = await synced(here)
    hash_keys = here.kv.digests

    async def late(keys: Sequence[str]) -> list[str | None]:
        here.workspace.append_blocks(site.hello, [b.paragraph("two")])
        await here.poll()
        return await hash_keys(keys)

    monkeypatch.setattr(here.kv, "digests", late)
    assert (await here.cycle.store_check.altered()).differences == []
    assert "two" in await said(here, "hello")


async def test_a_page_of_ours_under_a_former_slug_is_removed(world: World) -> None:
    """Once everything was read: it says itself that it is ours. Broken by marking every leftover."""
    site = await synced(world)
    assert await world.cycle.first_sync_done()
    copy = await world.kv.get("page:hello")
    await by_hand(world, page__old=copy, page__other="not even JSON")
    assert await store_differences(world) == [("former", "page:old"), ("leftover", "page:other")]
    composed = await world.ledger.call(world.cycle.compose_only)
    found = await world.cycle.store_check.compare(composed)
    await world.cycle.store_check.mark(found.differences)
    assert (await world.run(look=False)).deleted == 1
    assert "page:old" not in await world.keys() and "page:other" in await world.keys()
    await world.ledger.call(meta.put, Fact.FIRST_SYNC_AT, None)
    await by_hand(world, page__old=copy)
    assert ("leftover", "page:old") in await store_differences(world)
    assert site.hello in (copy or "")


async def test_a_store_that_is_not_ours_is_said_once(here: World) -> None:
    """Not a line for each of its keys. An empty ledger and an empty store agree."""
    await here.start()
    assert await store_differences(here) == []
    await here.stop()
    await synced(here)
    assert isinstance(here.kv, EmbeddedKV)
    await here.kv.read(lambda connection: connection.execute("DELETE FROM entries").rowcount)
    assert await store_differences(here) == [("store", here.kv.name)]


async def test_what_waits_to_be_written_is_named(tmp_path: Path) -> None:
    """A store that was away: the ledger knows what it owes."""
    kv = FlakyKV(tmp_path / "kv.db")
    async with a_world(tmp_path, kv=kv) as world:
        site = await synced(world)
        kv.is_down = True
        kv.fail(1, applied=False)
        world.workspace.append_blocks(site.hello, [b.paragraph("two")])
        world.workspace.trash(site.job)
        await world.poll()
        kv.heal()
        assert ("waiting", "page:hello") in await store_differences(world)


# --- once a day ---


async def compared_daily(world: World) -> bool:
    """Let the daemon do what it does with every tick. Out: whether it compared."""
    before = world.kv.commands
    await world.cycle.store_check.daily()
    return world.kv.commands > before


async def test_the_daemon_mends_the_store_once_a_day(world: World) -> None:
    """By itself, a day after the first sync and then daily, whatever restarts there were.

    Broken by not noting when it was done; by noting it in memory.
    """
    await synced(world)
    assert await world.cycle.first_sync_done()
    await by_hand(world, page__hello="?", page__parent=None)
    world.clock.advance(DAY - 1)
    assert not await compared_daily(world)
    world.clock.advance(1)
    assert await compared_daily(world)
    async with world.counted() as seen:
        assert (await world.run(look=False)).written.total() == 2
    assert seen == [] and "one" in await said(world, "hello")
    await world.stop()
    await world.start()
    world.clock.advance(DAY - 1)
    await world.cycle.publisher.heartbeat()
    assert world.cycle.lease.standing is Standing.OWNER
    assert not await compared_daily(world)
    world.clock.advance(1)
    assert await compared_daily(world)


async def test_only_the_owner_of_a_store_that_is_well_compares(tmp_path: Path) -> None:
    """Not before it owns it, not on standby, not while the store is away or refuses; then at the next tick."""
    kv = FlakyKV(tmp_path / "kv.db")
    async with a_world(tmp_path, kv=kv) as world:
        site = await synced(world)
        assert await world.cycle.first_sync_done()
        publisher = world.cycle.publisher
        world.clock.advance(DAY)
        for standing in (Standing.NEW, Standing.STANDBY):
            world.cycle.lease.standing = standing
            assert not await compared_daily(world)
        world.cycle.lease.standing = Standing.OWNER
        kv.is_down = True
        await world.cycle.store_check.daily()
        assert await world.ledger.call(meta.get, Fact.STORE_COMPARED_AT) is None
        kv.heal()
        kv.fail(1, applied=False)
        world.workspace.append_blocks(site.hello, [b.paragraph("two")])
        await world.poll()
        assert publisher.problem is not None and not await compared_daily(world)
        kv.heal()
        world.clock.advance(60)
        await world.run()
        assert await compared_daily(world)


async def test_the_schedule_compares_beside_the_cycles(tmp_path: Path) -> None:
    """A tick of its own; a sweep that is wished for at the same moment comes next, and is not lost."""
    async with a_world(tmp_path) as world:
        await synced(world)
        assert await world.cycle.first_sync_done()
        await by_hand(world, page__hello="?")
        world.clock.advance(DAY)
        settings = load_settings({"NOTION_TOKEN": "ntn_x", "NOTION_PAGES_DB": "0" * 32, "EMBEDDED_KV": "1"})
        vitals = Vitals(world.clock.monotonic(), 15.0, 900.0)
        schedule = Schedule(world.cycle, world.api, world.ledger, settings, world.clock, vitals)
        schedule._start_ticking()
        for name in ("compare", "sweep"):
            await schedule._scheduler.get_job(name).func()
        schedule._scheduler.shutdown(wait=False)
        await schedule._turn(schedule._take())
        assert schedule._upkeep is not None and schedule._upkeep.get_name() == "compare"
        await schedule._upkeep
        assert schedule._wishes.sweep
        await schedule._turn(schedule._take())
        assert schedule._upkeep.get_name() == "sweep"
        await schedule._turn(Wishes(compare=True))
        await schedule._upkeep
        assert schedule._wishes.compare
        assert "one" in await said(world, "hello")


# --- Notion ---


async def test_a_ledger_without_sources_was_never_synced(here: World) -> None:
    """What is not there yet has not been read either. Fails when nothing at all counts as everything."""
    await here.start()
    assert not await here.cycle.first_sync_done()


async def test_a_ledger_that_is_up_to_date_agrees_with_notion(here: World) -> None:
    """Nothing to say, and one listing a data source, one a container, one GET a child page."""
    await synced(here)
    assert await here.cycle.first_sync_done()
    async with here.counted() as seen:
        assert await notion_differences(here) == []
    assert (
        sorted(request.path.split("/")[-1] for request in seen if request.method == "POST") == ["query"] * 2
    )
    assert len([r for r in seen if r.path.startswith("/pages/")]) == 2
    assert len([r for r in seen if r.path.endswith("/children")]) == 2
    assert len(seen) == 6


async def test_what_notion_shows_and_the_ledger_does_not_know_is_named(here: World) -> None:
    """Edited, added, removed: rows, child pages, rows of inline databases. Then `mark` and the ordinary way mend it.

    Broken by passing over stale rows, stale child pages, missing rows, absent rows, trashed children, containers.
    """
    site = await synced(here)
    workspace = here.workspace
    workspace.add_row(site.rows, "Fourth", {"slug": "fourth"})
    fifth = workspace.add_row(site.rows, "Fifth", {"slug": "fifth"})
    here.clock.advance(OLD)
    await here.settle()
    assert await here.cycle.first_sync_done()
    workspace.append_blocks(site.hello, [b.paragraph("two")])
    workspace.append_blocks(site.child, [b.paragraph("two")])
    workspace.add_row(site.job_rows, "Plotter", {"slug": "plotter"})
    workspace.trash(fifth)
    workspace.trash(site.grandchild)
    other = workspace.create_page(site.hello, "Other")
    here.clock.advance(OLD)
    found = await here.cycle.notion_check.compare()
    assert named(found) == sorted(
        [
            ("stale", "hello"),
            ("stale", "parent/child"),
            ("missing", "Plotter"),
            ("gone", "fifth"),
            ("gone", "parent/child/grandchild"),
        ]
    )
    await here.cycle.notion_check.mark(found.differences)
    await here.run(look=False)
    assert "two" in await said(here, "hello") and "two" in await said(here, "parent/child")
    await here.settle()
    slugs = await here.slugs()
    assert "parent/plotter" in slugs and "hello/other" in slugs and other
    assert not {"fifth", "parent/child/grandchild"} & slugs
    await here.sweep()
    assert await notion_differences(here) == []


def forget_child(db: Connection, parent: str, child: str) -> None:
    """As if a page had never been heard of."""
    db.execute(delete(Link).where(Link.parent_id == parent, Link.child_id == child))
    db.execute(delete(Page).where(Page.id == child))


async def test_a_child_page_that_no_stamp_tells_of_is_found(here: World) -> None:
    """Its parent's list of child pages is longer than the ledger's."""
    site = await synced(here)
    await here.cycle.first_sync_done()
    await here.ledger.call(forget_child, site.parent, site.child)
    assert await notion_differences(here) == [("stale", "parent")]


async def test_what_the_ledger_knows_to_be_owed_is_not_said_twice(here: World) -> None:
    """A page that could not be read, and was edited again since; before the first sync, that it was not complete."""
    site = Site(here)
    await here.start()
    assert await notion_differences(here) == [("unread", "the site")]
    await here.catch_up()
    here.sandbox.faults.add(500, path=f"{site.hello}/children", times=100)
    here.workspace.append_blocks(site.hello, [b.paragraph("two")])
    await here.poll()
    here.clock.advance(61)
    here.workspace.append_blocks(site.hello, [b.paragraph("three")])
    found = await here.cycle.notion_check.compare()
    assert named(found) == [("unread", "hello")] and "500" in found.differences[0].told


async def test_a_value_that_was_computed_is_compared(here: World) -> None:
    """A property that moves no stamp: the listing that carries it tells."""
    site = Site(here)
    await here.start()
    await here.settle()
    assert await here.cycle.first_sync_done()
    here.workspace.set_computed(site.hello, "total", 7)
    here.clock.advance(OLD)
    (found,) = (await here.cycle.notion_check.compare()).differences
    assert (found.kind, found.name) == (Kind.STALE, "hello") and "computed" in found.told


async def test_a_row_that_only_the_listing_lacks_is_not_gone(tmp_path: Path) -> None:
    """Absence from a listing is no proof: the page itself is asked. Broken by believing the listing."""
    async with a_world(tmp_path, habits=Habits(query_lag_seconds=100.0)) as world:
        site = await synced(world)
        assert await world.cycle.first_sync_done()
        world.workspace.add_row(site.rows, "New", {"slug": "new"})
        world.clock.advance(150)
        await world.catch_up()
        assert "new" in await world.slugs()
        world.sandbox.habits = replace(world.sandbox.habits, query_lag_seconds=300.0)
        assert await notion_differences(world) == []


async def test_what_does_not_answer_is_neither_right_nor_wrong(here: World) -> None:
    """A listing that fails is named; the rest is compared, and a refused token ends it all."""
    site = await synced(here)
    assert await here.cycle.first_sync_done()
    here.workspace.append_blocks(site.child, [b.paragraph("two")])
    here.clock.advance(61)
    here.sandbox.faults.add(500, path=f"{site.rows}/query", times=100)
    assert await notion_differences(here) == [("stale", "parent/child"), ("unknown", site.rows)]
    here.workspace.revoke_token()
    with pytest.raises(NotionUnauthorized):
        await here.cycle.notion_check.compare()


async def test_removals_that_are_held_are_named(here: World) -> None:
    """They differ, and no repair mends them."""
    site = await synced(here, rows=4)
    assert await here.cycle.first_sync_done()
    for row in here.workspace.rows(site.rows):
        here.workspace.unshare(row)
    await here.sweep()
    found = await notion_differences(here)
    assert {name for kind, name in found if kind == "held"} == {
        "hello",
        "parent",
        *(f"row-{n}" for n in range(4)),
    }
    assert len({name for _, name in found}) == len(found)


async def test_a_daemon_that_looked_later_is_believed(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GET is under way while the daemon beside this reads what was edited since. Broken by not comparing dates."""
    site = await synced(here)
    assert await here.cycle.first_sync_done()
    ask = here.api.page

    async def slow(page_id: str, lane: Lane) -> Answer:
        answer = await ask(page_id, lane)
        if page_id == site.child and not edited:
            edited.append(page_id)
            here.clock.advance(61)
            here.workspace.append_blocks(site.child, [b.paragraph("two")])
            await here.poll()
        return answer

    edited: list[str] = []
    monkeypatch.setattr(here.api, "page", slow)
    assert (await here.cycle.notion_check.compare()).differences == []
    assert edited and "two" in await said(here, "parent/child")


# --- the command ---


@asynccontextmanager
async def an_app(world: World) -> AsyncIterator[App]:
    """What a command builds, beside the daemon of this world: same ledger, same store."""
    settings = {
        "NOTION_TOKEN": "ntn_sandbox",
        "NOTION_BASE_URL": world.url,
        "NOTION_PAGES_DB": world.sources[0][1],
        "EMBEDDED_KV": "1",
        "DATA_DIR": str(world.folder),
    }
    app = App(load_settings(settings), world.clock)
    try:
        await app.ledger.open()
        yield app
    finally:
        await app.close()


async def test_a_ledger_that_has_seen_nothing_does_not_agree(here: World) -> None:
    """However equal an empty ledger and an empty store are; mending it is a first sync."""
    Site(here)
    async with an_app(here) as app:
        told = await verify_site(app)
        assert named(told.found) == [("unread", "pages"), ("unread", "the site")] and len(told.left) == 2
        mended = await verify_site(app, repair=True)
        assert mended.left == [] and not mended.by_owner
    assert {"hello", "parent/child/grandchild"} <= await here.slugs()


async def test_another_daemons_store_is_not_taken(here: World) -> None:
    """With another ledger, and alive: nothing is marked, written or waited for. When it has fallen silent it is taken.

    Broken by not asking who lives; by marking in a ledger that nobody writes from.
    """
    site = await synced(here)
    await here.kill()
    other = Owner(41, "d-other", "l-other", "c-other", here.clock.now().timestamp())
    embedded_store(here.folder).put(OWNER_KEY, other.to_json())
    here.workspace.append_blocks(site.hello, [b.paragraph("two")])
    before, ledger = await dump(here), ledger_of(here)
    async with an_app(here) as app:
        told = await verify_site(app, repair=True)
        assert told.by_owner and named(told.found) == [("stale", "hello"), ("store", "embedded")]
        assert len(told.left) == 2 and ledger_of(here) == ledger
        assert (await dump(here), await here.kv.read_owner()) == (before, other)
        here.clock.advance(OLD)
        assert (await verify_site(app, repair=True)).left == []
        taken = await here.kv.read_owner()
        assert taken is not None and taken.token > 41
    assert "two" in await said(here, "hello")


async def test_a_daemon_that_does_not_do_its_work_is_not_waited_for_long(here: World) -> None:
    """It owns the store and lives, as far as anybody can tell: after a minute what is left is said."""
    await synced(here)
    await by_hand(here, page__hello="?")
    async with an_app(here) as app:
        seconds = here.clock.monotonic()
        told = await verify_site(app, repair=True)
        assert told.by_owner and here.clock.monotonic() - seconds < 120
        assert [(d.kind, d.name) for d in told.left] == [(Kind.WAITING, "page:hello")]
    assert await here.kv.get("page:hello") == "?"
    await here.run()
    assert "one" in await said(here, "hello")


async def test_a_row_that_came_back_a_moment_ago_is_named_and_not_judged(here: World) -> None:
    """Listings lag, so for minutes nobody can tell; `verify` says so instead of that everything agrees.

    Fails when what cannot be believed yet is passed over.
    """
    site = await synced(here)
    here.workspace.trash(site.hello)
    here.clock.advance(OLD)
    await here.sweep()
    assert "hello" not in await here.slugs()
    here.workspace.restore(site.hello)
    here.clock.advance(1.0)
    found = await here.cycle.notion_check.compare()
    (one,) = [d for d in found.differences if d.kind is Kind.UNSETTLED]
    assert not one.counts and "the next sweep decides" in one.told
    here.clock.advance(OLD)
    found = await here.cycle.notion_check.compare()
    assert [d.kind for d in found.differences] == [Kind.MISSING]
