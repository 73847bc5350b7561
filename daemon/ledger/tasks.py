"""Work that was asked for, and who is there to do it: what commands and triggers leave for the daemon.

A task is taken by one worker, outlives it (the next one takes up what was left, where it was left), is tried again
later if whoever asked wants that, and is kept a while once it is over.
Signs of life are on the wall clocks of the machines that share a ledger: apart by less than a few beats.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from daemon.ledger import meta
from daemon.ledger.ledger import upsert
from daemon.ledger.meta import Fact
from daemon.ledger.tables import DeliveryRow, TaskRow, WorkerRow

KEPT = 200
"""So many tasks that are over are kept."""
DELIVERIES_KEPT_SECONDS = 3 * 86_400.0
"""No queue delivers a call again that much later."""
LOST_AFTER_BEATS = 3.0
FORGOTTEN_AFTER_SECONDS = 86_400.0


class Kind(StrEnum):
    """What can be asked for."""

    SYNC = "sync"
    REPUBLISH = "republish"
    CONFIRM_REMOVALS = "confirm-removals"


class State(StrEnum):
    """How far a task, or a step of it, is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Origin(StrEnum):
    """Who asked."""

    COMMAND = "command"
    HTTP = "http"
    TRIGGER = "trigger"
    QSTASH = "qstash"
    CRON = "cron"


@dataclass(frozen=True, slots=True)
class Task:
    """A task. `result` is there once it is over; times are unix seconds.

    `steps`, `numbers`: how far it got and what it did until then. `problem`: why the last attempt failed.
    """

    id: str
    kind: Kind
    options: dict[str, Any]
    state: State
    worker: str | None
    result: dict[str, Any] | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    origin: str
    steps: list[dict[str, Any]]
    numbers: dict[str, Any]
    attempts: int
    retries_left: int
    next_try_at: float | None
    problem: str | None

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
    TaskRow.origin,
    TaskRow.steps,
    TaskRow.numbers,
    TaskRow.attempts,
    TaskRow.retries_left,
    TaskRow.next_try_at,
    TaskRow.problem,
)
_TASKS = select(*_TASK).order_by(TaskRow.created_at, TaskRow.id)
_OPEN = _TASKS.where(TaskRow.state.in_([State.QUEUED, State.RUNNING]))


def _task(row: Any) -> Task:
    return Task(row[0], Kind(row[1]), row[2], State(row[3]), *row[4:])


def add(
    db: Connection,
    kind: Kind,
    options: Mapping[str, Any],
    now: float,
    *,
    origin: Origin = Origin.COMMAND,
    retries: int = 0,
) -> str:
    """Ask for something. Out: the task's id. `retries`: how often it is tried again by itself if it fails."""
    task_id = str(uuid.uuid4())
    asked = {"kind": kind, "options": dict(options), "state": State.QUEUED, "created_at": now}
    db.execute(insert(TaskRow).values(id=task_id, **asked, origin=origin, retries_left=retries))
    return task_id


def ask(
    db: Connection,
    options: Mapping[str, Any],
    now: float,
    *,
    origin: Origin,
    retries: int = 0,
    deliveries: Iterable[str] = (),
) -> str:
    """Ask for a sync, joining one that does the same and has not looked yet. Out: the task's id.

    `deliveries`: what the call is known by. Delivered again it stands for the task it stood for the first time.
    """
    known = list(deliveries)
    task_id = _delivered(db, known) or _join(db, options, retries)
    if task_id is None:
        task_id = add(db, Kind.SYNC, options, now, origin=origin, retries=retries)
    if known:
        rows = [{"id": one, "task_id": task_id, "seen_at": now} for one in known]
        upsert(db, DeliveryRow, rows, update=["task_id"])
        db.execute(delete(DeliveryRow).where(DeliveryRow.seen_at < now - DELIVERIES_KEPT_SECONDS))
    return task_id


def _delivered(db: Connection, known: Sequence[str]) -> str | None:
    """The task of an earlier delivery of a call. One that failed for good is not it: the call is to be heard again."""
    question = select(DeliveryRow.task_id).where(DeliveryRow.id.in_(known)).limit(1)
    task_id = db.execute(question).scalar() if known else None
    task = find(db, task_id) if task_id is not None else None
    return None if task is not None and task.state is State.FAILED else task_id


def _join(db: Connection, options: Mapping[str, Any], retries: int) -> str | None:
    for row in db.execute(_OPEN.where(TaskRow.kind == Kind.SYNC, TaskRow.origin != Origin.COMMAND)):
        task = _task(row)
        if task.problem is None and not _has_begun(task) and _covers(task.options, options):
            more = max(task.retries_left, retries)
            db.execute(update(TaskRow).where(TaskRow.id == task.id).values(retries_left=more))
            return task.id
    return None


def _has_begun(task: Task) -> bool:
    """Whether it looked, or looks: an edit made now may escape it."""
    return any(step["state"] != State.QUEUED for step in task.steps)


def _covers(options: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    wide_enough = options.get("only") in (None, asked.get("only"))
    return wide_enough and all(options.get(name) or not asked.get(name) for name in ("force", "sweep"))


def find(db: Connection, task_id: str) -> Task | None:
    """A task by its id; None when there is none, or it was over long ago."""
    row = db.execute(select(*_TASK).where(TaskRow.id == task_id)).first()
    return None if row is None else _task(row)


def newest(db: Connection, limit: int) -> list[Task]:
    """The last tasks that were asked for, newest first."""
    last = select(*_TASK).order_by(TaskRow.created_at.desc(), TaskRow.id).limit(limit)
    return [_task(row) for row in db.execute(last)]


def take(db: Connection, worker: str, now: float) -> list[Task]:
    """Everything that waits to be done, now taken by `worker`; what somebody took who is gone is among it."""
    ready = or_(TaskRow.next_try_at.is_(None), TaskRow.next_try_at <= now)
    found = [_task(row) for row in db.execute(_OPEN.where(ready))]
    waiting = [task for task in found if task.state is State.QUEUED]
    taken = [task for task in found if task.state is State.RUNNING and task.worker != worker]
    if taken:
        there = {one.id for one in present(db, now)}
        waiting += [task for task in taken if task.worker not in there]
    mine = []
    for task in waiting:
        same_worker = TaskRow.worker.is_not_distinct_from(task.worker)
        unchanged = (TaskRow.id == task.id, TaskRow.state == task.state, same_worker)
        values: dict[str, Any] = {"state": State.RUNNING, "worker": worker, "next_try_at": None}
        values["started_at"] = now if task.started_at is None else task.started_at
        if db.execute(update(TaskRow).where(*unchanged).values(**values)).rowcount:
            mine.append(task)
    return mine


def progressed(
    db: Connection, task_id: str, worker: str, steps: Sequence[Mapping[str, Any]], numbers: Mapping[str, Any]
) -> None:
    """How far a task is, and what it did until now."""
    values = {"steps": [dict(step) for step in steps], "numbers": dict(numbers)}
    db.execute(update(TaskRow).where(*_mine(task_id, worker)).values(values))


def retry(db: Connection, task_id: str, worker: str, problem: str, next_try_at: float) -> None:
    """An attempt failed: the task waits for its next one."""
    values: dict[str, Any] = {"state": State.QUEUED, "worker": None, "problem": problem}
    values |= {"attempts": TaskRow.attempts + 1, "retries_left": TaskRow.retries_left - 1}
    db.execute(update(TaskRow).where(*_mine(task_id, worker)).values(**values, next_try_at=next_try_at))


def finish(db: Connection, task_id: str, worker: str, result: Mapping[str, Any], now: float) -> None:
    """A task is over: done where its result says `ok`. One that somebody else took over meanwhile is left alone."""
    state = State.DONE if result["ok"] else State.FAILED
    values = {"state": state, "result": dict(result), "finished_at": now, "problem": result.get("problem")}
    mine = _mine(task_id, worker)
    db.execute(update(TaskRow).where(*mine).values(**values, attempts=TaskRow.attempts + 1))
    over = select(TaskRow.id).where(TaskRow.finished_at.is_not(None))
    old = [row[0] for row in db.execute(over.order_by(TaskRow.finished_at.desc()).offset(KEPT))]
    if old:
        db.execute(delete(TaskRow).where(TaskRow.id.in_(old)))


def _mine(task_id: str, worker: str) -> tuple[Any, Any]:
    return TaskRow.id == task_id, TaskRow.worker == worker


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
