"""A row that became a child page has no properties any more: a kill in the middle of finding that out loses nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.ledger.ledger import Ledger
from daemon.notion.api import Answer
from daemon.sync.sweep import Sweep
from tests.support.world import OLD, World, a_world


class KilledError(Exception):
    """The process died here."""


async def moved_away(world: World) -> str:
    """A site in which the row `tagged` has just been moved below the row `home`. Out: its id."""
    rows = world.add_source("pages", {"slug": "rich_text", "tags": "multi_select"})
    home = world.workspace.add_row(rows, "Home")
    for number in range(8):
        world.workspace.add_row(rows, f"Other {number}")
    tagged = world.workspace.add_row(rows, "Tagged", {"tags": ["one"]})
    await world.start()
    await world.settle()
    assert (await world.value("page:tagged"))["meta"]["tags"] == ["one"]
    world.clock.advance(OLD)
    world.workspace.move(tagged, home)
    return tagged


class Death:
    """Comes after so many commits from the moment it is armed; after it nothing is kept in the ledger."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, commits: int) -> None:
        self._left = commits
        self._call = Ledger.call
        self.is_armed = self.has_come = False
        death = self

        async def call(self: Ledger, question: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            return await death.commit(self, question, *args, **kwargs)

        monkeypatch.setattr(Ledger, "call", call)

    async def commit(self, ledger: Ledger, question: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One question to the ledger, unless the process is dead."""
        if self.is_armed:
            self._left -= 1
            if self._left < 0:
                self.has_come = True
                raise KilledError
        return await self._call(ledger, question, *args, **kwargs)


@pytest.mark.parametrize("commits", [1, 2, 3, 4])
async def test_a_row_becomes_a_child_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commits: int
) -> None:
    """That a page left a place, and that it has to be read again, are one commit.

    Its new parent has been read before, so that only the sweep's look at the page itself tells that it is a row no
    more. Fails when they are two commits, and the process dies between them.
    """
    async with a_world(tmp_path) as world:
        await moved_away(world)
        await world.catch_up()
        with monkeypatch.context() as patch:
            death, take_note = Death(patch, commits), Sweep._take_note

            async def armed(self: Sweep, answer: Answer) -> None:
                death.is_armed = True
                await take_note(self, answer)

            patch.setattr(Sweep, "_take_note", armed)
            try:
                await world.sweep()
            except KilledError:
                assert death.has_come
        await world.kill()
        await world.start()
        for _ in range(2):
            await world.settle()
            await world.sweep()
        assert "tagged" not in await world.slugs()
        moved = await world.value("page:home/tagged")
        assert (moved["meta"]["type"], moved["meta"]["tags"]) == ("child", [])
