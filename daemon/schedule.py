"""When work is done: ticks of APScheduler and requests of people become wishes, and one loop fulfils them.

Nothing runs beside itself: a tick or a task that arrives while a cycle runs is remembered and joins the next one,
a tick that comes late is skipped, not replayed. Sweeps run beside the cycles, within their share of the budget.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy import Connection

from daemon.clock import Clock
from daemon.config import Settings
from daemon.cron import cron_trigger
from daemon.jobs import RETRIES, Jobs, NobodyWorksError, Request
from daemon.kv.base import KVError
from daemon.ledger import links, meta, sources
from daemon.ledger.ledger import Ledger, LedgerError
from daemon.ledger.meta import Fact
from daemon.ledger.tasks import Kind, Origin
from daemon.notion.api import NotionApi
from daemon.notion.errors import NotionError
from daemon.notion.limiter import Lane
from daemon.sync.cycle import Cycle, Summary
from daemon.sync.rulebook import RuleError
from daemon.vitals import Vitals

log = structlog.get_logger(__name__)
TRASH_INTERVAL_SECONDS = 60.0
COMPARE_TICK_SECONDS = 300.0
"""How often it is looked whether the store is to be compared: the ledger remembers when it was, starts do not count."""
ALARM_SECONDS = 0.1
"""The shortest wait for a date that comes: Notion's clock is known to about a second."""
STOPPED_RETRY_SECONDS = 60.0
"""How often Notion is asked again after it refused the token: often enough to notice that it was mended."""
_TICK: dict[str, Any] = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
"""How APScheduler is to tick: late is skipped, never replayed."""
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
    requests: list[Request] = field(default_factory=list)

    def join(self, other: "Wishes") -> None:
        """Wish for this too."""
        self.look, self.sweep = self.look or other.look, self.sweep or other.sweep
        self.trash, self.compare = self.trash or other.trash, self.compare or other.compare
        self.force = self.force or other.force
        self.requests += [request for request in other.requests if request not in self.requests]

    @property
    def only(self) -> str | None:
        """The part of the site to which all of it is restricted; None: it is not."""
        parts = {request.only for request in self.requests}
        return parts.pop() if len(parts) == 1 and not self.look else None


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
        self.jobs = Jobs(cycle, ledger, clock)
        self._wishes = Wishes(look=True, sweep=False, force=settings.force_full_sync)
        self._wake = asyncio.Event()
        self.jobs.wake = self._wake.set
        self._stopping = False
        self._upkeep: asyncio.Task[str | None] | None = None
        self._not_before = float("-inf")
        self._alarm: asyncio.Task[None] | None = None
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self.on_cycle: Callable[[Summary], None] = lambda _: None

    # Wishes ------------------------------------------------------------------------------------------------------

    def request(self, *, force: bool = False) -> asyncio.Future[Summary]:
        """Look for changes now. The future is done when what was found has left the backlog; requests join."""
        answer: asyncio.Future[Summary] = asyncio.get_running_loop().create_future()
        self._wishes.requests.append(Request(Kind.SYNC, {"force": force}, answer=answer))
        self._wake.set()
        return answer

    def wake(self, *, look: bool = False) -> None:
        """Something has become due: begin with it now; `look`: look for changes first."""
        self._wish(look=look)

    def _wish(
        self,
        *,
        look: bool = False,
        sweep: bool = False,
        trash: bool = False,
        compare: bool = False,
        force: bool = False,
    ) -> None:
        self._wishes.join(Wishes(look, sweep, trash, compare, force))
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
            self._scheduler.add_job(
                self._full_sync, cron_trigger(settings.full_sync_cron), id="full", **_TICK
            )
        self._scheduler.start()

    def _every(self, name: str, trigger: BaseTrigger, **wish: bool) -> None:
        async def tick() -> None:
            self._wish(**wish)

        self._scheduler.add_job(tick, trigger, id=name, **_TICK)

    async def _full_sync(self) -> None:
        """A scheduled full sync is a job like those that are asked for: kept, joined, tried again."""
        if self._cycle.on_standby:
            return  # it is the writer's
        try:
            await self.jobs.ask({"force": True, "sweep": True}, Origin.CRON, retries=RETRIES)
        except (LedgerError, NobodyWorksError) as error:
            log.warning("the scheduled full sync is wished for only", action="cron_failed", error=str(error))
            self._wish(force=True)

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
        with suppress(LedgerError):  # the first turn meets it too, and says so
            self._wishes.sweep = await self._ledger.call(self._is_sweep_overdue)
        try:
            while not self._stopping:
                await self._wake.wait()
                if not self._stopping:
                    await self._turn(self._take())
        finally:
            self._scheduler.shutdown(wait=False)
            for beside in filter(None, (self._upkeep, self._alarm)):
                beside.cancel()
                await asyncio.gather(beside, return_exceptions=True)
            with suppress(LedgerError):
                await self.jobs.give_back()

    def _is_sweep_overdue(self, db: Connection) -> bool:
        """Whether the last sweep is an interval ago: a daemon that is started more often than that sweeps too."""
        last = meta.get(db, Fact.SWEPT_AT) or meta.get(db, Fact.FIRST_SYNC_AT)
        now = self._clock.now().timestamp()
        return last is not None and now - float(last) >= self._settings.sweep_interval_seconds

    def stop(self) -> None:
        """Take no more work; the turn that runs is ended by whoever waits for `run`."""
        self._stopping = True
        self.jobs.close()
        self._wake.set()

    async def _turn(self, wishes: Wishes) -> None:
        self._vitals.alive(self._clock.monotonic())
        try:
            if await self._stands_by():
                await self._rest(wishes)
                return
            wishes.requests += await self.jobs.take()
            if wishes.requests or self._clock.monotonic() >= self._not_before:
                await self._work(wishes)
            else:
                self._wishes.join(wishes)
        except LedgerError as error:
            log.error("the ledger cannot be used", action="ledger_failed", cause=error.cause, hint=error.hint)
            self._vitals.failed(str(error))
            self._wishes.join(wishes)
        except RuleError:
            raise  # a wrong setting: nothing is done with it
        except Exception as error:
            log.exception("a cycle crashed", action="cycle_crashed")
            self._vitals.failed(f"{type(error).__name__}: see the log")
            self._wishes.join(Wishes(sweep=wishes.sweep, force=wishes.force))
            self._wishes.requests += await self.jobs.crashed(wishes.requests, error)

    async def _stands_by(self) -> bool:
        """Whether another daemon writes to the store; looks whether it still does."""
        if self._cycle.on_standby:
            try:
                # What is there may be another daemon's work, which the composition at hand knows nothing of.
                self._cycle.changed = await self._cycle.lease.may_write() or self._cycle.changed
            except KVError as error:
                log.warning("the key-value store does not answer", action="store_failed", error=str(error))
        self._vitals.on_standby = self._cycle.on_standby
        return self._cycle.on_standby

    async def _rest(self, wishes: Wishes) -> None:
        """Ask Notion nothing; leave what was asked of us to the daemon that writes, if it shares this ledger."""
        await self._cycle.abandon()
        if self._upkeep is not None:
            self._upkeep.cancel()
        requests, wishes.requests = wishes.requests, [r for r in wishes.requests if r.task_id is None]
        self._wishes.join(wishes)
        if len(requests) > len(wishes.requests):
            await self.jobs.give_back()

    async def _work(self, wishes: Wishes) -> None:
        look = await self._begin(wishes)
        await self._stretch()
        self._start_upkeep(wishes)
        looked_for = [request for request in wishes.requests if request.has_been_looked_for]
        deadline = self._clock.monotonic() + self._vitals.poll_seconds
        try:
            summary = await self._cycle.run(deadline, look=look, only=wishes.only)
        except NotionError as error:
            self._not_before = self._clock.monotonic() + STOPPED_RETRY_SECONDS
            self._vitals.stopped(f"{error} {error.hint}")
            log.error(
                "Notion refuses: nothing is read, what is published stays",
                action="run_stopped",
                error=str(error),
                hint=error.hint,
                next_try_in_seconds=STOPPED_RETRY_SECONDS,
            )
            needless = [request for request in looked_for if request.kind is not Kind.SYNC]
            await self._answer(wishes, needless, f"{error} {error.hint}")
            return
        await self._cycle.publisher.heartbeat()
        await self._cycle.end_force()
        await self._cycle.keep(summary)
        self._vitals.held = len(await self._ledger.call(links.held_links))
        self._vitals.cycled(summary, self._clock)
        self.jobs.note(wishes.requests, summary)
        await self._go_on(wishes, summary, looked_for)
        self._set_alarm()
        self.on_cycle(summary)

    def _set_alarm(self) -> None:
        """A turn when the site changes by itself, if that is before the next poll: Notion is not asked."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        site = self._cycle.site
        comes_at = None if site is None else site.changes_at
        wait_seconds = float("inf") if comes_at is None else comes_at - self._api.notion_now()
        if wait_seconds < self._vitals.poll_seconds:
            at = self._clock.monotonic() + max(wait_seconds, ALARM_SECONDS)
            self._alarm = asyncio.create_task(self._ring(at), name="alarm")

    async def _ring(self, at: float) -> None:
        await self._clock.sleep_until(at)
        self._wake.set()

    async def _go_on(self, wishes: Wishes, summary: Summary, looked_for: Sequence[Request]) -> None:
        """More work at once while there is some that can be done; then whoever asked gets the answer."""
        can_go_on = self._cycle.can_go_on()
        obstacle = None if can_go_on else await self._cycle.shortfall() or "Notion does not answer."
        await self._answer(wishes, looked_for, obstacle)
        if await self._cycle.is_done():
            if summary.problem is None and not self._vitals.ready and await self._cycle.first_sync_done():
                self._vitals.became_ready.set()
                await self._cycle.publisher.tell_status()
        elif can_go_on:
            self._wake.set()

    async def _begin(self, wishes: Wishes) -> bool:
        """Note in the ledger what was wished for. Out: whether to look for changes; reading is left to do then."""
        if wishes.force:
            await self._cycle.begin_force()
            wishes.sweep = True
        return await self.jobs.begin(wishes.requests) or wishes.look

    async def _answer(self, wishes: Wishes, looked_for: Sequence[Request], obstacle: str | None) -> None:
        waiting = await self.jobs.answer(wishes.requests, looked_for, obstacle)
        self._wishes.requests += waiting
        has_room = len(waiting) < len(wishes.requests) and any(not request.has_begun for request in waiting)
        if has_room or (waiting and self._cycle.changed):
            self._wake.set()

    # Upkeep ------------------------------------------------------------------------------------------------------

    def _start_upkeep(self, wishes: Wishes) -> None:
        waiting = [r for r in wishes.requests if r.wants_sweep and not r.has_been_looked_for]
        # Somebody who waits for a sweep need not wait for upkeep's small share of the budget.
        self._cycle.sweep.lane = Lane.READ if waiting else Lane.UPKEEP
        if self._upkeep is not None and not self._upkeep.done():
            self._wish_again(wishes)
        elif wishes.compare:
            self._upkeep = asyncio.create_task(self._keep_up(self._cycle.store_check.daily()), name="compare")
            self._wish_again(Wishes(sweep=wishes.sweep))
        elif wishes.sweep or waiting:
            self._upkeep = asyncio.create_task(self._keep_up(self._cycle.sweep.run()), name="sweep")
            for request in waiting:
                request.sweep = self._upkeep
        elif wishes.trash:
            self._upkeep = asyncio.create_task(self._keep_up(self._cycle.sweep.trash()), name="trash")

    def _wish_again(self, wishes: Wishes) -> None:
        """What cannot begin now begins when the upkeep that runs has ended, which wakes the loop."""
        self._wishes.sweep = self._wishes.sweep or wishes.sweep
        self._wishes.compare = self._wishes.compare or wishes.compare

    async def _keep_up(self, work: Coroutine[Any, Any, None]) -> str | None:
        """Out: why the work ended early; None: it is done."""
        problem = None
        try:
            await work
        except NotionError as error:
            problem = f"{error} {error.hint}"
            log.warning("upkeep ended early", action="upkeep_failed", error=str(error), hint=error.hint)
        except Exception as error:
            problem = f"{type(error).__name__} while sweeping; the daemon's log says more."
            log.exception("upkeep crashed", action="upkeep_crashed")
        self._cycle.changed = True
        self._wake.set()
        return problem
