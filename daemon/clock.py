"""Where time comes from: the machine's clock in production, one that is driven by hand in tests and benchmarks."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol


class Clock(Protocol):
    """What the daemon asks of time. Wall time is UTC; intervals use `monotonic` (seconds)."""

    def now(self) -> datetime: ...

    def monotonic(self) -> float: ...

    async def sleep_until(self, monotonic_seconds: float) -> None: ...


async def wait_for(clock: Clock, event: asyncio.Event, moment: float | None) -> None:
    """Wait until the event is set, or until a monotonic moment (None: there is none), whichever comes first."""
    waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(event.wait())]
    if moment is not None:
        waits.append(asyncio.ensure_future(clock.sleep_until(moment)))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep_until(self, monotonic_seconds: float) -> None:
        await asyncio.sleep(max(0.0, monotonic_seconds - self.monotonic()))


class DrivenClock:
    """Time that moves only when told to, or when somebody waits for it: a wait ends at once, at its moment.

    Whoever sleeps moves the clock forward to the end of the sleep, so a minute of back-off costs no real time
    and every part that shares the clock (daemon and sandbox) agrees on how late it is.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed_seconds = 0.0

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed_seconds)

    def monotonic(self) -> float:
        return self._elapsed_seconds

    def advance(self, seconds: float) -> None:
        """Move time forward by `seconds` (never backwards)."""
        self._elapsed_seconds += max(0.0, seconds)

    async def sleep_until(self, monotonic_seconds: float) -> None:
        self._elapsed_seconds = max(self._elapsed_seconds, monotonic_seconds)
        await asyncio.sleep(0)
