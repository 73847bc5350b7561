"""The operator is told once when syncing starts to fail and once when it works again: no blip, no storm, no secret."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from daemon import __version__
from daemon.alarm import DAMPED_SECONDS, GIVE_UP_SECONDS, Alarm, Seen, State, decide
from daemon.app import App
from daemon.clock import DrivenClock
from daemon.config import load_settings
from daemon.demo import blocks as b
from daemon.kv.base import KVUnavailable
from daemon.ledger.ledger import Ledger, LedgerError
from daemon.sync.cycle import Summary
from daemon.vitals import Vitals
from tests.support.receiver import Receiver, a_receiver
from tests.support.web import SECRET, Daemon, a_daemon
from tests.support.world import World, a_world

SPAN = 120.0
WELL = Seen("running", SPAN, is_well=True, held=0)
UNKNOWN = Seen("running", SPAN)
HOOK = "/services/T0/B0/secret-of-the-hook"


def bad(failures: int = 9, reason: str = "the store is away") -> Seen:
    """So many cycles in a row went wrong."""
    return Seen("failing", SPAN, trouble=reason, failures=failures, held=0)


@pytest.fixture
def hook() -> Iterator[Receiver]:
    """The operator's chat."""
    with a_receiver(HOOK) as receiver:
        yield receiver


def events(receiver: Receiver) -> list[str]:
    """What it was told, in short."""
    return [told["event"] for told in receiver.told]


def through(state: State, looks: list[tuple[Seen, float]], now: float = 0.0) -> tuple[State, float]:
    """Look every five seconds; each of `looks` lasts so long."""
    for seen, seconds in looks:
        until = now + seconds
        while now < until:
            state = decide(state, seen, now)
            now += 5.0
    return state, now


def told(state: State) -> list[str]:
    """The messages that wait, and nobody takes away here: the last ten."""
    return [str(message["event"]) for message in state.waiting]


# The rule: pure --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        ([(WELL, 600.0)], []),
        ([(WELL, 60.0), (bad(), 115.0), (WELL, 600.0)], []),
        ([(bad(failures=2), 3600.0)], []),
        ([(bad(failures=3), 130.0)], ["failing"]),
        ([(bad(), 86_400.0)], ["failing"]),
        ([(bad(), 300.0), (WELL, 115.0)], ["failing"]),
        ([(bad(), 300.0), (WELL, 130.0)], ["failing", "recovered"]),
        ([(bad(), 300.0), (WELL, 86_400.0)], ["failing", "recovered"]),
        ([(bad(), 300.0), (UNKNOWN, 86_400.0)], ["failing"]),
        ([(bad(), 100.0), (UNKNOWN, 60.0), (bad(), 5.0)], ["failing"]),
        ([(replace(bad(failures=0), is_unhealthy=True), 5.0)], ["failing"]),
        ([(replace(bad(failures=1), state="stopped"), 60.0), (WELL, 600.0)], []),
        ([(replace(bad(failures=2), state="stopped"), 5.0)], ["failing"]),
    ],
)
def test_it_fails_when_it_fails_for_long_and_works_when_it_works_for_long(
    looks: list[tuple[Seen, float]], expected: list[str]
) -> None:
    """Three failures and two minutes, or refused twice, no blip; once each; what is not known yet is neither.

    Fails when one failure, or one success, is enough, and when a state is told again while it lasts.
    """
    state, _ = through(State(), looks)
    assert told(state) == expected


@pytest.mark.parametrize("minutes", [1.0, 3.0, 5.0, 10.0, 20.0, 45.0])
def test_flapping_is_damped(minutes: float) -> None:
    """Failing and working in turns for a day: a handful of messages, and the last one is right when it ends.

    Fails when the time to go well is not doubled, and when it stays doubled for ever.
    """
    state, now, seen = State(), 0.0, []
    for _ in range(int(86_400 / (120 * minutes))):
        for look in (bad(), WELL):
            state, now = through(state, [(look, 60.0 * minutes)], now)
            seen += told(state)
            state = replace(state, waiting=())
    state, now = through(state, [(WELL, 2 * DAMPED_SECONDS)], now)
    seen += told(state)
    assert len(seen) <= 12 and seen == ["failing", "recovered"] * (len(seen) // 2)
    state, now = through(replace(state, waiting=()), [(bad(), 300.0), (WELL, 300.0)], now)
    assert told(state) == ["failing", "recovered"]


def test_held_removals_are_told_once_and_once_more_when_they_are_settled() -> None:
    """Whatever their number; also while syncing fails. Fails when each cycle that holds something tells."""
    held = replace(WELL, state="degraded", held=7)
    state, now = through(
        State(), [(WELL, 60.0), (held, 3600.0), (replace(held, held=9), 3600.0), (WELL, 5.0)]
    )
    assert told(state) == ["held"]
    state, now = through(state, [(held, 60.0), (WELL, 3600.0)], now)
    assert told(state) == ["held", "recovered"]
    state, _ = through(State(), [(replace(bad(), held=7), 300.0), (WELL, 300.0)])
    assert sorted(told(state)) == ["failing", "held", "recovered", "recovered"]


def test_a_message_is_one_that_slack_takes_and_says_nothing_it_should_not() -> None:
    """`text` beside the fields, with Slack's own signs escaped; bounded; a secret that a reason carries is not told."""
    reason = "<https://user:hunter22@kv.example.com> & token=abcdefgh said no. " + "x" * 5_000
    state, _ = through(State(), [(bad(reason=reason), 300.0)], 1_767_603_600.0)
    message = state.waiting[0]
    assert message["event"] == message["state"] == "failing" and message["version"] == __version__
    assert (message["failures"], message["since"]) == (9, "2026-01-05T09:00:00Z")
    assert "&lt;https://" in message["text"] and " &amp; " in message["text"] and "doctor" in message["text"]
    assert len(message["text"]) < 1_000 and "doctor" in message["hint"]
    assert "hunter22" not in str(message) and "abcdefgh" not in str(message)


# The daemon ------------------------------------------------------------------------------------------------------


class PatientClock(DrivenClock):
    """Time moves only when the test says so; whoever sleeps waits for it."""

    async def sleep_until(self, monotonic_seconds: float) -> None:
        while self.monotonic() < monotonic_seconds:
            await asyncio.sleep(0.002)


class Life:
    """Daemons, one after the other on one ledger, each with its own loop, schedule and server, in quick time."""

    def __init__(self, world: World, folder: Path, hook: Receiver) -> None:
        self.world, self.clock, self.turns = world, PatientClock(), asyncio.Event()
        self.settings = load_settings(
            {
                "NOTION_TOKEN": "ntn_sandbox",
                "NOTION_BASE_URL": world.url,
                "NOTION_PAGES_DB": world.sources[0][1],
                "NOTION_REQUESTS_PER_MINUTE": "100000",
                "EMBEDDED_KV": "1",
                "DATA_DIR": str(folder / "data"),
                "HOST": "127.0.0.1",
                "PORT": "0",
                "SYNC_FAILURE_WEBHOOK": hook.url,
            }
        )

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[App]:
        """One that runs for as long as the block does, and ends cleanly."""
        app, stop = App(self.settings, self.clock), asyncio.Event()
        note = app.vitals.alive

        def alive(now: float) -> None:
            note(now)
            self.turns.set()

        setattr(app.vitals, "alive", alive)  # noqa: B010 - the real one, and a word of it
        await app.open()
        running = asyncio.create_task(app.run(stop))
        try:
            async with asyncio.timeout(30.0):
                yield app
        finally:
            stop.set()
            await running
            await app.close()

    async def until(self, app: App, reached: Callable[[], Any]) -> None:
        """One poll after the other, each a poll interval later, until something has come true.

        The schedule's ticks go by the machine's own time; time goes on only with them, however slow the machine is.
        """
        while not reached():
            self.turns.clear()
            app.schedule._wish(look=True)
            await self.turns.wait()
            self.clock.advance(15.0)
            await asyncio.sleep(0.005)

    async def pass_by(self, app: App, seconds: float) -> None:
        """Let so much time pass, and some cycles with it."""
        end, cycles = self.clock.monotonic() + seconds, 0

        def turned(_: Summary) -> None:
            nonlocal cycles
            cycles += 1

        app.schedule.on_cycle = turned
        await self.until(app, lambda: self.clock.monotonic() >= end and cycles >= 3)


@asynccontextmanager
async def a_life(folder: Path, hook: Receiver) -> AsyncIterator[Life]:
    """A site of one page, and what runs daemons on it."""
    async with a_world(folder) as world:
        world.workspace.add_row(world.add_source(), "Hello", {"slug": "hello"}, blocks=[b.paragraph("one")])
        yield Life(world, folder, hook)


def has_failed(app: App, times: int) -> bool:
    """Whether so many cycles in a row went wrong."""
    return app.vitals.failures >= times


async def test_failing_and_recovering_is_told_once_each_through_restarts(
    tmp_path: Path, hook: Receiver
) -> None:
    """Real loops, schedules and servers: Notion refuses the token, the daemon is started anew twice, the token is back.

    Fails when what was told is forgotten by a restart, and when a start counts as a recovery.
    """
    async with a_life(tmp_path, hook) as life:
        async with life.daemon() as app:
            await life.until(app, lambda: app.vitals.ready)
            await life.pass_by(app, 200.0)
            assert hook.calls == []
            life.world.workspace.revoke_token()
            await life.until(app, lambda: hook.calls)
        for _ in range(2):
            async with life.daemon() as app:
                await life.until(app, partial(has_failed, app, 3))
        assert events(hook) == ["failing"]
        said = hook.told[0]
        assert said["state"] == "stopped" and said["failures"] >= 2 and "NOTION_TOKEN" in said["hint"]
        async with life.daemon() as app:
            life.world.workspace.restore_token()
            await life.until(app, lambda: len(hook.calls) == 2)
            await life.pass_by(app, 400.0)
        assert events(hook) == ["failing", "recovered"]
        assert hook.told[1]["since"] == said["since"] and "works again" in hook.told[1]["text"]


async def test_a_daemon_that_never_lives_for_long_fails_too(tmp_path: Path, hook: Receiver) -> None:
    """A host that starts it again every minute: the failures of all its lives count. Fails when each counts its own."""
    async with a_daemon(tmp_path, settings={"SYNC_FAILURE_WEBHOOK": hook.url}) as daemon:
        app = daemon.app
        assert app.alarm is not None
        for _ in range(4):
            alarm = Alarm(app, app.ledger, app.outgoing, app.alarm._url)
            app.vitals = Vitals(daemon.clock.monotonic(), 15.0, 900.0)
            await alarm.turn()
            app.vitals.failed("TypeError: see the log")
            await alarm.turn()
            daemon.clock.advance(61.0)
        assert events(hook) == ["failing"] and hook.told[0]["failures"] == 3


async def look(daemon: Daemon, times: int) -> None:
    """So many cycles, half a minute apart, as the schedule notes them, and a look after each."""
    assert daemon.app.alarm is not None
    for _ in range(times):
        daemon.clock.advance(30.0)
        try:
            await daemon.cycle()
        except LedgerError as error:
            daemon.app.vitals.failed(str(error))
        await daemon.app.alarm.turn()


async def went_well(daemon: Daemon) -> None:
    """A poll interval passes, the schedule notes a cycle that went well, and a look."""
    daemon.clock.advance(15.0)
    daemon.app.vitals.cycled(Summary(0.0, looked=True), daemon.clock)
    assert daemon.app.alarm is not None
    await daemon.app.alarm.turn()


async def test_the_store_away_then_back(
    tmp_path: Path, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One blip is not told; an outage is, with its reason and none of the site's titles and slugs."""
    async with a_daemon(tmp_path, settings={"SYNC_FAILURE_WEBHOOK": hook.url}) as daemon:
        await daemon.catch_up()

        async def refuse(*_: object) -> bool:
            raise KVUnavailable("The store does not answer")

        for outage in (1, 6):
            with monkeypatch.context() as patch:
                patch.setattr(daemon.app.kv, "apply", refuse)
                daemon.sandbox.workspace.add_row(daemon.sample.pages_data_source, f"Secret plans {outage}")
                await look(daemon, outage)
            await look(daemon, 6)
            assert events(hook) == ([] if outage == 1 else ["failing", "recovered"])
        assert "store does not answer" in hook.told[0]["reason"]
        assert "ecret" not in str(hook.told).replace("secret-of-the-hook", "")


async def test_the_ledger_unusable_is_told_from_memory(
    tmp_path: Path, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be kept, and it is told once all the same. Fails when telling needs what could not be kept."""
    async with a_daemon(tmp_path, settings={"SYNC_FAILURE_WEBHOOK": hook.url}) as daemon:
        await daemon.catch_up()
        await look(daemon, 1)

        async def refuse(*_: object, **__: object) -> None:
            raise LedgerError("The disk is full", "Free some space.")

        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "call", refuse)
            await look(daemon, 12)
        assert events(hook) == ["failing"] and "disk is full" in hook.told[0]["text"]
        await look(daemon, 6)
        assert events(hook) == ["failing", "recovered"]


async def test_held_removals_are_told_and_their_end(tmp_path: Path, hook: Receiver) -> None:
    """As the ledger has them, through a restart. Fails when a start, which has not looked yet, takes them for gone."""
    async with a_daemon(tmp_path, settings={"SYNC_FAILURE_WEBHOOK": hook.url}) as daemon:
        app = daemon.app
        for held in (0, 7, 7, None, 7):
            app.vitals.held = held or 0
            if held is None:  # another process
                assert app.alarm is not None
                app.alarm = Alarm(app, app.ledger, app.outgoing, app.alarm._url)
                app.vitals.last_summary = None
                for _ in range(40):
                    daemon.clock.advance(15.0)
                    app.cycle.reader.last_progress = daemon.clock.monotonic()
                    await app.alarm.turn()
            else:
                await went_well(daemon)
        assert events(hook) == ["held"]
        assert "7 removals" in hook.told[0]["text"] and "confirm-removals" in hook.told[0]["hint"]
        assert hook.told[0]["state"] == "degraded"
        app.vitals.held = 0
        for _ in range(20):
            await went_well(daemon)
        assert events(hook) == ["held", "recovered"] and "no removals" in hook.told[1]["text"]


async def test_a_hook_that_does_not_answer_is_tried_for_an_hour_and_then_left(
    tmp_path: Path, hook: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """With growing pauses, in order; nothing of the address is shown. Fails when it is tried for ever."""
    async with a_daemon(tmp_path, settings={"SYNC_FAILURE_WEBHOOK": hook.url}) as daemon:
        app, hook.always = daemon.app, 503
        assert app.alarm is not None
        for _ in range(int(2 * GIVE_UP_SECONDS / 30)):
            app.vitals.failed("the store is away")
            daemon.clock.advance(30.0)
            await app.alarm.turn()
        assert 5 <= len(hook.calls) <= 20 and set(events(hook)) == {"failing"}
        hook.always = 204
        for _ in range(20):
            await went_well(daemon)
        assert events(hook)[-1] == "recovered" and events(hook).count("recovered") == 1
        shown = (await daemon.http.get("/status", headers={"x-sync-secret": SECRET})).json()["failureWebhook"]
        assert shown == {"failing": False, "held": False, "waiting": 0}
        assert "secret-of-the-hook" not in capsys.readouterr().out


async def test_a_daemon_that_stands_by_tells_nothing(tmp_path: Path, hook: Receiver) -> None:
    """The one that writes tells. Fails when standing is not asked for."""
    async with a_daemon(tmp_path, settings={"SYNC_FAILURE_WEBHOOK": hook.url}) as daemon:
        alarm, vitals = daemon.app.alarm, daemon.app.vitals
        assert alarm is not None
        vitals.on_standby = True
        for _ in range(20):
            vitals.failed("the store is away")
            daemon.clock.advance(15.0)
            await alarm.turn()
        assert hook.calls == []
        vitals.on_standby = False
        for _ in range(10):
            daemon.clock.advance(15.0)
            await alarm.turn()
        assert events(hook) == ["failing"]


async def test_nobody_to_tell_costs_nothing(tmp_path: Path) -> None:
    """No alarm, nothing that tells a site, no errand without the settings."""
    async with a_daemon(tmp_path) as daemon:
        app = daemon.app
        assert app.alarm is None and app.revalidation is None and app.errands == []
