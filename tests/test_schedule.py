"""When work is done: at once, one turn after the other, with whatever was wished for meanwhile, within the budget."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.kv.base import Owner
from daemon.ledger import meta
from daemon.ledger.meta import Fact
from daemon.schedule import Schedule
from daemon.sync.cycle import Cycle, Summary
from tests.support.web import Daemon, a_daemon

DAY = 86_400.0


class Gate:
    """Stands before every cycle: lets one through when told to, and counts what comes by."""

    def __init__(self, cycle: Cycle) -> None:
        self._run = cycle.run
        self._open = asyncio.Semaphore(0)
        self.reached = asyncio.Event()
        self.looks: list[bool] = []
        self.inside = self.most_inside = 0
        setattr(cycle, "run", self.run)  # noqa: B010 - the real one, with a door in front

    async def run(self, deadline: float, *, look: bool = True, only: str | None = None) -> Summary:
        self.looks.append(look)
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.reached.set()
        try:
            await self._open.acquire()
            return await self._run(deadline, look=look, only=only)
        finally:
            self.inside -= 1

    def let(self, cycles: int) -> None:
        """Let so many cycles go on."""
        for _ in range(cycles):
            self._open.release()


@asynccontextmanager
async def turning(schedule: Schedule) -> AsyncIterator["asyncio.Task[None]"]:
    """The loop runs beside the block."""
    loop = asyncio.create_task(schedule.run())
    try:
        async with asyncio.timeout(60):
            yield loop
    finally:
        schedule.stop()
        loop.cancel()
        with suppress(asyncio.CancelledError):
            await loop


def listings(daemon: Daemon) -> int:
    """How many containers Notion has listed for the daemon."""
    return sum(1 for request in daemon.sandbox.requests if request.path.endswith("/children"))


async def test_it_looks_at_once_and_whatever_comes_meanwhile_joins_the_next_turn(tmp_path: Path) -> None:
    """Ten ticks, two requests and a force during a cycle are one more look, and force survives joining.

    Fails when a tick starts a cycle beside the one that runs, and when each request has a turn of its own.
    """
    async with a_daemon(tmp_path) as daemon:
        await daemon.settle()
        schedule, gate = daemon.app.schedule, Gate(daemon.app.cycle)
        before = listings(daemon)
        async with turning(schedule):
            await gate.reached.wait()
            assert gate.looks == [True]
            answers = [schedule.request(), schedule.request(force=True), schedule.request()]
            for _ in range(10):
                schedule._wish(look=True)
            gate.let(1_000)
            await asyncio.gather(*answers)
        assert sum(gate.looks) == 2
        assert gate.most_inside == 1
        assert listings(daemon) - before >= len(await daemon.page_keys())


async def test_a_force_is_not_forgotten_while_another_daemon_writes(tmp_path: Path) -> None:
    """FORCE_FULL_SYNC at a start that finds itself replaced: everything is read again when the store is ours.

    Fails when the wishes of a turn that may not work are dropped.
    """
    async with a_daemon(tmp_path, settings={"FORCE_FULL_SYNC": "1"}) as daemon:
        await daemon.settle()
        app = daemon.app
        present = await app.kv.read_owner()
        assert present is not None
        other = Owner(present.token + 1, "another", "ledger", "content", daemon.clock.now().timestamp())
        assert await app.kv.claim(other, present)
        daemon.clock.advance(400.0)
        await app.cycle.publisher.heartbeat()
        assert app.cycle.on_standby
        before, turned = listings(daemon), asyncio.Event()
        app.schedule.on_cycle = lambda _: turned.set()
        async with turning(app.schedule):
            while not app.vitals.on_standby:
                await asyncio.sleep(0)
            assert listings(daemon) == before
            daemon.clock.advance(2_000.0)
            while listings(daemon) - before < len(await daemon.page_keys()):
                app.schedule._wish(look=True)
                await turned.wait()
                turned.clear()


@pytest.mark.parametrize(("since_seconds", "sweeps"), [(899.0, False), (901.0, True), (3 * DAY, True)])
async def test_a_sweep_that_is_overdue_is_made_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, since_seconds: float, sweeps: bool
) -> None:
    """A daemon that is deployed again every ten minutes sweeps all the same.

    Fails when the interval begins anew with every start.
    """
    async with a_daemon(tmp_path) as daemon:
        await daemon.settle()
        cycle, swept, turned = daemon.app.cycle, asyncio.Event(), asyncio.Event()

        async def note() -> None:
            swept.set()

        await cycle.sweep.run()
        daemon.clock.advance(since_seconds - (await age(daemon)))
        monkeypatch.setattr(cycle.sweep, "run", note)
        daemon.app.schedule.on_cycle = lambda _: turned.set()
        async with turning(daemon.app.schedule):
            await (swept if sweeps else turned).wait()
            assert swept.is_set() is sweeps


async def age(daemon: Daemon) -> float:
    """How long ago the last sweep began, in seconds."""
    began: Any = await daemon.app.ledger.call(meta.get, Fact.SWEPT_AT)
    return daemon.clock.now().timestamp() - float(began)


async def test_intervals_stretch_to_their_share_of_the_budget(tmp_path: Path) -> None:
    """Three requests a poll of a budget of 30 a minute: not oftener than every 30 s, and said so.

    Fails when the setting is kept whatever it costs.
    """
    async with a_daemon(tmp_path, settings={"NOTION_REQUESTS_PER_MINUTE": "30"}) as daemon:
        schedule, turned = daemon.app.schedule, asyncio.Event()
        await daemon.cycle()
        schedule.on_cycle = lambda _: turned.set()
        async with turning(schedule):
            await turned.wait()
            assert daemon.app.vitals.poll_seconds == 30.0
            assert schedule._scheduler.get_job("poll").trigger.interval == timedelta(seconds=30)
            assert daemon.app.api.limiter.reserve >= 6
