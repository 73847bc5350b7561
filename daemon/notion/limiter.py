"""One request budget per token, shared by everything that asks Notion.

Notion gives each connection a number of requests per 60 s window that may be spent at any pace: so spend it
as fast as needed, then wait. Nobody outside knows when a window starts or when a request reaches the
server, so a request occupies its slot from the moment it may be sent until 60 s after it has ended. However
the server cuts its windows (fixed or sliding), no more than the budget can then fall into one of them.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum

from daemon.clock import Clock

WINDOW_SECONDS = 60.0
"""Notion's window (https://developers.notion.com/reference/request-limits)."""

_MARGIN_SECONDS = 0.001  # the very end of a window still belongs to it, and clocks round
_LOWER_BY = 0.75  # what a repeated refusal leaves of the budget
_LOWEST_STEP = 5  # after so many refusals in a row (0.75 ** 5: about a quarter) it is not lowered further
_QUIET_SECONDS = 300.0  # without a refusal for so long, the budget rises again, one step per window


class Lane(StrEnum):
    """What a request is for, most urgent first. The order of the members is the order of service."""

    FEED = "feed"
    """Polls and triggers: may use the whole budget."""
    READ = "read"
    """Reading pages: leaves the reserve that polling needs."""
    UPKEEP = "upkeep"
    """Sweeps and the like: at most a fifth of the budget, and leaves the reserve too."""


@dataclass(slots=True)
class _Usage:
    """The occupied slots of one lane: requests under way, and until when each ended one still counts."""

    in_flight: int = 0
    until: deque[float] = field(default_factory=deque)

    def count(self, now: float) -> int:
        while self.until and self.until[0] <= now:
            self.until.popleft()
        return self.in_flight + len(self.until)


class Window:
    """The arithmetic of the budget. No clock, no waiting: `now` is monotonic seconds and never goes back."""

    def __init__(self, budget: int, reserve: int = 0, window_seconds: float = WINDOW_SECONDS) -> None:
        """`budget`: requests per window (at least 1); `reserve`: how many of them polling needs."""
        self.budget = max(1, budget)
        self.reserve = reserve
        self.paused_until = float("-inf")
        self._window_seconds = window_seconds
        self._usage = {lane: _Usage() for lane in Lane}
        self._steps_down = 0
        self._last_refusal = float("-inf")
        self._pauses_seconds = 0.0

    @property
    def in_flight(self) -> int:
        """Requests that may be on their way now."""
        return sum(usage.in_flight for usage in self._usage.values())

    def try_slot(self, lane: Lane, now: float) -> bool:
        """Take a slot if one is free. Whoever got one says `done` when the request has ended, somehow."""
        if self.available(lane, now) < 1:
            return False
        self._usage[lane].in_flight += 1
        return True

    def done(self, lane: Lane, now: float) -> None:
        """A request has ended (answered, failed, cut off): its slot becomes free one window from now."""
        usage = self._usage[lane]
        usage.in_flight -= 1
        usage.until.append(now + self._window_seconds + _MARGIN_SECONDS)

    def give_back(self, lane: Lane) -> None:
        """A slot that was taken but never used: nothing was sent."""
        self._usage[lane].in_flight -= 1

    def available(self, lane: Lane, now: float) -> int:
        """How many requests of this lane could start now."""
        if now < self.paused_until:
            return 0
        budget = self.effective_budget(now)
        used = {lane: usage.count(now) for lane, usage in self._usage.items()}
        room = budget - sum(used.values())
        if lane is not Lane.FEED:
            # Polling's own requests come out of its reserve, so only the others count against the rest.
            rest = budget - min(self.reserve, budget - 1)
            room = min(room, rest - used[Lane.READ] - used[Lane.UPKEEP])
        if lane is Lane.UPKEEP:
            room = min(room, max(1, budget // 5) - used[Lane.UPKEEP])
        return max(0, room)

    def left(self, now: float) -> int:
        """How much of the budget is not spent at this moment."""
        used = sum(usage.count(now) for usage in self._usage.values())
        return max(0, self.effective_budget(now) - used)

    def next_moment(self, now: float) -> float | None:
        """When somebody who found no slot should ask again; None: when a request under way has ended."""
        if now < self.paused_until:
            return self.paused_until
        ends = [usage.until[0] for usage in self._usage.values() if usage.count(now) and usage.until]
        return min(ends, default=None)

    def pause(self, now: float, seconds: float) -> None:
        """Nobody starts for so long. A shorter pause never ends a longer one."""
        self._pauses_seconds += max(0.0, now + seconds - max(now, self.paused_until))
        self.paused_until = max(self.paused_until, now + seconds)

    def paused_seconds(self, now: float) -> float:
        """How long nobody could start so far, all pauses together."""
        return self._pauses_seconds - max(0.0, self.paused_until - now)

    def refused(self, now: float) -> None:
        """Notion refused a request (429 or 529).

        One refusal only means waiting. Another one within a window of it means that the budget is really
        smaller (the workspace is shared with other connections, or the setting is wrong), so it is lowered
        for a while. What was already under way when the first refusal came does not count again.
        """
        if now < self.paused_until:
            return
        repeated = now - max(self._last_refusal, self.paused_until) <= self._window_seconds
        self._steps_down = min(_LOWEST_STEP, self._steps(now) + repeated)
        self._last_refusal = now

    def effective_budget(self, now: float) -> int:
        """The budget as refusals have left it."""
        return max(1, int(self.budget * _LOWER_BY ** self._steps(now)))

    def _steps(self, now: float) -> int:
        quiet_seconds = now - max(self._last_refusal, self.paused_until)
        if not self._steps_down or quiet_seconds < _QUIET_SECONDS:
            return self._steps_down
        risen = 1 + int((quiet_seconds - _QUIET_SECONDS) / self._window_seconds)
        return max(0, self._steps_down - risen)


class Limiter:
    """Hands out the slots of one token: `async with limiter.slot(lane)` around each request.

    First come, first served within a lane; FEED before READ before UPKEEP. Whoever is cancelled while
    waiting costs nothing. At most one task sleeps, to the earliest moment at which anybody could go on;
    everything else is driven by requests that end.
    """

    def __init__(self, clock: Clock, requests_per_minute: int, max_in_flight: int | None = None) -> None:
        """`max_in_flight`: how many requests may be under way at once (None: as many as the budget holds)."""
        self._clock = clock
        self._window = Window(requests_per_minute)
        self._max_in_flight = max_in_flight
        self.refusals = 0
        self._waiting: dict[Lane, deque[asyncio.Future[None]]] = {lane: deque() for lane in Lane}
        self._all_landed = asyncio.Event()
        self._all_landed.set()
        self._sleeper: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def slot(self, lane: Lane) -> AsyncIterator[None]:
        """Wait for a slot; it is held for the length of the block."""
        await self._acquire(lane)
        try:
            yield
        finally:
            self._window.done(lane, self._clock.monotonic())
            self._go_on()

    def pause(self, seconds: float) -> None:
        """Nobody starts for so long: those who wait already are held back too."""
        self._window.pause(self._clock.monotonic(), seconds)

    def refused(self, seconds: float) -> None:
        """Notion refused a request and wants `seconds` of silence. Say so while that slot is held."""
        self.refusals += 1
        self._window.refused(self._clock.monotonic())
        self.pause(seconds)

    def available(self, lane: Lane) -> int:
        """How many requests of this lane could start now without waiting."""
        if any(self._waiting.values()):
            return 0
        free = self._window.available(lane, self._clock.monotonic())
        return free if self._max_in_flight is None else min(free, self._max_in_flight - self.in_flight)

    @property
    def budget(self) -> int:
        """Requests per window as configured."""
        return self._window.budget

    @property
    def effective_budget(self) -> int:
        """Requests per window as repeated refusals have left it."""
        return self._window.effective_budget(self._clock.monotonic())

    @property
    def budget_left(self) -> int:
        """How much of the window is not spent at this moment."""
        return self._window.left(self._clock.monotonic())

    @property
    def paused_for_seconds(self) -> float:
        """How long nobody may start, because Notion asked for it (0.0: not paused)."""
        return max(0.0, self._window.paused_until - self._clock.monotonic())

    @property
    def paused_seconds(self) -> float:
        """How long nobody could start so far, because Notion asked for it."""
        return self._window.paused_seconds(self._clock.monotonic())

    @property
    def in_flight(self) -> int:
        """Requests under way now."""
        return self._window.in_flight

    @property
    def waiting(self) -> int:
        """How many are waiting for a slot."""
        return sum(len(queue) for queue in self._waiting.values())

    @property
    def reserve(self) -> int:
        """What polling needs of each window: reading and upkeep leave it alone."""
        return self._window.reserve

    @reserve.setter
    def reserve(self, requests: int) -> None:
        self._window.reserve = max(0, requests)
        self._go_on()

    async def _acquire(self, lane: Lane) -> None:
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[lane].append(granted)
        self._go_on()
        try:
            await granted
        except asyncio.CancelledError:
            if not granted.cancelled():  # granted and cancelled at the same time
                self._window.give_back(lane)
            elif granted in self._waiting[lane]:
                self._waiting[lane].remove(granted)
            self._go_on()
            raise

    def _go_on(self) -> None:
        """Grant what can be granted, and see that somebody sleeps for the rest, and only then."""
        self._grant()
        if not self.waiting:
            if self._sleeper is not None:
                self._sleeper.cancel()
                self._sleeper = None
        elif self._sleeper is None and self._next_moment() is not None:
            self._sleeper = asyncio.create_task(self._sleep_for_all(), name="notion-limiter")

    def _grant(self) -> None:
        now = self._clock.monotonic()
        # What stops the most urgent lane stops the others too: each leaves more of the budget than the last.
        while (lane := self._next_lane()) and not self._is_crowded() and self._window.try_slot(lane, now):
            self._waiting[lane].popleft().set_result(None)
        if self.in_flight:
            self._all_landed.clear()
        else:
            self._all_landed.set()

    def _next_lane(self) -> Lane | None:
        for lane, queue in self._waiting.items():
            while queue and queue[0].done():  # cancelled a moment ago
                queue.popleft()
            if queue:
                return lane
        return None

    def _is_crowded(self) -> bool:
        return self._max_in_flight is not None and self.in_flight >= self._max_in_flight

    def _next_moment(self) -> float | None:
        return None if self._is_crowded() else self._window.next_moment(self._clock.monotonic())

    async def _sleep_for_all(self) -> None:
        try:
            while self.waiting and (moment := self._next_moment()) is not None:
                await self._sleep_until(moment)
                self._grant()
        finally:
            if self._sleeper is asyncio.current_task():
                self._sleeper = None

    async def _sleep_until(self, moment: float) -> None:
        # What is under way lands first if it can: a clock that is moved by whoever sleeps would otherwise run
        # ahead of requests that take no time on it.
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, moment - self._clock.monotonic())):
                await self._all_landed.wait()
        await self._clock.sleep_until(moment)
