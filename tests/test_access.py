"""Access that is taken away and given back: no stamp tells of either."""

from pathlib import Path

import pytest

from daemon.demo import blocks as b
from daemon.ledger import links
from tests.support.calm import check_at_rest
from tests.support.world import OLD, World, a_world


async def a_page_with_members(world: World, rows: int) -> tuple[str, str]:
    """A synced row that holds a child page and, in a toggle, a database. Out: their ids."""
    workspace = world.workspace
    row = workspace.add_row(
        world.add_source(), "Home", {"slug": "home"}, blocks=[b.paragraph("one"), b.toggle("more")]
    )
    child = workspace.create_page(row, "Child", blocks=[b.paragraph("inside")])
    database, source = workspace.create_database(workspace.children(row)[1], "Jobs", {"slug": "rich_text"})
    for number in range(rows):
        workspace.add_row(source, f"Job {number}")
    world.clock.advance(OLD)
    await world.start()
    await world.catch_up()
    return child, database


@pytest.mark.parametrize("what", ["child", "database"])
async def test_what_disappeared_from_a_page_is_back_within_a_sweep_of_being_shared_again(
    tmp_path: Path, what: str
) -> None:
    """Also after days. Fails when the sweep does not look again for what it found gone."""
    async with a_world(tmp_path) as world:
        child, database = await a_page_with_members(world, rows=2)
        gone, key = {
            "child": (child, "page:home/child"),
            "database": (database, f"db:{database}:cursor:_"),
        }[what]
        before = await world.keys()
        world.workspace.unshare(gone)
        for _ in range(2):
            world.clock.advance(OLD)
            await world.sweep()
        assert key not in await world.keys()
        world.clock.advance(86_400.0 * 3)
        await world.sweep()
        world.workspace.share(gone)
        await world.sweep()
        assert await world.keys() == before
        async with world.counted() as seen:
            await world.sweep()
        assert not [request for request in seen if request.path == f"/blocks/{gone}"]


async def test_what_a_person_let_go_comes_back_too(tmp_path: Path) -> None:
    """The same after `confirm-removals`. Fails when confirming does not remember what it lets go."""
    async with a_world(tmp_path) as world:
        _, database = await a_page_with_members(world, rows=4)
        before = await world.keys()
        world.workspace.unshare(database)
        for _ in range(2):
            world.clock.advance(OLD)
            await world.sweep()
        assert await world.ledger.call(links.held_links)
        await check_at_rest(world)
        assert f"db:{database}:cursor:_" not in await world.keys()
        world.workspace.share(database)
        await world.sweep()
        assert await world.keys() == before
