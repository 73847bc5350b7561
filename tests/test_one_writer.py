"""G9: of several daemons on one store one writes, and commands beside a daemon leave their work to it."""

import asyncio
import json
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.demo import blocks as b
from daemon.demo.habits import Habits
from daemon.demo.sandbox import Sandbox
from daemon.ledger import tasks
from daemon.ledger.ledger import Ledger
from daemon.ledger.tasks import Kind, Task
from tests.support.process import Result, Running, command, running
from tests.support.redis_server import RedisServer, free_port
from tests.support.web import a_daemon

pytest_plugins = ["tests.support.kv_fixtures"]

PATIENCE_SECONDS = 30.0


@dataclass
class Site:
    """A served workspace, a real Redis, and daemons in folders (and so with ledgers) of their own."""

    sandbox: Sandbox
    store: RedisServer
    folder: Path
    settings: dict[str, str]
    rows: str
    page: str
    stack: AsyncExitStack

    async def daemon(self, name: str, **settings: str) -> Running:
        """Start one in the folder `name`; with the same name it has the same ledger."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        started = running(folder, self.settings | settings, free_port())
        return await self.stack.enter_async_context(started)

    async def command(self, name: str, *words: str, **settings: str) -> Result:
        """Run one in the folder `name`, to its end."""
        (self.folder / name).mkdir(exist_ok=True)
        return await command(self.folder / name, self.settings | settings, *words)

    def edit(self, text: str) -> None:
        self.sandbox.workspace.append_blocks(self.page, [b.paragraph(text)])

    def text(self, slug: str = "hello") -> str:
        """What a reader of the store finds under a page."""
        return (self.store.admin.get(f"page:{slug}") or b"").decode()

    @property
    def owner(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.store.admin.get("sync:owner") or b"{}")
        return record

    async def beats(self, count: int) -> None:
        """Wait until the owner of the store has shown so often that it lives."""
        for _ in range(count):
            last = self.owner["heartbeat"]
            await until(lambda last=last: self.owner["heartbeat"] > last)  # type: ignore[misc]

    @property
    def looks(self) -> int:
        """How often anybody read anything from the store."""
        return int(self.store.admin.info("commandstats").get("cmdstat_mget", {}).get("calls", 0))

    @property
    def commands(self) -> int:
        """How many commands that read or write the store has got."""
        calls = self.store.admin.info("commandstats").items()
        return sum(
            told["calls"] for name, told in calls if name in ("cmdstat_mget", "cmdstat_eval", "cmdstat_scan")
        )

    def tasks(self, name: str) -> list[str]:
        """The states of the tasks in the ledger of folder `name`."""
        with closing(sqlite3.connect(self.folder / name / "data" / "ledger.db")) as ledger:
            return [state for (state,) in ledger.execute("SELECT state FROM tasks ORDER BY created_at")]


@pytest.fixture
async def site(redis_server: RedisServer, tmp_path: Path) -> AsyncIterator[Site]:
    """Three rows, one with a child page, made an hour ago, in a sandbox whose stamps are exact.

    Each edit has a stamp of its own then: one that shares its stamp with a read is settled after a command has ended.
    """
    sandbox = Sandbox(habits=Habits(stamp_granularity_seconds=0))
    workspace = sandbox.workspace
    with workspace.at(datetime.now(UTC) - timedelta(hours=1)):
        root = workspace.create_page(None, "Root")
        database, rows = workspace.create_database(root, "Pages", {"slug": "rich_text"})
        page = workspace.add_row(rows, "Hello", {"slug": "hello"}, blocks=[b.paragraph("first")])
        workspace.create_page(page, "Below")
        for name in ("One", "Two"):
            workspace.add_row(rows, name, {"slug": name.lower()})
    redis_server.admin.config_resetstat()
    async with sandbox.serve() as url, AsyncExitStack() as stack:
        settings = {
            "NOTION_TOKEN": "ntn_sandbox",
            "NOTION_BASE_URL": url,
            "NOTION_PAGES_DB": database,
            "KV_URL": redis_server.url,
            "EDIT_GRANULARITY_SECONDS": "1",
            "SETTLE_SLACK_SECONDS": "0.2",
            "FEED_LAG_SECONDS": "0.5",
            "POLL_INTERVAL_SECONDS": "0.2",
            "HEARTBEAT_SECONDS": "1",
            "NOTION_REQUESTS_PER_MINUTE": "100000",
        }
        yield Site(sandbox, redis_server, tmp_path, settings, rows, page, stack)


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Look again and again until it holds, for a bounded time."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            holds = condition()
            if holds if isinstance(holds, bool) else await holds:
                return
            await asyncio.sleep(0.02)


async def state_of(daemon: Running) -> str:
    """The state that `/health` tells, with the status that goes with it."""
    answer = await daemon.get("/health")
    return f"{answer.status_code} {answer.json()['state']}"


def is_in(daemon: Running, state: str) -> Callable[[], Awaitable[bool]]:
    """Whether `/health` tells this."""

    async def asked() -> bool:
        return await state_of(daemon) == state

    return asked


# Daemons -----------------------------------------------------------------------------------------------------


async def test_the_newest_writes_and_the_old_one_ends_first(site: Site) -> None:
    """A rolling deploy: the new daemon owns the store, the old one stands by, and its end disturbs nothing.

    Broken on purpose: the token not compared in the script.
    """
    old = await site.daemon("old")
    await old.until("/ready")
    first = site.owner
    new = await site.daemon("new")
    await new.until("/ready")
    assert site.owner["token"] > first["token"] and site.owner["daemonId"] != first["daemonId"]
    await until(is_in(old, "200 standby"))
    site.edit("second")
    await until(lambda: "second" in site.text())
    owner = site.owner["daemonId"]
    assert await old.end() == 0
    site.edit("third")
    await until(lambda: "third" in site.text())
    assert site.owner["daemonId"] == owner and not site.owner["released"]
    assert await new.end() == 0
    assert site.owner["released"]


async def test_the_old_one_takes_over_when_the_new_one_ends(site: Site) -> None:
    """A clean end releases: nobody waits for a heartbeat to grow old.

    Broken on purpose: no release at the end.
    """
    old = await site.daemon("old", HEARTBEAT_SECONDS="60")
    await old.until("/ready")
    new = await site.daemon("new", HEARTBEAT_SECONDS="60")
    await new.until("/ready")
    site.edit("second")  # the old one finds out with its next batch
    await until(is_in(old, "200 standby"))
    await until(lambda: "second" in site.text())
    before = site.owner
    assert await new.end() == 0
    await until(is_in(old, "200 running"))
    await until(lambda: site.owner["token"] > before["token"] and not site.owner["released"])
    site.edit("third")
    await until(lambda: "third" in site.text())


async def test_the_old_one_takes_over_when_the_new_one_is_killed(site: Site) -> None:
    """It stands by without asking Notion anything until the owner's heartbeat is three times that old.

    Broken on purpose: a standby that goes on working; one that never finds the heartbeat old.
    """
    old = await site.daemon("old")
    await old.until("/ready")
    new = await site.daemon("new")
    await new.until("/ready")
    await until(is_in(old, "200 standby"))
    new.process.send_signal(signal.SIGSTOP)  # not killed yet: it must be the only one that asks Notion
    loop, paused = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    looks = site.looks
    await until(lambda: site.looks > looks)
    requests = len(site.sandbox.requests)
    await until(lambda: site.looks > looks + 3)
    assert len(site.sandbox.requests) == requests and await state_of(old) == "200 standby"
    new.process.kill()
    await until(is_in(old, "200 running"))
    assert loop.time() - paused > 2.0
    site.edit("second")
    await until(lambda: "second" in site.text())


@pytest.mark.parametrize("kind", ["refused", "stranger"])
async def test_a_newcomer_without_a_good_answer_takes_nothing(site: Site, kind: str) -> None:
    """A daemon that Notion refuses, or shows nothing of the site, starts again and again: the old one keeps the store.

    Broken on purpose: `may_claim` always true; an empty search taken for a good answer.
    """
    stranger = Sandbox()
    elsewhere = await site.stack.enter_async_context(stranger.serve())
    wrong = {"NOTION_TOKEN": "ntn_other"} if kind == "refused" else {"NOTION_BASE_URL": elsewhere}
    state = "503 stopped" if kind == "refused" else "200 first sync"
    old = await site.daemon("old")
    await old.until("/ready")
    owner = site.owner["token"]
    # With a ledger that knows the site it would have something to write.
    assert (await site.command("new", "sync", KV_URL=site.store.url.replace("/0", "/1"))).code == 0
    for _ in range(2):
        new = await site.daemon("new", **wrong)
        await new.until("/health?live=1")
        await until(is_in(new, state))
        await site.beats(2)
        new.process.kill()
        await new.process.wait()
    assert site.owner["token"] == owner
    site.edit("second")
    await until(lambda: "second" in site.text())
    assert site.owner["token"] == owner and await state_of(old) == "200 running"
    looks = stranger.count("POST", "/search")
    assert kind == "refused" or new.cycles <= looks + 5, "what it may not write does not keep it busy"


async def test_an_owner_that_wakes_up_late_writes_nothing(site: Site) -> None:
    """Paused while it reads an edit, awake when another has written a later one: its batch is not applied.

    Broken on purpose: the token not compared in the script.
    """
    old = await site.daemon("old")
    await old.until("/ready")
    paused = asyncio.Event()

    def pause(method: str, path: str) -> None:
        if path == f"/blocks/{site.page}/children" and not paused.is_set():
            old.process.send_signal(signal.SIGSTOP)
            paused.set()

    site.sandbox.watchers.append(pause)
    site.edit("second")
    async with asyncio.timeout(PATIENCE_SECONDS):
        await paused.wait()
    site.edit("third")
    new = await site.daemon("new")
    await new.until("/ready")
    await until(lambda: "third" in site.text())
    owner = site.owner
    old.process.send_signal(signal.SIGCONT)
    await until(is_in(old, "200 standby"))
    assert "third" in site.text()
    assert (site.owner["token"], site.owner["daemonId"]) == (owner["token"], owner["daemonId"])


async def test_tokens_do_not_begin_again_in_an_emptied_store(site: Site) -> None:
    """The store is flushed while its owner sleeps and filled by a new daemon: the owner does not take it for its own.

    Broken on purpose: tokens counted from 1.
    """
    old = await site.daemon("old")
    await old.until("/ready")
    old.process.send_signal(signal.SIGSTOP)
    site.store.admin.flushall()
    new = await site.daemon("new")
    await new.until("/ready")
    owner = site.owner
    old.process.send_signal(signal.SIGCONT)
    await until(is_in(old, "200 standby"))
    assert site.owner["daemonId"] == owner["daemonId"]


async def test_a_flushed_store_is_filled_again_by_its_owner(site: Site) -> None:
    """The owner's record is gone with the rest: the next heartbeat notices, nobody else is waited for."""
    daemon = await site.daemon("old")
    await daemon.until("/ready")
    keys = set(site.store.admin.keys("*"))
    site.store.admin.flushall()
    await until(lambda: set(site.store.admin.keys("*")) == keys)
    await until(is_in(daemon, "200 running"))


async def test_an_idle_daemon_sends_the_store_nothing(site: Site) -> None:
    """Between heartbeats no poll costs a store command, whatever the ledger is asked for at every turn."""
    daemon = await site.daemon("one", HEARTBEAT_SECONDS="60")
    await daemon.until("/ready")
    await until(lambda: site.sandbox.count("POST", "/query") > 15)
    commands, polls = site.commands, site.sandbox.count("POST", "/query")
    await until(lambda: site.sandbox.count("POST", "/query") > polls + 5)
    assert site.commands == commands


# Commands beside a daemon ------------------------------------------------------------------------------------


async def test_what_is_asked_for_at_once_is_done_once(tmp_path: Path) -> None:
    """Three requests before the next turn join it: the site is read once, by force because one of them said so.

    Broken on purpose: `force` forgotten.
    """
    async with a_daemon(tmp_path) as daemon:
        app = daemon.app
        working = asyncio.create_task(app.schedule.run())
        await app.vitals.became_ready.wait()
        before, reads = await app.kv.get("pages:index"), daemon.sandbox.count("GET", "/children")
        asked: list[dict[str, Any]] = [{"only": "pages"}, {"force": True}, {}]
        now = daemon.clock.now().timestamp()
        ids = [await app.ledger.call(tasks.add, Kind.SYNC, options, now) for options in asked]
        app.jobs.wake()
        found = await asyncio.gather(*(over(app.ledger, task_id) for task_id in ids))
        app.schedule.stop()
        await working
        assert [task.state for task in found] == ["done"] * 3
        assert await app.kv.get("pages:index") != before
        assert 0 < daemon.sandbox.count("GET", "/children") - reads <= reads


async def over(ledger: Ledger, task_id: str) -> Task:
    """A task, once it is over."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            task = await ledger.call(tasks.find, task_id)
            if task is not None and task.is_over:
                return task
            await asyncio.sleep(0.01)


ELSEWHERE = {"NOTION_TOKEN": "ntn_other", "KV_URL": "redis://127.0.0.1:9/0"}
"""What a command must not use when it leaves its work to the daemon: a refused token, a store that is not there."""


async def test_sync_beside_a_daemon_is_done_by_the_daemon(site: Site) -> None:
    """It asks neither Notion nor the store itself, ends when its part is done, and the owner stays the owner.

    Broken on purpose: the command finds nobody at work.
    """
    daemon = await site.daemon("one", POLL_INTERVAL_SECONDS="3")
    await daemon.until("/ready")
    owner = site.owner
    site.edit("second")
    site.sandbox.workspace.trash(site.sandbox.workspace.rows(site.rows)[1])
    result = await site.command("one", "sync", **ELSEWHERE)
    assert result.code == 0, result.err
    assert "second" in site.text() and not site.text("one")
    before = {slug: site.text(slug) for slug in ("hello", "hello/below", "two")}
    narrow = await site.command("one", "sync", "--force", "--only", "children", **ELSEWHERE)
    assert narrow.code == 0, narrow.err
    assert {slug for slug in before if site.text(slug) != before[slug]} == {"hello/below"}
    forced = await site.command("one", "sync", "--force", **ELSEWHERE)
    assert forced.code == 0, forced.err
    assert not [slug for slug in before if site.text(slug) == before[slug]]
    assert (site.owner["token"], site.owner["daemonId"]) == (owner["token"], owner["daemonId"])
    assert site.tasks("one") == ["done"] * 3 and await state_of(daemon) == "200 running"


async def test_republish_beside_a_daemon(site: Site) -> None:
    """Keys that somebody deleted or damaged are there again; exit code 0 and how many."""
    daemon = await site.daemon("one")
    await daemon.until("/ready")
    owner, before = site.owner, site.text()
    site.store.admin.delete("page:hello")
    site.store.admin.set("page:two", "spoilt")
    result = await site.command("one", "republish", **ELSEWHERE)
    assert result.code == 0, result.err
    assert "5 keys written" in result.out
    assert json.loads(site.text())["blocks"] == json.loads(before)["blocks"] and site.text("two") != "spoilt"
    assert site.owner["daemonId"] == owner["daemonId"]


async def test_confirm_removals_beside_a_daemon(site: Site) -> None:
    """What is held is shown by name; without a terminal it takes `--yes`; the daemon lets go what was shown."""
    daemon = await site.daemon("one")
    await daemon.until("/ready")
    for row in site.sandbox.workspace.rows(site.rows):
        site.sandbox.workspace.trash(row)
    assert (await site.command("one", "sync")).code == 0
    asked = await site.command("one", "confirm-removals", **ELSEWHERE)
    assert asked.code == 1 and "--yes" in asked.err
    assert [word for word in ("'Hello' (hello)", "'One' (one)", "'Two' (two)") if word not in asked.out] == []
    assert site.text() and site.text("one") and site.text("hello/below")
    confirmed = await site.command("one", "confirm-removals", "--yes", **ELSEWHERE)
    assert confirmed.code == 0, confirmed.err
    assert not site.store.admin.keys("page:*")
    again = await site.command("one", "confirm-removals", **ELSEWHERE)
    assert again.code == 0 and "Nothing is held" in again.out


async def test_a_daemon_that_fails_says_so_through_the_command(site: Site) -> None:
    """Notion refuses the token while the daemon does what was asked: exit code 1, and its reason."""
    daemon = await site.daemon("one")
    await daemon.until("/ready")
    site.sandbox.faults.add(401, times=100_000)
    result = await site.command("one", "sync")
    assert result.code == 1 and "NOTION_TOKEN" in result.err and "Traceback" not in result.err
    assert site.tasks("one") == ["failed"]


async def test_a_daemon_that_dies_leaves_the_work_to_the_command(site: Site) -> None:
    """Killed while it does what was asked: three beats later the command does it itself, whole."""
    daemon = await site.daemon("one")
    await daemon.until("/ready")
    site.sandbox.faults.add(hang=True, times=100_000, path=f"/blocks/{site.page}/children")
    site.edit("second")
    waiting = asyncio.create_task(site.command("one", "sync"))
    await until(lambda: "running" in site.tasks("one"))
    daemon.process.kill()
    site.sandbox.faults.clear()
    result = await waiting
    assert result.code == 0, result.err
    assert "doing it here" in result.err and "second" in site.text()
    assert site.tasks("one") == [] and site.owner["released"]


async def test_a_daemon_goes_on_with_what_the_one_before_left(site: Site) -> None:
    """Killed in the middle of a task that a trigger left: the next start finishes it.

    Broken on purpose: only queued tasks are taken.
    """
    daemon = await site.daemon("one")
    await daemon.until("/ready")
    site.sandbox.faults.add(hang=True, times=100_000, path=f"/blocks/{site.page}/children")
    ledger = Ledger(f"sqlite:///{site.folder / 'one' / 'data' / 'ledger.db'}")
    await ledger.open()
    await ledger.call(tasks.add, Kind.SYNC, {"force": True}, time.time())
    await ledger.close()
    await until(lambda: site.tasks("one") == ["running"])
    daemon.process.kill()
    await daemon.process.wait()
    site.sandbox.faults.clear()
    before = site.text()
    await site.daemon("one")
    await until(lambda: site.tasks("one") == ["done"])
    assert site.text() != before


async def test_of_two_daemons_on_one_ledger_the_writer_does_it(site: Site) -> None:
    """Replicas that share a ledger: who stands by leaves tasks alone, and does them once it has taken over.

    Fails when whoever takes over says so only with its next sign of life: a command finds nobody who works.
    """
    old = await site.daemon("one")
    await old.until("/ready")
    new = await site.daemon("one")
    await until(is_in(old, "200 standby"))
    owner = site.owner["daemonId"]
    site.edit("second")
    result = await site.command("one", "sync", **ELSEWHERE)
    assert result.code == 0, result.err
    assert "second" in site.text() and site.owner["daemonId"] == owner
    assert await new.end() == 0
    await until(is_in(old, "200 running"))
    site.edit("third")
    result = await site.command("one", "sync", **ELSEWHERE)
    assert result.code == 0, result.err
    assert "third" in site.text() and site.tasks("one") == ["done", "done"]


async def test_beside_a_daemon_that_stands_by_a_command_refuses(site: Site) -> None:
    """Another daemon, with another ledger, writes: a command must not push it aside, and says where to run instead."""
    old = await site.daemon("old")
    await old.until("/ready")
    new = await site.daemon("new")
    await new.until("/ready")
    await until(is_in(old, "200 standby"))
    owner = site.owner
    result = await site.command("old", "sync")
    assert result.code == 1 and "stands by" in result.err
    assert site.owner["token"] == owner["token"]
    assert site.tasks("old") == []


async def test_two_syncs_take_turns(site: Site) -> None:
    """The second one waits for the first, then looks for itself; both end well, and no two read at once.

    Broken on purpose: the second command finds nobody at work.
    """
    second_waits = asyncio.Event()
    held_up = asyncio.Event()

    async def hold_up(_method: str, path: str) -> None:
        if path == f"/blocks/{site.page}/children" and not second_waits.is_set():
            held_up.set()
            await second_waits.wait()

    site.sandbox.watchers.append(hold_up)
    first = asyncio.create_task(site.command("one", "sync"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await held_up.wait()
    second = asyncio.create_task(site.command("one", "sync"))
    await until(lambda: site.tasks("one") == ["queued"])
    second_waits.set()
    results = await asyncio.gather(first, second)
    assert [result.code for result in results] == [0, 0], results
    assert "Another command is at work" in results[1].err and "doing it here" in results[1].err
    assert site.text() and site.owner["released"] and site.tasks("one") == []
