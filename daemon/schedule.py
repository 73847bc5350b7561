"""When work is done: ticks of APScheduler and requests of people become wishes, and one loop fulfils them.

Nothing runs beside itself: a tick or a trigger that arrives while a cycle runs is remembered and joins the next one,
a tick that comes late is skipped, not replayed. Sweeps run beside the cycles, within their share of the budget.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger

from daemon.clock import Clock
from daemon.config import Settings
from daemon.cron import cron_trigger
from daemon.kv.base import KVError
from daemon.ledger import links, sources
from daemon.ledger.ledger import Ledger, LedgerError
from daemon.notion.api import NotionApi
from daemon.notion.errors import NotionError
from daemon.sync.cycle import Cycle, Summary
from daemon.vitals import Vitals

log = structlog.get_logger(__name__)
TRASH_INTERVAL_SECONDS = 60.0
COMPARE_TICK_SECONDS = 300.0
"""How often it is looked whether the store is to be compared: the ledger remembers when it was, starts do not count."""
STOPPED_RETRY_SECONDS = 60.0
"""How often Notion is asked again after it refused the token: often enough to notice that it was mended."""
BACKGROUND_SHARE = 5
"""Polling, and sweeping, may each use a fifth of the request budget."""


@dataclass
class Wishes:
    """What the next turn of the loop is to do."""

    look: bool = False
    sweep: bool = False
    trash: bool = False
    compare: bool = False
    force: bool = False
    waiters: list[asyncio.Future[Summary]] = field(default_factory=list)


class Schedule:
    """The loop and its ticks. `request` may be called at any time from the same event loop."""

    def __init__(
        self, cycle: Cycle, api: NotionApi, ledger: Ledger, settings: Settings, clock: Clock, vitals: Vitals
    ) -> None:
        self._cycle = cycle
        self._api = api
        self._ledger = ledger
        self._settings = settings
        self._clock = clock
        self._vitals = vitals
        self._wishes = Wishes(look=True, sweep=False, force=settings.force_full_sync)
        self._wake = asyncio.Event()
        self._stopping = False
        self._upkeep: asyncio.Task[None] | None = None
        self._not_before = float("-inf")
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self.on_cycle: Callable[[Summary], None] = lambda _: None

    # Wishes ------------------------------------------------------------------------------------------------------

    def request(self, *, force: bool = False) -> asyncio.Future[Summary]:
        """Look for changes now. The future is done when what was found has left the backlog; requests join."""
        waiter: asyncio.Future[Summary] = asyncio.get_running_loop().create_future()
        self._wishes.waiters.append(waiter)
        self._wish(look=True, force=force)
        return waiter

    def _wish(
        self,
        *,
        look: bool = False,
        sweep: bool = False,
        trash: bool = False,
        compare: bool = False,
        force: bool = False,
    ) -> None:
        wishes = self._wishes
        wishes.look, wishes.sweep = wishes.look or look, wishes.sweep or sweep
        wishes.trash, wishes.compare = wishes.trash or trash, wishes.compare or compare
        wishes.force = wishes.force or force
        self._wake.set()

    def _take(self) -> Wishes:
        wishes, self._wishes = self._wishes, Wishes()
        self._wake.clear()
        return wishes

    # Ticks -------------------------------------------------------------------------------------------------------

    def _start_ticking(self) -> None:
        settings = self._settings
        self._every("poll", IntervalTrigger(seconds=settings.poll_interval_seconds), look=True)
        self._every("sweep", IntervalTrigger(seconds=settings.sweep_interval_seconds), sweep=True)
        trash_seconds = min(TRASH_INTERVAL_SECONDS, settings.sweep_interval_seconds)
        self._every("trash", IntervalTrigger(seconds=trash_seconds), trash=True)
        self._every("compare", IntervalTrigger(seconds=COMPARE_TICK_SECONDS), compare=True)
        self._every("heartbeat", IntervalTrigger(seconds=settings.heartbeat_seconds))
        if settings.full_sync_cron:
            self._every("full", cron_trigger(settings.full_sync_cron), force=True)
        self._scheduler.start()

    def _every(self, name: str, trigger: BaseTrigger, **wish: bool) -> None:
        async def tick() -> None:
            self._wish(**wish)

        self._scheduler.add_job(
            tick, trigger, id=name, misfire_grace_time=None, coalesce=True, max_instances=1
        )

    async def _stretch(self) -> None:
        """Stretch the intervals when keeping them would cost more than their share of the budget."""
        rows = await self._ledger.call(sources.data_sources)
        asked = sum(1 for row in rows if row.configured) + 1
        share_per_second = max(self._api.limiter.budget / BACKGROUND_SHARE, 1.0) / 60.0
        vitals, settings = self._vitals, self._settings
        poll = max(settings.poll_interval_seconds, asked / share_per_second)
        sweep = max(settings.sweep_interval_seconds, self._cycle.sweep.requests / share_per_second)
        self._api.limiter.reserve = round(asked * 60.0 / poll + 0.5)
        if (poll, sweep) != (vitals.poll_seconds, vitals.sweep_seconds) and self._scheduler.running:
            self._scheduler.reschedule_job("poll", trigger=IntervalTrigger(seconds=poll))
            if sweep != vitals.sweep_seconds:
                self._scheduler.reschedule_job("sweep", trigger=IntervalTrigger(seconds=sweep))
            log.info(
                "intervals", action="intervals", poll_seconds=round(poll, 1), sweep_seconds=round(sweep, 1)
            )
        vitals.poll_seconds, vitals.sweep_seconds = poll, sweep

    # The loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until `stop`. Looks at once; one turn after the other."""
        self._start_ticking()
        self._wake.set()
        try:
            while not self._stopping:
                await self._wake.wait()
                if not self._stopping:
                    await self._turn(self._take())
        finally:
            self._scheduler.shutdown(wait=False)
            if self._upkeep is not None:
                self._upkeep.cancel()
                await asyncio.gather(self._upkeep, return_exceptions=True)

    def stop(self) -> None:
        """Take no more work; the turn that runs is ended by whoever waits for `run`."""
        self._stopping = True
        self._wake.set()

    async def _turn(self, wishes: Wishes) -> None:
        self._vitals.alive(self._clock.monotonic())
        is_done = False
        try:
            if await self._may_work():
                await self._work(wishes)
                is_done = True
        except LedgerError as error:
            log.error("the ledger cannot be used", action="ledger_failed", cause=error.cause, hint=error.hint)
            self._vitals.failed(str(error))
        except Exception as error:
            log.exception("a cycle crashed", action="cycle_crashed")
            self._vitals.failed(f"{type(error).__name__}: see the log")
        if not is_done:  # nobody wishes these again: they wait for the next turn
            self._wishes.force, self._wishes.sweep = (
                self._wishes.force or wishes.force,
                self._wishes.sweep or wishes.sweep,
            )
        self._wishes.waiters += [waiter for waiter in wishes.waiters if not waiter.done()]

    async def _may_work(self) -> bool:
        """Not on standby, nor soon after Notion refused the token."""
        if self._cycle.on_standby:
            try:
                await self._cycle.publisher.may_write()
            except KVError as error:
                log.warning("the key-value store does not answer", action="store_failed", error=str(error))
        self._vitals.on_standby = self._cycle.on_standby
        return not self._cycle.on_standby and self._clock.monotonic() >= self._not_before

    async def _work(self, wishes: Wishes) -> None:
        if wishes.force:
            await self._cycle.begin_force()
            wishes.sweep = True
        await self._stretch()
        self._start_upkeep(wishes)
        deadline = self._clock.monotonic() + self._vitals.poll_seconds
        try:
            summary = await self._cycle.run(deadline, look=wishes.look)
        except NotionError as error:
            self._not_before = self._clock.monotonic() + STOPPED_RETRY_SECONDS
            self._vitals.stopped(f"{error} {error.hint}")
            log.error(
                "Notion refuses: nothing is read, what is published stays",
                action="run_stopped",
                error=str(error),
            )
            return
        await self._cycle.publisher.heartbeat()
        await self._cycle.end_force()
        await self._cycle.keep(summary)
        self._vitals.held = len(await self._ledger.call(links.held_links))
        self._vitals.cycled(summary, self._clock)
        await self._go_on(wishes, summary)
        self.on_cycle(summary)

    async def _go_on(self, wishes: Wishes, summary: Summary) -> None:
        """More work at once while there is some that can be done; then whoever asked gets the answer."""
        if await self._cycle.is_done():
            if summary.problem is None and await self._cycle.first_sync_done():
                self._vitals.became_ready.set()
            for waiter in wishes.waiters:
                if not waiter.done():
                    waiter.set_result(summary)
        elif self._cycle.can_go_on():
            self._wake.set()

    # Upkeep ------------------------------------------------------------------------------------------------------

    def _start_upkeep(self, wishes: Wishes) -> None:
        if self._upkeep is not None and not self._upkeep.done():
            self._wish_again(wishes)
        elif wishes.compare:
            self._upkeep = asyncio.create_task(self._keep_up(self._cycle.store_check.daily()), name="compare")
            self._wish_again(Wishes(sweep=wishes.sweep))
        elif wishes.sweep:
            self._upkeep = asyncio.create_task(self._keep_up(self._cycle.sweep.run()), name="sweep")
        elif wishes.trash:
            self._upkeep = asyncio.create_task(self._keep_up(self._cycle.sweep.trash()), name="trash")

    def _wish_again(self, wishes: Wishes) -> None:
        """What cannot begin now begins when the upkeep that runs has ended, which wakes the loop."""
        self._wishes.sweep = self._wishes.sweep or wishes.sweep
        self._wishes.compare = self._wishes.compare or wishes.compare

    async def _keep_up(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except NotionError as error:
            log.warning("upkeep ended early", action="upkeep_failed", error=str(error), hint=error.hint)
        except Exception:
            log.exception("upkeep crashed", action="upkeep_crashed")
        self._cycle.changed = True
        self._wake.set()
