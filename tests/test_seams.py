"""Where two parts meet: files that are waited for and pages that move, drafts and lost ledgers, jobs and what fails."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from daemon.ledger import records
from daemon.ledger.ledger import LedgerError
from daemon.site.rules import Condition, Rule
from tests.support.world import OLD, World, a_world

PUBLISHED = Rule((Condition("Status", ("Published",)),))
SCHEMA: dict[str, Any] = {
    "slug": "rich_text",
    "Status": {"status": {"options": ["Draft", "Published", "Live"]}},
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Nothing read yet."""
    async with a_world(tmp_path) as made:
        yield made


# The ledger fails ----------------------------------------------------------------------------------------------------


async def test_an_edit_is_published_although_the_ledger_failed_when_the_site_was_worked_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page was read and is not due any more; the disk was full one moment later. The next cycle publishes it.

    Fails when a cycle counts the news as worked out before it is.
    """
    row = world.workspace.add_row(world.add_source(), "Old", {"slug": "row"})
    world.clock.advance(OLD)
    await world.start()
    await world.settle()
    world.workspace.set_title(row, "New")
    with monkeypatch.context() as patch:
        patch.setattr(records, "store_wanted", _full)
        with pytest.raises(LedgerError):
            await world.poll(400.0)
    await world.poll()
    assert (await world.value("page:row"))["meta"]["title"] == "New"


def _full(*_: object) -> int:
    raise LedgerError("the ledger cannot be used: database or disk is full", "Free some space.")
