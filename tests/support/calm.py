"""Lets a world come to rest: everything answers again, time passes, and what is held is let go if it is really gone."""

from collections.abc import Callable

from daemon.ledger import links
from tests.support.oracle import Oracle, check
from tests.support.world import OLD, World

ROUNDS = 2
"""The first makes up for what failed (no retry waits longer than an hour), the second finds what it brought up."""


async def calm(world: World) -> None:
    """Nothing is edited and nothing fails any more: wait, catch up, sweep."""
    world.sandbox.faults.clear()
    for _ in range(ROUNDS):
        world.clock.advance(OLD)
        await world.cycle.publisher.heartbeat()
        if world.cycle.on_standby:  # as the schedule does: a flushed store is nobody's, and may be taken
            await world.cycle.lease.may_write()
        await world.settle()
        await world.sweep()
    await world.settle()


async def confirm(world: World) -> int:
    """What an operator does about held removals: look, and confirm. Out: how many were held.

    Raises AssertionError when something is held that Notion still shows: that should have come back by itself.
    """
    held = await world.ledger.call(links.held_links)
    oracle = Oracle(world.workspace, world.sources)
    still_there = [link for link in held if oracle.lists(link[0], link[1])]
    assert not still_there, f"held although Notion shows it: {still_there}"
    if held:
        await world.ledger.call(links.confirm_removals)
        world.cycle.changed = True
    return len(held)


async def check_at_rest(
    world: World, *, trash_hides: bool = False, passes: Callable[[str], bool] = lambda _: True
) -> None:
    """Come to rest, then compare every key with what the rules say. Raises AssertionError with what differs."""
    await calm(world)
    if await confirm(world):
        await calm(world)
    await check(world, trash_hides=trash_hides, passes=passes)
