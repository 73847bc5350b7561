"""The guarantees, end to end: sandbox, ledger and store are real, only time is driven."""

from pathlib import Path
from typing import Any

import pytest

from daemon.demo import blocks as b
from daemon.demo.habits import Habits
from daemon.kv.base import KVUnavailable
from daemon.ledger import work
from daemon.sync.cycle import Cycle
from daemon.sync.lease import Standing
from daemon.sync.plan import Priority
from tests.support.site import Site, said, synced
from tests.support.world import OLD, World, a_world


def flush(folder: Path) -> None:
    """Lose everything that the store in this folder holds."""
    for file in folder.glob("kv.db*"):
        file.unlink()


@pytest.mark.parametrize("rows", [0, 250])
async def test_a_quiet_poll_costs_two_requests_and_no_command(tmp_path: Path, rows: int) -> None:
    """G6: one query for the data source and one search, whatever the size; the store is left alone."""
    async with a_world(tmp_path) as world:
        await synced(world, rows)
        async with world.counted() as seen:
            summary = await world.poll()
        assert [request.method for request in seen] == ["POST", "POST"]
        assert (summary.kv_commands, summary.read, summary.batches) == (0, 0, 0)


async def test_half_a_page_is_never_published(tmp_path: Path) -> None:
    """G3: one listing fails for good: the last good version stays whole, the rest goes on, then it recovers."""
    async with a_world(tmp_path) as world:
        site = await synced(world)
        before = await world.value("page:hello")
        toggle = world.workspace.children(site.hello)[1]
        world.workspace.append_blocks(site.hello, [b.paragraph("two")])
        world.workspace.append_blocks(site.job, [b.paragraph("other")])
        world.sandbox.faults.add(status=500, path=f"/blocks/{toggle}/children", times=1000)
        await world.poll()
        assert await world.value("page:hello") == before
        assert "other" in await said(world, "parent/printer")
        (trouble,) = await world.ledger.call(work.troubled)
        assert trouble["id"] == site.hello and trouble["reason"]
        world.sandbox.faults.clear()
        world.clock.advance(3600)
        await world.settle()
        assert "two" in await said(world, "hello")


async def test_a_kill_between_any_two_steps_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G4: stopped after the ledger commit and before the batch: the next start writes without reading again."""
    async with a_world(tmp_path) as world:
        site = await synced(world)
        world.workspace.append_blocks(site.hello, [b.paragraph("two")])

        async def killed(*_: Any) -> None:
            raise RuntimeError("killed")

        monkeypatch.setattr(Cycle, "_settle", killed)
        with pytest.raises(RuntimeError):
            await world.poll()
        monkeypatch.undo()
        await world.api.close()
        await world.ledger.close()
        await world.start()
        async with world.counted() as seen:
            await world.poll()
        assert "two" in await said(world, "hello") and len(seen) == 2


async def test_a_store_that_is_away_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """G5: what was read while the store was away is written when it is back, without a request to Notion."""
    async with a_world(tmp_path) as world:
        site = await synced(world)

        async def away(*_: Any) -> bool:
            raise KVUnavailable("the store is away")

        monkeypatch.setattr(type(world.kv), "apply", away)
        world.workspace.append_blocks(site.hello, [b.paragraph("two")])
        summary = await world.poll()
        assert summary.problem and summary.pending
        monkeypatch.undo()
        world.clock.advance(60)
        async with world.counted() as seen:
            await world.run(look=False)
        assert [r for r in seen if "search" in r.path or "query" in r.path] == []
        assert "two" in await said(world, "hello")


async def test_no_change_is_no_write(tmp_path: Path) -> None:
    """G7: rotating addresses of hosted files, read again, write nothing; a forced sync rewrites every key."""
    async with a_world(tmp_path) as world:
        site = Site(world)
        world.workspace.append_blocks(site.hello, [b.image(hosted=True)])
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        before = {key: await world.value(key) for key in await world.keys()}
        await world.ledger.call(work.make_due, [site.hello], Priority.FRESH, "test")
        summary = await world.poll()
        assert summary.read == 1 and summary.batches == 0
        await world.cycle.begin_force()
        await world.catch_up()
        await world.cycle.end_force()
        await world.catch_up()
        after = {key: await world.value(key) for key in await world.keys()}
        assert set(after) == set(before)
        assert [key for key in after if after[key]["syncedAt"] == before[key]["syncedAt"]] == []


async def test_what_is_gone_leaves_with_everything_under_it(tmp_path: Path) -> None:
    """Trash, moving out and unsharing one page are believed; a restored page comes back."""
    async with a_world(tmp_path) as world:
        site = await synced(world, rows=3)
        elsewhere = world.workspace.create_page(site.root, "Elsewhere")
        world.workspace.trash(site.parent)
        world.workspace.move(site.more[0], elsewhere)
        world.workspace.unshare(site.more[1])
        await world.sweep()
        assert await world.slugs() == {"hello", "row-2"}
        assert await world.value(f"db:{site.jobs}:cursor:_") is None
        assert {item["slug"] for item in (await world.value("pages:index"))["items"]} == {"hello", "row-2"}
        world.workspace.restore(site.parent)
        world.clock.advance(900)
        await world.sweep()
        assert {"parent", "parent/child", "parent/child/grandchild", "parent/printer"} <= await world.slugs()


async def test_a_trashed_row_in_a_lagging_query_does_not_come_back(tmp_path: Path) -> None:
    """Found gone by a GET: listings that are older than that are not believed."""
    async with a_world(tmp_path, habits=Habits(query_lag_seconds=200, search_lag_seconds=200)) as world:
        site = await synced(world)
        world.workspace.append_blocks(site.hello, [b.paragraph("two")])
        world.clock.advance(201)
        await world.poll()
        world.workspace.trash(site.hello)
        await world.cycle.reader._ledger.call(work.make_due, [site.hello], Priority.FRESH, "test")
        await world.poll()
        assert "hello" not in await world.slugs()
        for _ in range(20):
            await world.poll()
            assert "hello" not in await world.slugs()


async def test_the_newest_daemon_writes_and_the_old_one_stands_by(tmp_path: Path) -> None:
    """G9: a second daemon on the store takes it with its first write; the first finds out at its next batch."""
    async with a_world(tmp_path / "one") as world:
        site = await synced(world)
        (tmp_path / "two").mkdir()
        other = World(
            world.clock,
            world.sandbox,
            tmp_path / "two",
            world.url,
            world.trust,
            100_000,
            world.kv,
            world.sources,
        )
        await other.start()
        await other.catch_up()
        assert other.cycle.lease.standing is Standing.OWNER
        world.workspace.append_blocks(site.hello, [b.paragraph("two")])
        await world.poll()
        assert world.cycle.on_standby and "two" not in await said(world, "hello")
        await other.run()
        assert "two" in await said(world, "hello")
        assert not await world.cycle.lease.may_write()
        await other.stop()
        assert await world.cycle.lease.may_write()


async def test_a_flushed_store_is_rewritten_from_the_ledger(tmp_path: Path) -> None:
    """G10: seen at the next start by the ids in `sync:owner`; no page is read again."""
    async with a_world(tmp_path) as world:
        await synced(world)
        keys = await world.keys()
        await world.stop()
        await world.kv.close()
        flush(tmp_path)
        await world.start()
        async with world.counted() as seen:
            await world.catch_up()
        assert await world.keys() == keys and len(seen) == 2
