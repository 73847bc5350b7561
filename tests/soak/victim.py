"""The daemon as a process that kills itself at a point; in all else the ordinary `run`.

Points are functions of the daemon, wrapped here: the daemon itself knows nothing of them. Retries are quicker than in
production, so that what failed is tried again within the life of a campaign. The processes are forked from a server
that has imported everything already: importing is most of what a short life would cost.
"""

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sqlite3
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import alembic.op

from daemon import schedule
from daemon.cli import cli
from daemon.kv import embedded
from daemon.kv.base import Write
from daemon.kv.redis import RedisKV
from daemon.notion import api
from daemon.notion.retry import RetryPolicy
from daemon.sync import plan, publish
from daemon.sync.lease import Lease
from daemon.sync.reader import Reader
from daemon.sync.sweep import Sweep
from tests.support.redis_server import free_port

POINTS = ("never", "read", "commit", "before batch", "mid-batch", "batch", "migration", "sweep")
_sweeping: ContextVar[bool] = ContextVar("sweeping", default=False)


class Countdown:
    """The process ends, without a word to anybody, when this has been called so many times."""

    def __init__(self, times: int) -> None:
        self._left = times

    def __call__(self) -> None:
        self._left -= 1
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _around(owner: Any, name: str, *, before: Callable[..., Any] | None = None, after: Any = None) -> None:
    """Wrap a coroutine function: `before` gets its arguments, `after` its result and arguments."""
    inner: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            before(*args, **kwargs)
        result = await inner(*args, **kwargs)
        if after is not None:
            after(result, *args, **kwargs)
        return result

    setattr(owner, name, wrapped)


def _die_after_reading(tick: Countdown) -> None:
    _around(Reader, "_fetch", after=lambda *_: tick())


def _die_after_a_commit(tick: Countdown) -> None:
    _around(Reader, "_store", after=lambda *_: tick())


def _die_before_a_batch(tick: Countdown) -> None:
    def before(_: Lease, writes: Sequence[Write]) -> None:
        if writes:
            tick()

    _around(Lease, "apply", before=before)


def _die_before_the_mark(tick: Countdown) -> None:
    def after(applied: bool, _: Lease, writes: Sequence[Write]) -> None:
        if applied and writes:
            tick()

    _around(Lease, "apply", after=after)


def _die_within_a_batch(tick: Countdown) -> None:
    """Embedded: between two rows of one transaction. Redis: when the command is on its way."""
    inner, attempt = embedded._write, RedisKV._attempt

    def write_and_tick(connection: sqlite3.Connection, write: Write) -> None:
        inner(connection, write)
        tick()

    async def attempt_and_tick(self: RedisKV, command: list[str | int], size_bytes: int) -> object:
        sending = asyncio.ensure_future(attempt(self, command, size_bytes))
        if command[0] == "EVAL" and int(command[2]) > 1:
            for _ in range(3):
                await asyncio.sleep(0)
            tick()
        return await sending

    embedded._write = write_and_tick
    RedisKV._attempt = attempt_and_tick  # type: ignore[method-assign]


def _die_during_migration(tick: Countdown) -> None:
    create = alembic.op.create_table

    def create_and_tick(*args: Any, **kwargs: Any) -> Any:
        made = create(*args, **kwargs)
        tick()
        return made

    alembic.op.create_table = create_and_tick


def _die_during_a_sweep(tick: Countdown) -> None:
    run = Sweep.run

    async def sweep(self: Sweep) -> None:
        _sweeping.set(True)
        await run(self)

    Sweep.run = sweep  # type: ignore[method-assign]
    _around(api.NotionApi, "_send", after=lambda *_: tick() if _sweeping.get() else None)


_DEATHS: dict[str, Callable[[Countdown], None]] = {
    "never": lambda _: None,
    "read": _die_after_reading,
    "commit": _die_after_a_commit,
    "before batch": _die_before_a_batch,
    "mid-batch": _die_within_a_batch,
    "batch": _die_before_the_mark,
    "migration": _die_during_migration,
    "sweep": _die_during_a_sweep,
}


def _hurry() -> None:
    """Shorter pauses after failures; their names are settings of nobody's."""
    quick = partial(RetryPolicy, first_wait_seconds=0.05, longest_wait_seconds=0.2)
    pauses: list[tuple[Any, str, Any]] = [
        (plan.retry_delay_seconds, "__defaults__", (0.3, 1.0)),
        (publish, "BACK_OFF_FIRST_SECONDS", 0.2),
        (publish, "BACK_OFF_LONGEST_SECONDS", 0.5),
        (schedule, "STOPPED_RETRY_SECONDS", 0.5),
        (api, "RetryPolicy", quick),
    ]
    for module, name, value in pauses:
        assert hasattr(module, name)
        setattr(module, name, value)


def run(point: str, times: int, folder: Path, settings: Mapping[str, str], log: Path) -> None:
    """What the process does: `run` in this folder, with these settings, its output appended to `log`."""
    with log.open("ab") as sink:
        for stream in (1, 2):
            os.dup2(sink.fileno(), stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(settings)
    warnings.simplefilter("error")
    _hurry()
    _DEATHS[point](Countdown(times))
    cli(["run"])


@dataclass
class Victim:
    """A daemon that runs. `returncode` is None until it has ended, negative when a signal ended it."""

    process: BaseProcess
    log: Path

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.join()

    async def end(self) -> int:
        """Ask it to end; its exit code, within the ten seconds that hosts give."""
        self.process.terminate()
        async with asyncio.timeout(10.0):
            while self.returncode is None:
                await asyncio.sleep(0.02)
        return self.returncode


@contextlib.contextmanager
def victim(point: str, times: int, folder: Path, settings: Mapping[str, str]) -> Iterator[Victim]:
    """A daemon that is to die at `point`, the so many times it gets there; killed at the end if it is still there."""
    port = free_port()
    log = folder / f"daemon-{port}.log"
    log.touch()
    whole = {**settings, "PORT": str(port), "HOST": "127.0.0.1"}
    servers = multiprocessing.get_context("forkserver")
    servers.set_forkserver_preload([__name__])
    process = servers.Process(target=run, args=(point, times, folder, whole, log))
    process.start()
    made = Victim(process, log)
    try:
        yield made
    finally:
        made.kill()
        process.close()
