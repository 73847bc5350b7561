"""A sync that ends: the same cycles as the daemon's, until nothing is left to do."""

import asyncio

import structlog

from daemon.app import App
from daemon.ledger import work
from daemon.notion.limiter import Lane

log = structlog.get_logger(__name__)
SETTLING_SECONDS = 300.0
"""How long to wait, in all, for reads that cannot be trusted yet: a site that never rests must not keep us."""
TURN_SECONDS = 15.0


async def sync_until_done(
    app: App, stop: asyncio.Event, *, force: bool = False, only: str | None = None
) -> bool:
    """Look, read, write until nothing is left, deletions included. Out: whether everything went well.

    Raises NotionError when Notion refuses the token.
    """
    cycle, clock = app.cycle, app.clock
    if force or app.settings.force_full_sync:
        await cycle.begin_force()
    swept, patience = only is not None, clock.monotonic() + SETTLING_SECONDS
    look = True
    problem: str | None = None
    while not stop.is_set():
        summary = await cycle.run(clock.monotonic() + TURN_SECONDS, look=look, only=only)
        await cycle.end_force()
        await cycle.keep(summary)
        look, problem = False, summary.problem
        if not await cycle.is_done(only):
            if cycle.can_go_on():
                continue
            break
        if not swept:
            swept = True
            cycle.sweep.lane = Lane.READ
            await cycle.sweep.run()
            cycle.changed = True
        elif not await _wait_to_settle(app, stop, patience, only):
            break
    await cycle.first_sync_done()
    left = await app.ledger.call(work.backlog, app.api.notion_now())
    return problem is None and left.failing == 0 and not stop.is_set()


async def _wait_to_settle(app: App, stop: asyncio.Event, patience: float, only: str | None) -> bool:
    """Wait until the next untrusted read can be repeated. False: there is none, or patience is at its end."""
    due_at = await app.ledger.call(work.next_due_at, failing=False, only=only)
    if due_at is None:
        return False
    wait_seconds = max(due_at - app.api.notion_now(), 0.0) + 0.5
    if app.clock.monotonic() + wait_seconds > patience:
        return False
    log.info("waiting for the last edits to settle", action="settling", seconds=round(wait_seconds, 1))
    sleeping = asyncio.ensure_future(app.clock.sleep_until(app.clock.monotonic() + wait_seconds))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({sleeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in (sleeping, stopping):
        task.cancel()
    return True
