"""A clock on which work takes the time that it takes, and waiting takes none."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


class SkippingClock:
    """Real time plus whatever was skipped: whoever sleeps moves the clock to the end of the sleep at once.

    What is measured on it is what a wall clock would have shown, without the wait for it. Two processes that start
    from the same `started` (a `time.time()`) and skip the same amounts agree on the time.
    """

    def __init__(self, started: float | None = None) -> None:
        self.started = time.time() if started is None else started
        self._behind_seconds = time.time() - self.started - time.monotonic()
        self._skipped_seconds = 0.0
        self.is_work_going_on: Callable[[], bool] = lambda: False
        """Whether something works while others wait: a wait is skipped only from where that has ended."""

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return time.monotonic() + self._behind_seconds + self._skipped_seconds

    def advance(self, seconds: float) -> None:
        """Skip so many seconds."""
        self._skipped_seconds += max(0.0, seconds)

    async def sleep_until(self, monotonic_seconds: float) -> None:
        while self.is_work_going_on() and self.monotonic() < monotonic_seconds:  # noqa: ASYNC110 - the work tells nobody
            await asyncio.sleep(0.002)
        self.advance(monotonic_seconds - self.monotonic())
        await asyncio.sleep(0)
