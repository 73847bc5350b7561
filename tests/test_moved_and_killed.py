"""A row that became a child page has no properties any more: a kill in the middle of finding that out loses nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.ledger.ledger import Ledger
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


def die_after(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let nothing be kept in the ledger after a question of this name was committed."""
    call, died = Ledger.call, False

    async def until_then(self: Ledger, question: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal died
        if died:
            raise KilledError
        answer = await call(self, question, *args, **kwargs)
        died = question.__name__ == name
        return answer

    monkeypatch.setattr(Ledger, "call", until_then)


async def test_a_row_becomes_a_child_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its new place and that it has to be read again are one commit.

    Fails when they are two, and the process dies in between.
    """
    async with a_world(tmp_path) as world:
        await moved_away(world)
        with monkeypatch.context() as patch:
            die_after(patch, "_add_child")
            with pytest.raises(KilledError):
                await world.sweep()
        await world.kill()
        await world.start()
        for _ in range(2):
            await world.settle()
            await world.sweep()
        assert "tagged" not in await world.slugs()
        moved = await world.value("page:home/tagged")
        assert (moved["meta"]["type"], moved["meta"]["tags"]) == ("child", [])
