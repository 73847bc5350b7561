"""How the daemon is doing: a few facts that the loop notes, and the verdict that health checks read from them."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Protocol

from daemon.clock import Clock
from daemon.meters import Meters, Outcome
from daemon.notion.api import NotionApi
from daemon.sync.cycle import Cycle, Summary

STALE_SECONDS = 120.0
"""Without a success or any progress for this long (or three intervals) the daemon is not healthy."""


class Watched(Protocol):
    """What tells how a daemon is doing."""

    clock: Clock
    vitals: "Vitals"
    cycle: Cycle
    api: NotionApi


@dataclass
class Vitals:
    """Moments are monotonic seconds. `became_ready`: the first sync has completed.

    `failures`: cycles in a row in which something went wrong, `trouble`: what. A cycle that only went on reading does
    not end the row: looking for changes may fail all the time.
    """

    started_at: float
    poll_seconds: float
    sweep_seconds: float
    last_turn: float | None = None
    last_success: float | None = None
    last_progress: float | None = None
    last_success_time: float | None = None
    waits_until: float | None = None
    on_standby: bool = False
    became_ready: asyncio.Event = field(default_factory=asyncio.Event)
    held: int = 0
    stop_reason: str | None = None
    problem: str | None = None
    failures: int = 0
    trouble: str | None = None
    last_summary: dict[str, Any] | None = None
    meters: Meters = field(default_factory=Meters)

    @property
    def ready(self) -> bool:
        """Whether the first sync has completed."""
        return self.became_ready.is_set()

    def alive(self, now: float) -> None:
        """The loop turns."""
        self.last_turn = now

    def cycled(self, summary: Summary, clock: Clock) -> None:
        """A cycle ended: a success unless something was wrong with it."""
        self.stop_reason, self.problem = None, summary.problem
        self.last_summary = summary.as_dict()
        self.meters.cycle_seconds.observe(summary.duration_seconds)
        self.meters.cycles[Outcome.SUCCESS if summary.problem is None else Outcome.PROBLEM] += 1
        if summary.problem is not None:
            self._in_trouble(summary.problem)
        elif summary.looked:
            self.failures, self.trouble = 0, None
        if summary.problem is None:
            self.last_success = clock.monotonic()
            self.last_success_time = clock.now().timestamp()

    def stopped(self, reason: str) -> None:
        """Notion refuses this token: nothing more is read until it is mended."""
        self.stop_reason = reason
        self.meters.cycles[Outcome.REFUSED] += 1
        self._in_trouble(reason)

    def failed(self, reason: str) -> None:
        """A cycle ended with an error of its own."""
        self.problem = reason
        self.meters.cycles[Outcome.CRASHED] += 1
        self._in_trouble(reason)

    def _in_trouble(self, reason: str) -> None:
        self.failures += 1
        self.trouble = reason

    def verdict(self, now: float) -> tuple[bool, str, str | None]:
        """(healthy, state, reason) at a monotonic moment."""
        if self.on_standby:
            return True, "standby", "another daemon writes to this store"
        if self.stop_reason is not None:
            return False, "stopped", self.stop_reason
        if self._fresh(now):
            if self.held:
                return True, "degraded", f"{self.held} removals are held until confirm-removals"
            return True, "running" if self.ready else "first sync", self.problem
        if self.waits_until is not None and self.waits_until > now:
            return True, "waiting", f"Notion asked to wait for another {self.waits_until - now:.0f} s"
        return False, "failing", self.problem or "nothing was done for too long"

    def _fresh(self, now: float) -> bool:
        allowed = max(3 * self.poll_seconds, STALE_SECONDS)
        success = self.started_at if self.last_success is None else self.last_success
        progress = self.last_progress if self.last_progress is not None else float("-inf")
        return now - success < allowed or now - progress < STALE_SECONDS


def verdict(parts: Watched) -> tuple[bool, str, str | None]:
    """(healthy, state, reason) now, from memory alone: no request, no query, nothing that grows with the site."""
    now, vitals = parts.clock.monotonic(), parts.vitals
    stuck_since = parts.cycle.publisher.failing_since
    # What is read while the store takes nothing, for long already, brings the site no further.
    is_stuck = stuck_since is not None and now - stuck_since >= STALE_SECONDS
    vitals.last_progress = None if is_stuck else parts.cycle.reader.last_progress
    vitals.waits_until = now + parts.api.limiter.paused_for_seconds
    return vitals.verdict(now)
