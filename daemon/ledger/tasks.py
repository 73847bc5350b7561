"""Work that was asked for, and who is there to do it: what commands and triggers leave for the daemon.

A task is taken by one worker, outlives it (the next one takes up what was left), and is kept a while once it is over.
Signs of life are on the wall clocks of the machines that share a ledger: apart by less than a few beats.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from daemon.ledger import meta
from daemon.ledger.ledger import upsert
from daemon.ledger.meta import Fact
from daemon.ledger.tables import TaskRow, WorkerRow

KEPT = 200
"""So many tasks that are over are kept."""
LOST_AFTER_BEATS = 3.0
FORGOTTEN_AFTER_SECONDS = 86_400.0


class Kind(StrEnum):
    """What can be asked for."""

    SYNC = "sync"
    REPUBLISH = "republish"
    CONFIRM_REMOVALS = "confirm-removals"


class State(StrEnum):
    """How far a task is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Task:
    """A task. `result` is there once it is over; times are unix seconds."""

    id: str
    kind: Kind
    options: dict[str, Any]
    state: State
    worker: str | None
    result: dict[str, Any] | None
    created_at: float
    started_at: float | None
    finished_at: float | None

    @property
    def is_over(self) -> bool:
        return self.state in (State.DONE, State.FAILED)


_TASK = (
    TaskRow.id,
    TaskRow.kind,
    TaskRow.options,
    TaskRow.state,
    TaskRow.worker,
    TaskRow.result,
    TaskRow.created_at,
    TaskRow.started_at,
    TaskRow.finished_at,
)
_TASKS = select(*_TASK).order_by(TaskRow.created_at, TaskRow.id)
_OPEN = _TASKS.where(TaskRow.state.in_([State.QUEUED, State.RUNNING]))


def _task(row: Any) -> Task:
    return Task(row[0], Kind(row[1]), row[2], State(row[3]), *row[4:])


def add(db: Connection, kind: Kind, options: Mapping[str, Any], now: float) -> str:
    """Ask for something. Out: the task's id."""
    task_id = str(uuid.uuid4())
    asked = {"kind": kind, "options": dict(options), "state": State.QUEUED, "created_at": now}
    db.execute(insert(TaskRow).values(id=task_id, **asked))
    return task_id


def find(db: Connection, task_id: str) -> Task | None:
    """A task by its id; None when there is none, or it was over long ago."""
    row = db.execute(select(*_TASK).where(TaskRow.id == task_id)).first()
    return None if row is None else _task(row)


def take(db: Connection, worker: str, now: float) -> list[Task]:
    """Everything that waits to be done, now taken by `worker`; what somebody took who is gone is among it."""
    found = [_task(row) for row in db.execute(_OPEN)]
    waiting = [task for task in found if task.state is State.QUEUED]
    taken = [task for task in found if task.state is State.RUNNING and task.worker != worker]
    if taken:
        there = {one.id for one in present(db, now)}
        waiting += [task for task in taken if task.worker not in there]
    mine = []
    for task in waiting:
        same_worker = TaskRow.worker.is_not_distinct_from(task.worker)
        unchanged = (TaskRow.id == task.id, TaskRow.state == task.state, same_worker)
        values = {"state": State.RUNNING, "worker": worker, "started_at": now}
        if db.execute(update(TaskRow).where(*unchanged).values(**values)).rowcount:
            mine.append(task)
    return mine


def finish(db: Connection, task_id: str, worker: str, result: Mapping[str, Any], now: float) -> None:
    """A task is over: done where its result says `ok`. One that somebody else took over meanwhile is left alone."""
    state = State.DONE if result["ok"] else State.FAILED
    mine = (TaskRow.id == task_id, TaskRow.worker == worker)
    db.execute(update(TaskRow).where(*mine).values(state=state, result=dict(result), finished_at=now))
    over = select(TaskRow.id).where(TaskRow.finished_at.is_not(None))
    old = [row[0] for row in db.execute(over.order_by(TaskRow.finished_at.desc()).offset(KEPT))]
    if old:
        db.execute(delete(TaskRow).where(TaskRow.id.in_(old)))


def give_back(db: Connection, worker: str) -> None:
    """What a worker took and has not finished waits for another one, or for its own next start."""
    mine = (TaskRow.worker == worker, TaskRow.state == State.RUNNING)
    db.execute(update(TaskRow).where(*mine).values(state=State.QUEUED, worker=None))


def withdraw(db: Connection, task_id: str) -> None:
    """Whoever asked does it now, or wants it no more."""
    db.execute(delete(TaskRow).where(TaskRow.id == task_id, TaskRow.finished_at.is_(None)))


# Who is there ------------------------------------------------------------------------------------------------


class Role(StrEnum):
    """What kind of process works on the ledger."""

    DAEMON = "daemon"
    COMMAND = "command"


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that works on the ledger. `standby`: it waits for another daemon to leave the store."""

    id: str
    role: Role
    standby: bool
    beat_seconds: float

    @property
    def takes_tasks(self) -> bool:
        return self.role is Role.DAEMON and not self.standby


def present(db: Connection, now: float) -> list[Worker]:
    """Whoever gave a sign of life within its last three beats."""
    age = func.abs(WorkerRow.seen_at - now)
    there = select(WorkerRow.id, WorkerRow.role, WorkerRow.standby, WorkerRow.beat_seconds)
    found = db.execute(there.where(age <= LOST_AFTER_BEATS * WorkerRow.beat_seconds).order_by(WorkerRow.id))
    return [Worker(row[0], Role(row[1]), row[2], row[3]) for row in found]


def beat(db: Connection, worker: Worker, now: float) -> None:
    """A sign of life."""
    row = {"id": worker.id, "role": worker.role, "standby": worker.standby, "seen_at": now}
    row["beat_seconds"] = worker.beat_seconds
    upsert(db, WorkerRow, [row], update=["standby", "seen_at", "beat_seconds"])


def enter(db: Connection, command: Worker, now: float) -> list[Worker]:
    """Become the one that works, unless somebody is there already. Out: who is there; nobody: we are in."""
    # First a row that every command writes, so that of two at once one sees the other on any database.
    meta.put(db, Fact.COMMAND_BEGAN_AT, now)
    others = [worker for worker in present(db, now) if worker.id != command.id]
    if not others:
        db.execute(delete(WorkerRow).where(func.abs(WorkerRow.seen_at - now) > FORGOTTEN_AFTER_SECONDS))
        beat(db, command, now)
    return others


def leave(db: Connection, worker_id: str) -> None:
    """A clean end: nobody need wait for the signs of life to grow old."""
    db.execute(delete(WorkerRow).where(WorkerRow.id == worker_id))
