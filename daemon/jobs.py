"""Work that was asked for: taken from the ledger, begun once, its steps kept, tried again, told how it went.

Jobs do not run: they are wishes that the schedule's loop fulfils, as many at a time as there are. What is kept of each
step is in the ledger, so that a job outlives the process, and whoever goes on begins where it was left.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy import Connection

from daemon.clock import Clock
from daemon.ledger import records, removals, tasks
from daemon.ledger.ledger import Ledger, LedgerError
from daemon.ledger.tasks import Kind, Origin, Task
from daemon.steps import Name, Steps, added, planned
from daemon.sync.cycle import Cycle, Summary
from daemon.sync.plan import retry_delay_seconds

log = structlog.get_logger(__name__)
RETRIES = 6
"""How often a job that nobody waits for is tried again by itself."""
RETRY_FIRST_SECONDS = 15
RETRY_LONGEST_SECONDS = 900
LOOK_AGAIN_SECONDS = 2.0
"""How often a job is looked at that another process may be working at."""


class NobodyWorksError(Exception):
    """This daemon stands by, and the one that writes has a ledger of its own: what is left here, nobody would do."""


@dataclass(eq=False)
class Request:
    """What somebody asked for, and waits for: a task of the ledger, or one who waits here for the `answer`.

    `sweep`: the one it waits for, where it waits for one. `before`: the numbers of its earlier lives;
    `kept`: how far it is, as the ledger has it from us.
    """

    kind: Kind
    options: Mapping[str, Any]
    task_id: str | None = None
    answer: asyncio.Future[Summary] | None = None
    retries_left: int = 0
    attempts: int = 0
    steps: Steps = field(init=False)
    before: Mapping[str, Any] = field(default_factory=dict)
    has_begun: bool = False
    sweep: asyncio.Task[str | None] | None = None
    total: Summary | None = None
    kept: Any = None

    def __post_init__(self) -> None:
        self.steps = Steps(planned(self.kind, self.options))

    @classmethod
    def of(cls, task: Task) -> "Request":
        """A task that was taken, with what was done of it before."""
        request = cls(task.kind, task.options, task.id, before=task.numbers)
        request.retries_left, request.attempts = task.retries_left, task.attempts
        request.steps = Steps(planned(task.kind, task.options), task.steps)
        return request

    @property
    def only(self) -> str | None:
        """The part of the site to which it is restricted; None: it is not."""
        return self.options.get("only")

    def forces_with(self, other: "Request") -> bool:
        """Whether both have the same pages read again."""
        both = all(one.kind is Kind.SYNC and one.options.get("force") for one in (self, other))
        return both and (self.only is None or other.only in (None, self.only))

    @property
    def wants_look(self) -> bool:
        return self.kind is Kind.SYNC and self.steps.is_open(Name.LOOK)

    @property
    def wants_sweep(self) -> bool:
        return self.steps.is_open(Name.SWEEP)

    @property
    def has_been_looked_for(self) -> bool:
        """Whether everything it asks to look at has been looked at."""
        return self.has_begun and (not self.wants_sweep or (self.sweep is not None and self.sweep.done()))

    def numbers(self) -> dict[str, Any]:
        """What it did until now, in all its lives."""
        return added(self.before, self.total.as_dict()) if self.total is not None else dict(self.before)


class Jobs:
    """Asked for by commands and over HTTP, worked at by the schedule's loop. `wake` is that loop's."""

    def __init__(self, cycle: Cycle, ledger: Ledger, clock: Clock) -> None:
        self._cycle = cycle
        self._ledger = ledger
        self._clock = clock
        self._worker_id = cycle.lease.daemon_id
        self._news = asyncio.Event()
        self.wake: Callable[[], None] = lambda: None
        self.stopping = asyncio.Event()
        """The process is to end: nobody is kept waiting."""

    # Asking ------------------------------------------------------------------------------------------------------

    async def ask(
        self,
        options: Mapping[str, Any],
        origin: Origin,
        *,
        retries: int = 0,
        deliveries: Sequence[str] = (),
    ) -> str:
        """Ask for a sync, or join one. It is in the ledger when this returns. Out: the job's id.

        Raises LedgerError, and NobodyWorksError when it would wait here for ever.
        """
        if self._cycle.on_standby and not await self._ledger.call(_somebody_works, self._now()):
            raise NobodyWorksError
        job_id = await self._ledger.call(
            tasks.ask, options, self._now(), origin=origin, retries=retries, deliveries=deliveries
        )
        log.info("a sync was asked for", action="job_asked", job=job_id, origin=origin, **options)
        self.wake()
        return job_id

    async def watch(self, job_id: str) -> AsyncGenerator[Task, None]:
        """The job as it is, and again whenever that changed; ends when it is over, is no more, or the process ends."""
        last = None
        while True:
            news = self._news
            task = await self._ledger.call(tasks.find, job_id)
            if task is None:
                return
            if task != last:
                yield task
                last = task
            if task.is_over or self.stopping.is_set():
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN_SECONDS):
                    await news.wait()

    def close(self) -> None:
        """The process is to end: let go whoever waits for a job."""
        self.stopping.set()
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    # Doing -------------------------------------------------------------------------------------------------------

    async def take(self) -> list[Request]:
        """What commands and triggers left in the ledger since the last turn."""
        taken = await self._ledger.call(tasks.take, self._worker_id, self._now())
        for task in taken:
            log.info(
                "work was asked for", action="task_taken", task=task.id, kind=task.kind, origin=task.origin
            )
        return [Request.of(task) for task in taken]

    async def give_back(self) -> None:
        """What was taken and is not finished waits for another process, or our next start."""
        await self._ledger.call(tasks.give_back, self._worker_id)
        self._tell()

    async def begin(self, requests: Iterable[Request]) -> bool:
        """Note in the ledger what was asked for, once. Out: whether any of it wants to look for changes.

        What would have everything read again waits for one that does so already, which would otherwise never be done.
        """
        new, forcing = list[Request](), list[Request]()
        for request in sorted(requests, key=lambda request: not request.has_begun):
            if request.has_begun or not any(request.forces_with(other) for other in forcing):
                forcing += [request] if request.forces_with(request) else []
                new += [] if request.has_begun else [request]
        for request in new:
            if request.steps.is_open(Name.MARK):
                await self._mark(request)
                request.steps.done(Name.MARK, self._now())
            request.steps.begin(Name.LOOK, self._now())
            # Before anything is read: whoever goes on after a crash must not mark anew what was read meanwhile.
            await self._save(request)
            request.has_begun = self._cycle.changed = True
        return any(request.wants_look for request in new)

    async def _mark(self, request: Request) -> None:
        match request.kind:
            case Kind.SYNC:
                await self._cycle.begin_force(request.only)
            case Kind.REPUBLISH:
                await self._ledger.call(records.rewrite)
            case Kind.CONFIRM_REMOVALS:
                held = [tuple(pair) for pair in request.options["held"]]
                await self._ledger.call(removals.let_go, held)

    def note(self, requests: Iterable[Request], summary: Summary) -> None:
        """A cycle ended: it counts for everybody who waited for it."""
        for request in requests:
            if request.wants_look and summary.looked and not summary.look_failed:
                request.steps.done(Name.LOOK, self._now())
            request.total = summary if request.total is None else request.total + summary

    async def answer(
        self, requests: Sequence[Request], looked_for: Sequence[Request], obstacle: str | None
    ) -> list[Request]:
        """Answer whoever has what was asked for, or cannot have it now. Out: the others, who wait for the next turn."""
        waiting = []
        for request in requests:
            if not request.has_begun:
                waiting.append(request)
                continue
            await self._take_steps(request)
            if request in looked_for and await self._is_fulfilled(request):
                await self._finish(request, await self._shortfall(request))
            elif obstacle is not None and request.task_id is not None and not self._cycle.on_standby:
                await self._finish(request, obstacle)
            else:
                await self._save(request)
                waiting.append(request)
        return waiting

    async def _take_steps(self, request: Request) -> None:
        steps, now = request.steps, self._now()
        if request.sweep is not None:
            steps.begin(Name.SWEEP, now)
            if request.sweep.done() and request.sweep.result() is None:
                steps.done(Name.SWEEP, now)
        if steps.is_open(Name.READ):
            steps.begin(Name.READ, now)
            is_looked_for = request.has_been_looked_for and not steps.is_open(Name.LOOK)
            if is_looked_for and await self._cycle.is_read(request.only):
                steps.done(Name.READ, now)
        steps.begin(Name.PUBLISH, now)

    async def _is_fulfilled(self, request: Request) -> bool:
        if request.kind is not Kind.SYNC:
            return await self._cycle.is_published()
        waits = self._cycle.changed or self._cycle.waits_for_files
        return not waits and await self._cycle.is_done(request.only)

    async def _shortfall(self, request: Request) -> str | None:
        if request.kind is not Kind.SYNC:
            return await self._cycle.shortfall(reading=False)
        looking = request.total.problem if request.total is not None else None
        sweeping = request.sweep.result() if request.sweep is not None else None
        return looking or sweeping or await self._cycle.shortfall()

    async def _finish(self, request: Request, problem: str | None) -> None:
        if request.answer is not None and request.total is not None and not request.answer.done():
            request.answer.set_result(request.total)
        if request.task_id is None:
            return
        now, again = self._now(), problem is not None and request.retries_left > 0
        if problem is None:
            request.steps.all_done(now)
        else:
            request.steps.interrupted(problem, now, for_good=not again)
        await self._save(request)
        if again:
            await self._try_again_later(request, str(problem))
        else:
            site = self._cycle.site.counts if self._cycle.site is not None else {}
            told = {**request.numbers(), "site": site, "ok": problem is None, "problem": problem}
            await self._ledger.call(tasks.finish, request.task_id, self._worker_id, told, now)
            log.info(
                "work that was asked for is over", action="task_over", task=request.task_id, problem=problem
            )
        self._tell()

    async def _try_again_later(self, request: Request, problem: str) -> None:
        wait = retry_delay_seconds(request.attempts + 1, RETRY_FIRST_SECONDS, RETRY_LONGEST_SECONDS)
        next_try_at = self._now() + wait
        await self._ledger.call(tasks.retry, str(request.task_id), self._worker_id, problem, next_try_at)
        log.warning(
            "work that was asked for is tried again",
            action="task_retry",
            task=request.task_id,
            problem=problem,
            next_try_in_seconds=wait,
        )

    async def crashed(self, requests: Iterable[Request], error: Exception) -> list[Request]:
        """A turn crashed. Out: those who wait on, because nothing could be told them."""
        waiting = []
        for request in requests:
            if request.task_id is None:
                waiting.append(request)
                continue
            try:
                await self._finish(
                    request, f"{type(error).__name__} while working; the daemon's log says more."
                )
            except LedgerError:
                waiting.append(request)
        return waiting

    # Keeping -----------------------------------------------------------------------------------------------------

    async def _save(self, request: Request) -> None:
        """Keep how far it is, if that changed."""
        if request.task_id is None:
            return
        steps, numbers = request.steps.as_list(), request.numbers()
        if request.kept == (steps, numbers):
            return
        await self._ledger.call(tasks.progressed, request.task_id, self._worker_id, steps, numbers)
        request.kept = (steps, numbers)
        self._tell()

    def _now(self) -> float:
        return self._clock.now().timestamp()


def _somebody_works(db: Connection, now: float) -> bool:
    return any(worker.takes_tasks for worker in tasks.present(db, now))
