"""Store and ledger mend each other: one of them is lost, flushed or exchanged, and nothing that lives is deleted."""

import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from daemon.config import load_settings
from daemon.kv.base import OWNER_KEY, Owner, Write
from daemon.schedule import Schedule, Wishes
from daemon.sync.lease import Standing
from daemon.sync.publish import BACK_OFF_LONGEST_SECONDS
from daemon.vitals import Vitals
from tests.support.flaky_kv import FlakyKV
from tests.support.site import synced
from tests.support.stores import embedded_store
from tests.support.world import OLD, World, a_world

FOREIGN = {
    "page:mine": '{"meta":{"notionId":"00000000-0000-0000-0000-000000000001"}}',
    "page:handmade": "<html>",
    "hubs:index": '{"items":[]}',
    "db:0:cursor:_": "{}",
    "session:1": "x",
}
"""Keys that somebody else keeps in the same store, some of them under names like ours."""


class WatchedKV(FlakyKV):
    """The embedded store; after every batch it is looked whether all keys that must live are still there."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.living: set[str] = set()
        self.deleted: list[str] = []
        self.lost: set[str] = set()

    async def apply(self, writes: Sequence[Write], owner: Owner) -> bool:
        applied = await super().apply(writes, owner)
        if applied:
            self.deleted += [write.key for write in writes if write.value is None]
            there = {key async for key in self.scan("*")}
            self.lost |= self.living - there
        return applied


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world whose store is watched."""
    async with a_world(tmp_path, kv=WatchedKV(tmp_path / "kv.db")) as made:
        yield made


def watched(world: World) -> WatchedKV:
    """The store of this world."""
    assert isinstance(world.kv, WatchedKV)
    return world.kv


def put_foreign(world: World) -> None:
    """Somebody else writes keys of their own."""
    for key, text in FOREIGN.items():
        embedded_store(world.folder).put(key, text)


async def contents(world: World) -> dict[str, str]:
    """Every key and its text, but for when it was written and by whom."""
    keys = sorted(await world.keys())
    texts = await world.kv.get_many(keys)
    return {key: re.sub('"syncedAt":"[^"]*"', "", text or "") for key, text in zip(keys, texts, strict=True)}


def schedule_of(world: World) -> Schedule:
    """The loop of the daemon, for turns one by one."""
    settings = load_settings({"NOTION_TOKEN": "ntn_x", "NOTION_PAGES_DB": "0" * 32, "EMBEDDED_KV": "1"})
    vitals = Vitals(world.clock.monotonic(), 15.0, 900.0)
    return Schedule(world.cycle, world.api, world.ledger, settings, world.clock, vitals)


async def turns(world: World, count: int, schedule: Schedule | None = None) -> None:
    """What the loop does with so many ticks of the poll."""
    schedule = schedule or schedule_of(world)
    for _ in range(count):
        world.clock.advance(15.0)
        await schedule._turn(Wishes(look=True))


async def test_republish_rebuilds_a_flushed_store_from_the_ledger_alone(world: World) -> None:
    """Every key as it was, without a request to Notion. Broken by not comparing the ids in `sync:owner`."""
    await synced(world)
    before = await contents(world)
    await world.stop()
    await watched(world).flush()
    put_foreign(world)
    await world.start()
    async with world.counted() as seen:
        assert await world.cycle.republish() == len(before)
    assert seen == []
    assert await contents(world) == {**before, **FOREIGN}
    assert watched(world).deleted == []


@pytest.mark.parametrize("seen_at", ["start", "heartbeat"])
@pytest.mark.parametrize("what", ["flushed", "exchanged"])
async def test_a_store_that_is_not_the_one_the_ledger_wrote_is_rewritten(
    world: World, seen_at: str, what: str
) -> None:
    """By itself, at the next start or heartbeat, without reading a page again; what else is there stays.

    Broken by comparing nothing at start; by taking the store after a heartbeat without comparing.
    """
    await synced(world)
    before = await contents(world)
    if seen_at == "start":
        await world.stop()
    await watched(world).flush()
    put_foreign(world)
    if what == "exchanged":
        other = Owner(41, "d-other", "l-other", "c-other", world.clock.now().timestamp(), released=True)
        embedded_store(world.folder).put(OWNER_KEY, other.to_json())
    if seen_at == "start":
        await world.start()
    async with world.counted() as seen:
        world.clock.advance(0.0 if seen_at == "start" else 300.0)
        await turns(world, 3)
    assert await contents(world) == {**before, **FOREIGN}
    assert {request.path.split("/")[-1] for request in seen} == {"query", "search"}
    assert watched(world).deleted == [] and world.cycle.lease.standing is Standing.OWNER


async def test_a_flush_is_not_seen_by_a_poll(world: World) -> None:
    """A quiet poll sends no command, so the next heartbeat is what notices."""
    await synced(world)
    schedule = schedule_of(world)
    await turns(world, 1, schedule)
    await watched(world).flush()
    await turns(world, 2, schedule)
    assert await world.keys() == set()


async def test_a_lost_ledger_is_rebuilt_without_deleting_what_lives(world: World) -> None:
    """Page by page, in many cycles; only the key that a page of ours has left goes, and only at the very end.

    Broken by searching for former slugs before all was read; by deleting every key the ledger does not know.
    """
    site = await synced(world, rows=6)
    put_foreign(world)
    before = await contents(world)
    await world.stop()
    (world.folder / "ledger.db").unlink()
    world.workspace.set_properties(site.hello, slug="moved")
    world.workspace.trash(site.more[0])
    world.clock.advance(OLD)
    store = watched(world)
    store.living = set(before) - {"page:hello", "page:row-0"}
    world.requests_per_minute = 4
    await world.start()
    rounds = 0
    while not (await world.cycle.is_done() and await world.cycle.first_sync_done()):
        await turns(world, 1)
        assert store.deleted == [] or await world.cycle.first_sync_done()
        rounds += 1
    await turns(world, 2)
    assert rounds > 2 and store.lost == set()
    assert store.deleted == ["page:hello"]
    after = await contents(world)
    assert set(after) == set(before) - {"page:hello"} | {"page:moved"}
    assert {key: after[key] for key in FOREIGN} == FOREIGN
    assert {key: after[key] for key in store.living if key.startswith("page:row")} == {
        key: before[key] for key in store.living if key.startswith("page:row")
    }
    site_now = await world.ledger.call(world.cycle.compose_only)
    left = (await world.cycle.store_check.compare(site_now)).differences
    ours = {key for key in FOREIGN if key != "session:1"}
    assert {difference.name for difference in left} == {*ours, "page:row-0"}
    assert not any(difference.counts for difference in left)


async def test_a_store_that_was_away_at_the_start_is_met_when_it_is_back(tmp_path: Path) -> None:
    """It is another one by then: every key is written, with no edit and no heartbeat to bring it to light.

    Fails when the store is compared with the ledger at the start alone.
    """
    kv = FlakyKV(tmp_path / "kv.db")
    async with a_world(tmp_path, kv=kv) as world:
        await synced(world)
        keys = await world.keys()
        await world.stop()
        await kv.flush()
        kv.is_down = True
        await world.start()
        await world.run()
        assert world.cycle.publisher.problem is not None
        kv.heal()
        await world.poll(BACK_OFF_LONGEST_SECONDS)
        await world.catch_up()
        assert await world.keys() == keys and world.cycle.publisher.failing_since is None


async def test_the_store_is_told_when_the_first_sync_is_over(world: World) -> None:
    """`sync:status` came with the batches of the first sync, and told of one under way; heartbeats are rare.

    Fails when it is left at that.
    """
    await synced(world)
    assert await world.value("sync:status") == {}
    schedule = schedule_of(world)
    world.cycle.lease.status_text = lambda: '{"ready": true}' if schedule._vitals.ready else "{}"
    await turns(world, 1, schedule)
    assert await world.value("sync:status") == {"ready": True}
