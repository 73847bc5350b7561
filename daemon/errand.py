"""Work beside the cycles that nothing waits for: one turn after the other, when woken or when its time has come."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from daemon.clock import Clock, wait_for
from daemon.ledger.ledger import LedgerError

log = structlog.get_logger(__name__)
AFTER_A_FAILURE_SECONDS = 60.0
LAST_TURN_SECONDS = 2.0
"""How long the end of the process waits for a last turn."""


class Errand:
    """A turn that is repeated. `turn` gives the (monotonic) moment of the next one, None: only when woken."""

    def __init__(self, name: str, turn: Callable[[], Awaitable[float | None]], clock: Clock) -> None:
        self._name = name
        self._turn = turn
        self._clock = clock
        self._woken = asyncio.Event()
        self._stopping = False
        self._running: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """There is something to do now."""
        self._woken.set()

    def start(self) -> None:
        """Begin with a turn, and go on until `stop`."""
        self._running = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """Let the turn that runs end, take a last one, all within two seconds; what is left stays where it was kept."""
        if self._running is None:
            return
        self._stopping = True
        self.wake()
        await asyncio.wait({self._running}, timeout=LAST_TURN_SECONDS)
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        self._running = None

    async def _run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._stopping
            self._woken.clear()
            moment = await self._safe_turn()
            if not is_last:
                await wait_for(self._clock, self._woken, moment)

    async def _safe_turn(self) -> float | None:
        try:
            return await self._turn()
        except LedgerError as error:
            log.error("the ledger cannot be used", action=f"{self._name}_failed", cause=error.cause)
        except Exception:
            log.exception("a turn crashed", action=f"{self._name}_crashed")
        return self._clock.monotonic() + AFTER_A_FAILURE_SECONDS
