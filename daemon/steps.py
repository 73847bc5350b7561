"""The steps of a job, pure: what each is for, how far it is, and how that is kept and shown.

A step that is done stays done when the process dies or the job is tried again: whoever goes on begins with the next.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from daemon.ledger.tasks import Kind, State


class Name(StrEnum):
    """What is done in a step."""

    MARK = "mark"
    """Note in the ledger what is to be read, written or let go."""
    LOOK = "look"
    SWEEP = "sweep"
    READ = "read"
    PUBLISH = "publish"


_OUTCOMES: Mapping[Name, Sequence[str]] = {
    Name.LOOK: ("found",),
    Name.READ: ("read", "failed"),
    Name.PUBLISH: ("written", "deleted", "refused"),
}
"""Which of a job's numbers tell what came of a step."""


@dataclass(slots=True)
class Step:
    """One step. Times are unix seconds; `attempts` counts how often it was begun, `problem` why it failed last."""

    name: str
    state: str = State.QUEUED
    started_at: float | None = None
    finished_at: float | None = None
    attempts: int = 0
    problem: str | None = None


def planned(kind: Kind, options: Mapping[str, Any]) -> list[Name]:
    """The steps of a job, in the order in which they are taken."""
    if kind is not Kind.SYNC:
        return [Name.MARK, Name.PUBLISH]
    marks = [Name.MARK] if options.get("force") else []
    sweeps = [Name.SWEEP] if options.get("sweep") else []
    return [*marks, Name.LOOK, *sweeps, Name.READ, Name.PUBLISH]


class Steps:
    """The steps of one job. `stored`: as an earlier life of the job left them in the ledger."""

    def __init__(self, names: Iterable[Name], stored: Iterable[Mapping[str, Any]] = ()) -> None:
        kept = {step["name"]: Step(**step) for step in stored}
        self._steps = {name: kept.get(name) or Step(name) for name in names}

    def is_open(self, name: Name) -> bool:
        """Whether there is such a step, and it is not done."""
        step = self._steps.get(name)
        return step is not None and step.state != State.DONE

    def begin(self, name: Name, now: float) -> None:
        """It is worked at; one that is already, or is done, is left as it is."""
        step = self._steps.get(name)
        if step is not None and step.state not in (State.RUNNING, State.DONE):
            step.state, step.attempts, step.problem = State.RUNNING, step.attempts + 1, None
            step.started_at = now if step.started_at is None else step.started_at

    def done(self, name: Name, now: float) -> None:
        """It is done, once and for all."""
        self.begin(name, now)
        step = self._steps.get(name)
        if step is not None and step.state != State.DONE:
            step.state, step.finished_at = State.DONE, now

    def all_done(self, now: float) -> None:
        """The job is done."""
        for name in self._steps:
            self.done(name, now)

    def interrupted(self, problem: str | None, now: float, *, for_good: bool) -> None:
        """The job cannot go on: what is under way failed, for good or until the next attempt."""
        for step in self._steps.values():
            if step.state == State.RUNNING:
                step.state, step.problem = State.FAILED if for_good else State.QUEUED, problem
                step.finished_at = now if for_good else None

    def as_list(self) -> list[dict[str, Any]]:
        """To be kept."""
        return [asdict(step) for step in self._steps.values()]


def outcome(name: str, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """What came of a step, out of the numbers of its job."""
    return {key: numbers[key] for key in _OUTCOMES.get(Name(name), ()) if key in numbers}


def added(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of two lives of a job together; what cannot be added is the later one's."""
    both = dict(earlier)
    for name, value in later.items():
        before = both.get(name)
        if isinstance(value, Mapping):
            both[name] = added(before if isinstance(before, Mapping) else {}, value)
        elif _is_sum(name, value) and isinstance(before, int | float):
            both[name] = before + value
        else:
            both[name] = value
    return both


def _is_sum(name: str, value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and name not in ("started_at", "due", "pending")
