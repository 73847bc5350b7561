"""Commands beside a living daemon: they leave what they are to do in the ledger, wait, and say how it went.

Two processes that read Notion for one ledger would spend its budget twice, and a command that takes the store pushes
the daemon aside. So a command works by itself only where nobody else is at work on its ledger; two commands take turns.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from sqlalchemy import Connection

from daemon.app import App
from daemon.ledger import tasks
from daemon.ledger.tasks import Kind, Role, Task, Worker
from daemon.progress import Progress

LOOK_SECONDS = 0.25


class HandoverError(Exception):
    """A command can neither be handed over nor done here. The message says why and what to do."""


@dataclass(frozen=True)
class Result:
    """How a command went: `problem` None is well; `numbers` as in a cycle's summary."""

    problem: str | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Order:
    """What a command asks for, and how it does it itself: called with an opened App."""

    kind: Kind
    options: Mapping[str, Any]
    alone: Callable[[], Awaitable[Result]]


async def carry_out(app: App, stop: asyncio.Event, order: Order, console: Console) -> Result:
    """Have a living daemon do it; where there is none, or it dies, do it here. Raises HandoverError."""
    await app.ledger.open()
    others = await app.presence.enter()
    if others:
        result = await _Waiting(app, stop, console).for_others(order, others)
        if result is not None:
            return result
    await app.open()
    result = await order.alone()
    await app.tell_site()
    return result


class _Waiting:
    """A command that waits for its turn, or for a daemon to do its work."""

    def __init__(self, app: App, stop: asyncio.Event, console: Console) -> None:
        self._app = app
        self._stop = stop
        self._console = console
        self._idle_since: float | None = None

    async def for_others(self, order: Order, others: Sequence[Worker]) -> Result | None:
        """The result once a daemon has done it; None: everybody has gone, we are in and it is ours to do."""
        task_id = await self._app.ledger.call(tasks.add, order.kind, order.options, self._now())
        try:
            self._tell(others)
            with Progress(self._app, self._console, "Waiting for its end") as progress:
                result = await self._wait(task_id)
                await progress.refresh()
            return result
        finally:
            await self._app.ledger.call(tasks.withdraw, task_id)

    async def _wait(self, task_id: str) -> Result | None:
        while not self._stop.is_set():
            task, others = await self._app.ledger.call(_look, task_id, self._now())
            if task is None or task.is_over:
                return _result(task)
            if not others and not await self._app.presence.enter():
                self._console.print("Nobody else is at work on this ledger any more: doing it here.")
                return None
            if self._stand_by(others):
                raise HandoverError(
                    "The daemon of this ledger stands by, because another one, with a ledger of its own, writes to "
                    "the key-value store. Run this command beside that one, or end it first."
                )
            await self._pause()
        return Result("Stopped waiting. What the daemon has begun it goes on with.")

    def _stand_by(self, others: Sequence[Worker]) -> bool:
        """Whether everybody has been standing by for a beat: until then one may be about to say that it writes now."""
        now = self._app.clock.monotonic()
        if not others or not all(worker.standby for worker in others):
            self._idle_since = None
            return False
        self._idle_since = now if self._idle_since is None else self._idle_since
        return now - self._idle_since > max(worker.beat_seconds for worker in others)

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._stop.wait()
        except TimeoutError:
            return

    def _tell(self, others: Sequence[Worker]) -> None:
        if any(worker.takes_tasks for worker in others):
            self._console.print("A daemon is at work on this ledger: it does this, too.")
        elif any(worker.role is Role.COMMAND for worker in others):
            self._console.print("Another command is at work on this ledger: waiting for its end.")

    def _now(self) -> float:
        return self._app.clock.now().timestamp()


def _look(db: Connection, task_id: str, now: float) -> tuple[Task | None, list[Worker]]:
    return tasks.find(db, task_id), tasks.present(db, now)


def _result(task: Task | None) -> Result:
    if task is None or task.result is None:
        return Result(
            "The daemon lost what it was asked for: its ledger was exchanged. Run the command again."
        )
    return Result(task.result.get("problem"), task.result)
