"""Killed at any moment: nothing is lost, hardly anything is done twice, and every key is right in the end."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.demo import blocks as b
from daemon.demo.habits import Habits
from daemon.demo.sandbox import Sandbox
from daemon.kv.base import Owner, Write
from daemon.kv.embedded import EmbeddedKV
from daemon.ledger import work
from daemon.ledger.ledger import Ledger
from daemon.sync.reader import MOST_IN_FLIGHT
from tests.support.oracle import check
from tests.support.process import command, running
from tests.support.redis_server import RedisServer, free_port
from tests.support.upstash_server import Fault, UpstashServer
from tests.support.world import OLD, World, a_world, texts
from tests.test_process import SECRET, TOKEN

pytest_plugins = ["tests.support.kv_fixtures"]
KILLS = 10
STEPS_OF_A_LIFE = 110


class Executioner:
    """Stands beside every step that leaves a trace (a commit, a command of the store) and lets none pass once dead.

    `left`: how many steps are still granted (None: as many as you like), of one kind only if `counted` names it.
    """

    def __init__(self) -> None:
        self.left: int | None = None
        self.counted: str | None = None
        self.dead = asyncio.Event()

    async def step(self, kind: str) -> None:
        """Pass, or stay here for ever."""
        if self.left is not None:
            self.left -= self.counted in (None, kind)
            if self.left < 0:
                self.dead.set()
        if self.dead.is_set():
            await asyncio.Event().wait()

    async def watch(self, life: Coroutine[Any, Any, None]) -> None:
        """Let a life go on until it ends by itself or is over."""
        living, over = asyncio.ensure_future(life), asyncio.ensure_future(self.dead.wait())
        await asyncio.wait({living, over}, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        while not living.done():  # what it would still do on its way out belongs to a clean end
            living.cancel()
            await asyncio.sleep(0)
        if not living.cancelled():
            living.result()

    def pardon(self) -> None:
        """The next process is born."""
        self.left = self.counted = None
        self.dead.clear()


@pytest.fixture
def executioner(monkeypatch: pytest.MonkeyPatch) -> Executioner:
    """Beside every transaction of the ledger and every command of the embedded store, before and after."""
    made = Executioner()

    def guarded(of: type, name: str) -> None:
        plain: Callable[..., Awaitable[Any]] = getattr(of, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            await made.step(name)
            answer = await plain(*args, **kwargs)
            await made.step(name)
            return answer

        monkeypatch.setattr(of, name, call)

    guarded(Ledger, "call")
    guarded(EmbeddedKV, "read")
    guarded(EmbeddedKV, "_write_fenced")
    return made


async def live(world: World, *, sweep: bool = False) -> None:
    """What a daemon does all day."""
    await world.catch_up()
    if sweep:
        await world.sweep()
    await world.poll()


async def poll(world: World) -> None:
    """One cycle, a poll interval later."""
    await world.poll()


class Site:
    """Rows, a branch below one of them, an inline database, and somebody who edits them. Everything is old."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.workspace, self.rng = world.workspace, rng
        self.rows = world.add_source("pages", {"slug": "rich_text"})
        self.pages = [
            self.workspace.add_row(self.rows, f"Row {n}", {"slug": f"row-{n}"}, blocks=[b.paragraph("words")])
            for n in range(6)
        ]
        self.below = [self.workspace.create_page(self.pages[0], "Child", blocks=[b.paragraph("below")])]
        self.below.append(self.workspace.create_page(self.below[0], "Grandchild"))
        _, jobs = self.workspace.create_database(self.pages[1], "Jobs", {"slug": "rich_text"})
        self.jobs = jobs
        self.workspace.add_row(jobs, "Printer", {"slug": "printer"})
        self.trashed: list[str] = []
        world.clock.advance(OLD)

    def edit(self, number: int) -> None:
        """One of the edits that touch several keys at once."""
        page, other = self.rng.sample(self.pages, 2)
        match self.rng.randrange(8):
            case 0:
                self.workspace.append_blocks(page, [b.paragraph(f"edit {number}")])
            case 1:
                self.workspace.set_title(self.rng.choice(self.below), f"Title {number}")
            case 2:
                slugs = [f"row-{self.pages.index(p)}" for p in (other, page)]
                self.workspace.set_properties(page, {"slug": slugs[0]})
                self.workspace.set_properties(other, {"slug": slugs[1]})
            case 3:
                self.workspace.add_row(self.jobs, f"Job {number}", {"slug": f"job-{number}"})
            case 4:
                self.below.append(self.workspace.create_page(page, f"Child {number}"))
            case 5 if not self.trashed:
                self.trashed.append(page)
                self.workspace.trash(page)
            case 5 | 6 if self.trashed:
                self.workspace.restore(self.trashed.pop())
            case _:
                self.workspace.set_properties(page, {"slug": f"moved-{number}"})


@pytest.mark.parametrize("seed", range(2))
async def test_killed_between_any_two_steps(tmp_path: Path, executioner: Executioner, seed: int) -> None:
    """Two dozen lives that each end after a random number of commits and commands: every key is right in the end.

    Fails when a batch is marked before it is applied.
    """
    rng = random.Random(seed)
    async with a_world(tmp_path) as world:
        site = Site(world, rng)
        for number in range(24):
            await world.start()
            is_long = number % 4 == 0
            executioner.left = rng.randrange(STEPS_OF_A_LIFE * (2 if is_long else 1))
            if number % 2:
                executioner.left, executioner.counted = rng.randrange(4), "_write_fenced"
            await executioner.watch(live(world, sweep=is_long))
            await world.kill()
            executioner.pardon()
            world.clock.advance(rng.choice([1, 15, 60]))
            site.edit(number)
        await world.start()
        for _ in range(2):
            world.clock.advance(OLD)
            await world.settle()
            await world.sweep()
        await check(world)


async def test_killed_at_each_step_of_a_poll(tmp_path: Path, executioner: Executioner) -> None:
    """The edit that was being looked for arrives with the next life's first poll, without search and sweep.

    Fails when a watermark moves before what was sighted is committed.
    """
    async with a_world(tmp_path, habits=Habits(search_forgets=1.0)) as world:
        site = Site(world, random.Random(0))
        await world.start()
        await world.settle()
        number, is_over = 0, False
        while not is_over:
            site.workspace.append_blocks(site.pages[2], [b.paragraph(f"edit {number}")])
            executioner.left = number
            await executioner.watch(poll(world))
            is_over = not executioner.dead.is_set()
            await world.kill()
            executioner.pardon()
            await world.start()
            await world.poll()
            assert f"edit {number}" in texts((await world.value("page:row-2"))["blocks"]), number
            world.clock.advance(OLD)
            await world.settle()
            number += 2  # after one step is before the next
        assert number > 15


async def test_killed_between_a_batch_and_its_mark(
    tmp_path: Path, executioner: Executioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has it, the ledger does not know: the next start sends the very same again, and reads nothing.

    Fails when a start believes that what it wanted to write was written.
    """
    sent: list[dict[str, str | None]] = []
    plain = EmbeddedKV.apply

    async def apply(kv: EmbeddedKV, writes: Sequence[Write], owner: Owner) -> bool:
        sent.append({write.key: write.value for write in writes if write.key != "sync:status"})
        done = await plain(kv, writes, owner)
        if executioner.left is not None:
            executioner.dead.set()
        return done

    async with a_world(tmp_path) as world:
        site = Site(world, random.Random(1))
        await world.start()
        await world.settle()
        site.workspace.append_blocks(site.pages[2], [b.paragraph("two")])
        site.workspace.set_properties(site.pages[0], {"slug": "moved"})
        monkeypatch.setattr(EmbeddedKV, "apply", apply)
        executioner.left = STEPS_OF_A_LIFE
        await executioner.watch(live(world))
        assert executioner.dead.is_set()
        await world.kill()
        executioner.pardon()
        await world.start()
        async with world.counted() as seen:
            await world.run()
        assert len(sent) == 2 and sent[0] == sent[1]
        assert {"page:moved", "page:row-0", "page:moved/child/grandchild", "page:row-2"} <= sent[0].keys()
        assert [r.path for r in seen if r.path.startswith(("/blocks", "/pages"))] == []
        await check(world)


# A forced full sync --------------------------------------------------------------------------------------------------


def page_reads(sandbox: Sandbox, since: int = 0) -> Counter[str]:
    """How often each page's body was asked for from its beginning."""
    asked = [r for r in sandbox.requests[since:] if r.path.endswith("/children")]
    ids = [r.path.split("/")[2] for r in asked if "start_cursor" not in r.query]
    return Counter(page for page in ids if page in sandbox.workspace.pages)


async def test_a_forced_sync_killed_ten_times_reads_hardly_anything_twice(
    tmp_path: Path, executioner: Executioner
) -> None:
    """Ten kills at random requests: of 240 pages only those that were in flight are read again, eight a kill at most.

    Fails when the force begins again with each start.
    """
    rng = random.Random(3)
    async with a_world(tmp_path) as world:
        rows = world.add_source("pages", {"slug": "rich_text"})
        for n in range(240):
            words = [b.toggle("a", [b.divider()])]
            world.workspace.add_row(rows, f"Row {n}", {"slug": f"row-{n}"}, blocks=words)
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        before = {key: (await world.value(key))["syncedAt"] for key in await world.keys()}
        since, left = len(world.sandbox.requests), 0

        def deadly(_: str, path: str) -> None:
            nonlocal left
            left -= path.startswith(("/blocks", "/pages"))
            if not left:
                executioner.dead.set()

        async def forced() -> None:
            await world.cycle.begin_force()
            while (await world.ledger.call(work.forced_left)) or not await world.cycle.is_done():
                await world.run()
            await world.cycle.end_force()
            await world.catch_up()

        world.sandbox.watchers.append(deadly)
        in_flight = 0
        for _ in range(KILLS):
            left = rng.randrange(10, 70)
            await executioner.watch(forced())
            assert executioner.dead.is_set()
            in_flight += world.cycle.reader.in_flight
            await world.kill()
            executioner.pardon()
            world.clock.advance(5.0)
            await world.start()
        left = -1
        await forced()
        reads = page_reads(world.sandbox, since)
        assert len(reads) == 240
        assert reads.total() - 240 <= in_flight <= KILLS * MOST_IN_FLIGHT
        after = {key: (await world.value(key))["syncedAt"] for key in await world.keys()}
        assert after.keys() == before.keys()
        assert [key for key in after if after[key] == before[key]] == []
        await check(world)


# Real processes ------------------------------------------------------------------------------------------------------


@dataclass
class Served:
    """A workspace that is served, and the settings that point a process at it."""

    sandbox: Sandbox
    settings: dict[str, str]
    pages: list[str] = field(default_factory=list)


@asynccontextmanager
async def served(count: int) -> AsyncIterator[Served]:
    """So many rows, two hours old, in a sandbox that stamps to the second."""
    sandbox = Sandbox(habits=Habits(stamp_granularity_seconds=1))
    workspace = sandbox.workspace
    root = workspace.create_page(None, "Root")
    database, rows = workspace.create_database(root, "Pages", {"slug": "rich_text"})
    made = Served(sandbox, {})
    with workspace.at(datetime.now(UTC) - timedelta(hours=2)):
        for n in range(count):
            words = [b.paragraph(f"words {n}")]
            made.pages.append(workspace.add_row(rows, f"Row {n}", {"slug": f"row-{n}"}, blocks=words))
    async with sandbox.serve() as url:
        made.settings = {
            "NOTION_TOKEN": TOKEN,
            "NOTION_BASE_URL": url,
            "NOTION_PAGES_DB": database,
            "NOTION_REQUESTS_PER_MINUTE": "100000",
            "EDIT_GRANULARITY_SECONDS": "1",
            "SETTLE_SLACK_SECONDS": "0.2",
            "FEED_LAG_SECONDS": "0.5",
            "POLL_INTERVAL_SECONDS": "0.2",
            "CRON_SECRET": SECRET,
        }
        yield made


async def test_a_forced_sync_survives_sigkill(tmp_path: Path) -> None:
    """`FORCE_FULL_SYNC=1` at every start, SIGKILL at two random requests: at most eight pages a kill twice.

    Fails when the force begins again with each start.
    """
    rng = random.Random(5)
    async with served(160) as site:
        settings = {**site.settings, "EMBEDDED_KV": "1", "FORCE_FULL_SYNC": "1"}
        assert (await command(tmp_path, settings, "sync")).code == 0
        since, left, reached = len(site.sandbox.requests), 0, asyncio.Event()

        def deadly(_: str, path: str) -> None:
            nonlocal left
            left -= path.endswith("/children")
            if not left:
                reached.set()

        site.sandbox.watchers.append(deadly)
        for _ in range(2):
            left = rng.randrange(30, 70)
            reached.clear()
            async with running(tmp_path, settings, free_port()) as daemon:
                async with asyncio.timeout(30.0):
                    await reached.wait()
                daemon.process.kill()
                await daemon.process.wait()
        async with running(tmp_path, settings, free_port()) as daemon, asyncio.timeout(60.0):
            while '"force_done"' not in daemon.log.read_text():
                await asyncio.sleep(0.02)
        reads = page_reads(site.sandbox, since)
        assert len([page for page in site.pages if reads[page]]) == 160
        assert reads.total() - 160 <= 2 * MOST_IN_FLIGHT


@pytest.mark.parametrize("is_applied", [False, True])
async def test_sigkill_in_the_middle_of_a_batch(
    tmp_path: Path, upstash_server: UpstashServer, redis_server: RedisServer, is_applied: bool
) -> None:
    """The process dies while the store has its batch: carried out or not, the next start sends the same values.

    Fails when a page counts as written before its batch is confirmed.
    """
    async with served(40) as site:
        settings = {
            **site.settings,
            "KV_REST_API_URL": upstash_server.url,
            "KV_REST_API_TOKEN": upstash_server.token,
        }
        async with running(tmp_path, settings, free_port()) as daemon:
            await daemon.until("/ready")
            upstash_server.requests.clear()
            upstash_server.fault = Fault("hang", after=is_applied)
            site.sandbox.workspace.append_blocks(site.pages[0], [b.paragraph("two")])
            async with asyncio.timeout(30.0):
                while not upstash_server.hanging.is_set():
                    await asyncio.sleep(0.02)
            daemon.process.kill()
            await daemon.process.wait()
        assert ("two" in redis_server.admin.get("page:row-0").decode()) is is_applied
        first = sent_values(upstash_server)
        upstash_server.requests.clear()
        since = len(site.sandbox.requests)
        async with running(tmp_path, settings, free_port()) as daemon:
            await daemon.until("/ready")
            assert await daemon.end() == 0
        second = sent_values(upstash_server)
        assert first.keys() <= second.keys() and {key: second[key] for key in first} == first
        assert set(page_reads(site.sandbox, since)) <= {site.pages[0]}
        keys = {key.decode() for key in redis_server.admin.keys("page:*")}
        assert keys == {f"page:row-{n}" for n in range(40)}
        assert "two" in redis_server.admin.get("page:row-0").decode()


def sent_values(server: UpstashServer) -> dict[str, Any]:
    """Every key of the site that the store was to set, without the moment at which its value was made."""
    found: dict[str, Any] = {}
    for parsed in server.requests:
        if parsed[0] != "EVAL" or "DEL" not in parsed[1]:
            continue
        keys, (_, _, sets, *values) = parsed[3 : 3 + int(parsed[2])], parsed[3 + int(parsed[2]) :]
        for key, text in zip(keys[1 : 1 + int(sets)], values, strict=True):
            if not key.startswith("sync:"):
                found[key] = json.loads(text) | {"syncedAt": None}
    return found
