"""Hundreds of random edits, with accidents all the way: in the end the store holds what the rules say."""

import random
from pathlib import Path

import pytest

from daemon.demo.habits import Habits
from tests.support.calm import check_at_rest
from tests.support.editor import Editor
from tests.support.world import a_world

STEPS = 60
FAILURES: list[int | str] = [500, 502, 504, 429, "cut", "reset"]


MOODY = Habits(
    query_lag_seconds=100.0,
    search_lag_seconds=200.0,
    search_forgets=0.3,
    short_pages=True,
    cursor_dies=0.02,
)


@pytest.mark.parametrize("seed", range(4))
async def test_a_storm(tmp_path: Path, seed: int) -> None:
    """Edits, kills, a failing Notion, a lagging index: after it all has calmed down every key is right."""
    rng = random.Random(seed)
    async with a_world(tmp_path, habits=MOODY if seed % 2 else Habits()) as world:
        editor = Editor(world.workspace, rng, tmp_path / "ledger.db")
        world.sources = editor.configured
        await world.start()
        for number in range(STEPS):
            editor.step()
            world.sandbox.faults.random(rng.choice([0, 0, 0.1, 0.3]), FAILURES, seed=number)
            world.clock.advance(rng.choice([1, 15, 15, 40, 90]))
            await world.run()
            if rng.random() < 0.1:
                await world.kill()
                await world.start()
            if rng.random() < 0.1:
                await world.sweep()
        await check_at_rest(world)
