"""Batches that the store took although nobody heard of it: what their keys hold is unknown until written again."""

from pathlib import Path

import pytest

from daemon.demo.habits import Habits
from tests.support.flaky_kv import FlakyKV
from tests.support.oracle import check
from tests.support.world import OLD, World, a_world


async def a_quiet_site(world: World) -> str:
    """Two rows, written and settled. Out: their data source."""
    source = world.add_source(schema={"slug": "rich_text", "total": "number"})
    world.workspace.add_row(source, "One", {"slug": "one", "total": 1})
    world.workspace.add_row(source, "Two", {"slug": "two"})
    world.clock.advance(OLD)
    await world.start()
    await world.catch_up()
    return source


async def answer_lost(world: World, kv: FlakyKV, *, killed: bool) -> None:
    """What a sweep finds is applied; the daemon dies before it can mark it, or only loses the answer."""
    world.clock.advance(OLD)
    await world.cycle.sweep.run()
    world.cycle.changed = True
    kv.fail(1, applied=True)
    await world.run()
    if killed:
        await world.kill()
        await world.start()


@pytest.mark.parametrize("killed", [True, False])
async def test_a_page_that_goes_before_its_first_batch_is_marked_leaves_nothing(
    tmp_path: Path, killed: bool
) -> None:
    """Fails when a key that was never marked as written is forgotten as soon as nobody wants it."""
    async with a_world(tmp_path, kv=(kv := FlakyKV(tmp_path / "kv.db"))) as world:
        source = await a_quiet_site(world)
        row = world.workspace.add_row(source, "Short", {"slug": "short"})
        await answer_lost(world, kv, killed=killed)
        assert "page:short" in await world.keys()
        world.workspace.trash(row)
        world.clock.advance(OLD)
        await world.sweep()
        await check(world)


@pytest.mark.parametrize("killed", [True, False])
async def test_a_page_that_comes_back_before_its_deletion_is_marked_is_written(
    tmp_path: Path, killed: bool
) -> None:
    """Fails when a key still counts as holding what it held before a deletion was sent."""
    habits = Habits(trash_moves_stamp=False)
    async with a_world(tmp_path, habits=habits, kv=(kv := FlakyKV(tmp_path / "kv.db"))) as world:
        source = await a_quiet_site(world)
        row = world.workspace.rows(source)[0]
        world.workspace.trash(row)
        await answer_lost(world, kv, killed=killed)
        assert "page:one" not in await world.keys()
        world.workspace.restore(row)
        world.clock.advance(OLD)
        await world.sweep()
        await check(world)


@pytest.mark.parametrize("killed", [True, False])
async def test_a_change_taken_back_before_its_batch_is_marked_is_not_shown(
    tmp_path: Path, killed: bool
) -> None:
    """Fails when a key still counts as holding what it held before another value was sent."""
    async with a_world(tmp_path, kv=(kv := FlakyKV(tmp_path / "kv.db"))) as world:
        source = await a_quiet_site(world)
        row = world.workspace.rows(source)[0]
        world.workspace.set_computed(row, "total", 2)
        await answer_lost(world, kv, killed=killed)
        assert (await world.value("page:one"))["meta"]["properties"]["total"] == 2
        world.workspace.set_computed(row, "total", 1)
        world.clock.advance(OLD)
        await world.sweep()
        assert (await world.value("page:one"))["meta"]["properties"]["total"] == 1
