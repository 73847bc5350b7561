"""The one retry policy towards Notion: what is tried again, how often, how long, and who waits meanwhile.

Every request we send only reads, so every one may be repeated. Each try takes its own slot of the limiter.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from daemon.clock import Clock
from daemon.notion.errors import NotionUnavailable
from daemon.notion.limiter import Lane, Limiter
from daemon.notion.listing import Answer

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long one request is tried.

    Waiting for a slot and the pauses that Notion asks for (Retry-After) do not count towards `total_seconds`.
    """

    attempts: int = 5
    total_seconds: float = 120.0
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 30.0

    def wait_seconds(self, tried: int, jitter: float) -> float:
        """The back-off after `tried` tries; `jitter` (0 to 1) spreads it from half to one and a half."""
        doubled = self.first_wait_seconds * 2.0 ** (tried - 1)
        return min(doubled, self.longest_wait_seconds) * (0.5 + jitter)


@dataclass(slots=True)
class _Tries:
    """Where one request stands."""

    policy: RetryPolicy
    count: int = 0
    spent_seconds: float = 0.0
    wait_seconds: float = 0.0

    @property
    def are_over(self) -> bool:
        return self.count >= self.policy.attempts or self.spent_seconds > self.policy.total_seconds


class Retrier:
    """Sends requests through the limiter, and again while that is worth it."""

    def __init__(self, clock: Clock, limiter: Limiter, rng: random.Random, policy: RetryPolicy) -> None:
        self._clock = clock
        self._limiter = limiter
        self._rng = rng
        self._policy = policy

    async def run(self, lane: Lane, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer to `ask`, tried again after every NotionUnavailable until the policy says stop.

        Raises what the last try raised.
        """
        tries = _Tries(self._policy)
        while True:
            try:
                return await self._try(lane, ask, tries)
            except NotionUnavailable:
                if tries.are_over:
                    raise
            await self._clock.sleep_until(self._clock.monotonic() + tries.wait_seconds)

    async def _try(self, lane: Lane, ask: Callable[[], Awaitable[Answer]], tries: _Tries) -> Answer:
        async with self._limiter.slot(lane):
            tries.count += 1
            started = self._clock.monotonic()
            try:
                return await ask()
            except NotionUnavailable as error:
                # Before the slot is given up: whoever would get the next one must be held back already.
                self._decide_wait(error, tries)
                raise
            finally:
                tries.spent_seconds += self._clock.monotonic() - started

    def _decide_wait(self, error: NotionUnavailable, tries: _Tries) -> None:
        back_off = self._policy.wait_seconds(tries.count, self._rng.random())
        asked = error.retry_after_seconds
        if error.is_refusal:
            tries.wait_seconds = 0.0  # in the limiter, with everybody else
            tries.spent_seconds += back_off if asked is None else 0.0
            self._pause_everybody(error, back_off if asked is None else asked)
        else:
            tries.wait_seconds = max(back_off, asked or 0.0)
            tries.spent_seconds += tries.wait_seconds
            log.debug(
                "Notion gave no proper answer", action="notion_retry", tried=tries.count, error=str(error)
            )

    def _pause_everybody(self, error: NotionUnavailable, seconds: float) -> None:
        is_news = seconds > self._limiter.paused_for_seconds + 1.0
        self._limiter.refused(seconds)
        if is_news:
            log.warning(
                "Notion asks for fewer requests: everybody waits",
                action="notion_pause",
                seconds=round(seconds, 1),
                budget=self._limiter.effective_budget,
                error=str(error),
            )
