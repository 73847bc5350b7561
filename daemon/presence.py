"""Shows in the ledger that this process works on it: a sign of life every few seconds, taken back at the end."""

import asyncio
from collections.abc import Callable

import structlog

from daemon.clock import Clock, wait_for
from daemon.ledger import tasks
from daemon.ledger.ledger import Ledger, LedgerError
from daemon.ledger.tasks import Role, Worker

BEAT_SECONDS = 5.0
"""How often at most; a process that was killed is missed three beats later."""

log = structlog.get_logger(__name__)


class Presence:
    """One process's. `is_on_standby` is asked at every beat."""

    def __init__(self, ledger: Ledger, clock: Clock, worker_id: str, heartbeat_seconds: float) -> None:
        self.worker_id = worker_id
        self.is_on_standby: Callable[[], bool] = lambda: False
        self._ledger = ledger
        self._clock = clock
        self._beat_seconds = min(BEAT_SECONDS, heartbeat_seconds)
        self._beating: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    def tell(self) -> None:
        """It stands by now, or does no more: who looks for somebody that works must not be told otherwise."""
        self._news.set()

    async def arrive(self) -> None:
        """A daemon begins: others may be there. Raises LedgerError."""
        await self._ledger.call(tasks.beat, self._me(Role.DAEMON), self._now())
        self._beating = asyncio.create_task(self._beat(Role.DAEMON), name="signs of life")

    async def enter(self) -> list[Worker]:
        """A command begins, unless others are there: then it is told who. Raises LedgerError."""
        others = await self._ledger.call(tasks.enter, self._me(Role.COMMAND), self._now())
        if not others:
            self._beating = asyncio.create_task(self._beat(Role.COMMAND), name="signs of life")
        return others

    async def leave(self) -> None:
        """The process ends, or works no more."""
        if self._beating is None:
            return
        self._beating.cancel()
        await asyncio.gather(self._beating, return_exceptions=True)
        self._beating = None
        try:
            await self._ledger.call(tasks.leave, self.worker_id)
        except LedgerError as error:
            log.warning("the end could not be noted", action="leave_failed", error=str(error))

    async def _beat(self, role: Role) -> None:
        while True:
            await wait_for(self._clock, self._news, self._clock.monotonic() + self._beat_seconds)
            self._news.clear()
            try:
                await self._ledger.call(tasks.beat, self._me(role), self._now())
            except LedgerError as error:
                log.warning("no sign of life could be given", action="beat_failed", error=str(error))

    def _me(self, role: Role) -> Worker:
        return Worker(self.worker_id, role, self.is_on_standby(), self._beat_seconds)

    def _now(self) -> float:
        return self._clock.now().timestamp()
