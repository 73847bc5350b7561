"""Work that ends: a sync by the same cycles as the daemon's, until nothing is left to do; a comparison, and mending."""

import asyncio
from dataclasses import dataclass, field

import structlog

from daemon.app import App, stop_signals
from daemon.ledger import sources, tasks, work
from daemon.notion.limiter import Lane
from daemon.sync.verify import Comparison, Difference, Kind

log = structlog.get_logger(__name__)
SETTLING_SECONDS = 300.0
"""How long to wait, in all, for reads that cannot be trusted yet: a site that never rests must not keep us."""
TURN_SECONDS = 15.0
OWNER_PATIENCE_SECONDS = 60.0
"""How long a daemon that owns the store is given to do what was marked for it."""


async def sync_until_done(
    app: App, stop: asyncio.Event, *, force: bool = False, only: str | None = None
) -> str | None:
    """Look, read, write until nothing is left, deletions included. Out: what went wrong; None: nothing did.

    Raises NotionError when Notion refuses the token.
    """
    cycle, clock = app.cycle, app.clock
    if force:
        await cycle.begin_force(only)
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
        if await _wait_for_files(app, stop):
            continue
        if not swept:
            swept = True
            cycle.sweep.lane = Lane.READ
            await cycle.sweep.run()
            cycle.changed = True
        elif not await _wait_to_settle(app, stop, patience, only):
            break
    await cycle.first_sync_done()
    if stop.is_set():
        return "Stopped before the end; the next run goes on where this one was."
    return problem or await cycle.shortfall()


async def _wait_for_files(app: App, stop: asyncio.Event) -> bool:
    """Let what is being copied end, well or badly. Out: whether that has left something to be written."""
    if app.files.are_off:
        return False
    copying = asyncio.ensure_future(app.files.copier.drain())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({copying, stopping}, return_when=asyncio.FIRST_COMPLETED)
    copying.cancel()
    stopping.cancel()
    if app.cycle.waits_for_files and not app.cycle.changed:
        await app.clock.sleep_until(app.clock.monotonic() + 1.0)  # for what could not even be tried
    return app.cycle.changed or app.cycle.waits_for_files


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


@dataclass
class Verification:
    """What was compared and found; after mending, what is `left`. `by_owner`: another daemon owns the store."""

    found: Comparison
    left: list[Difference] = field(default_factory=list)
    by_owner: bool = False


async def verify(app: App, *, repair: bool = False) -> Verification:
    """Compare store, ledger and Notion; with `repair` have mended what differs, and compare again.

    Beside a daemon on this ledger, or one that owns the store, nothing is written to it: work is marked in the
    ledger, and that daemon does it. Needs an open ledger. Raises KVError, and NotionError when Notion refuses the
    token.
    """
    found = await _compare(app)
    done = Verification(found, [difference for difference in found.differences if difference.counts])
    if not repair or not done.left:
        return done
    at_work = await app.ledger.call(tasks.present, app.clock.now().timestamp())
    done.by_owner = bool(at_work) or not await app.cycle.lease.is_free()
    if done.by_owner and any(difference.kind is Kind.STORE for difference in done.left):
        return done  # its owner has another ledger: what is marked in ours, nobody would do
    stop = asyncio.Event()
    async with stop_signals(stop):
        await (_hand_over if done.by_owner else _mend)(app, stop, done.left)
    if not stop.is_set():
        done.left = [difference for difference in (await _compare(app)).differences if difference.counts]
    return done


async def _compare(app: App) -> Comparison:
    site = await app.ledger.call(app.cycle.compose_only)
    known = {(row.name, row.ref) for row in await app.ledger.call(sources.sources) if not row.retired}
    text = "is in the settings, and was never looked at: run the daemon, `sync`, or --repair."
    unseen = [
        Difference(Kind.UNREAD, source.name, text)
        for source in app.settings.sources
        if (source.name, source.ref) not in known
    ]
    store, notion = await app.cycle.store_check.compare(site), await app.cycle.notion_check.compare()
    differences = [*unseen, *store.differences, *notion.differences]
    return Comparison(store.keys, notion.pages, differences)


async def _mend(app: App, stop: asyncio.Event, differences: list[Difference]) -> None:
    await app.open()
    await _mark(app, differences)
    await sync_until_done(app, stop)
    await app.tell_site()


async def _hand_over(app: App, stop: asyncio.Event, differences: list[Difference]) -> None:
    await _mark(app, differences)
    patience = app.clock.monotonic() + OWNER_PATIENCE_SECONDS
    while not stop.is_set() and app.clock.monotonic() < patience and not await app.cycle.is_done():
        await app.clock.sleep_until(app.clock.monotonic() + 0.5)


async def _mark(app: App, differences: list[Difference]) -> None:
    await app.cycle.store_check.mark(differences)
    await app.cycle.notion_check.mark(differences)
