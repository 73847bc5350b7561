"""A Notion that takes its time: looking for changes may last longer than a poll interval."""

from pathlib import Path

from tests.support.world import OLD, POLL_SECONDS, a_world


async def test_reading_has_its_time_however_long_looking_takes(tmp_path: Path) -> None:
    """A cycle reads for a poll interval after it has looked. Fails when looking is taken from that time."""
    async with a_world(tmp_path) as world:
        source = world.add_source()
        world.workspace.add_row(source, "Here", {"slug": "here"})
        world.clock.advance(OLD)
        await world.start()
        await world.catch_up()

        def take_your_time(_method: str, path: str) -> None:
            if path == "/search" or path.endswith("/query"):
                world.clock.advance(POLL_SECONDS + 1.0)

        world.sandbox.watchers.append(take_your_time)
        world.workspace.add_row(source, "Later", {"slug": "later"})
        for _ in range(3):
            await world.poll()
        assert "later" in await world.slugs()
