"""What the daemon may use: memory, queues, file descriptors, room on the disk; and what happens when there is none."""

import asyncio
import contextlib
import json
import os
import random
import sqlite3
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

from daemon.demo import blocks as b
from daemon.kv.embedded import EmbeddedKV
from daemon.ledger import cycles, work
from daemon.ledger.ledger import LedgerError
from daemon.ledger.tables import CycleRow, Gone, Page, Snapshot
from daemon.sync.publish import QUOTA_BACK_OFF_SECONDS
from daemon.sync.reader import MOST_IN_FLIGHT
from tests.support.oracle import check
from tests.support.process import environment
from tests.support.web import Daemon, a_daemon
from tests.support.world import OLD, World, a_world, texts
from tests.test_crash import served

MB = 1_000_000
DAY_SECONDS = 86_400.0
PEAK_MB = 350
"""With a page of 20,000 blocks; the process alone takes about 95 MB."""

MEASURED = """
import re, resource, sys
from pathlib import Path
from daemon.cli import main
try:
    main()
finally:
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text()) if status.exists() else None
    peak_kb = int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak_kb * 1024, file=sys.stderr)
"""
"""Runs a command as `python -m daemon` does, and says at last how much memory it took.

Linux counts in `ru_maxrss` what the parent had when it started the process.
"""


# Memory and queues ---------------------------------------------------------------------------------------------------


async def test_a_page_of_twenty_thousand_blocks_fits_into_memory(tmp_path: Path) -> None:
    """Read whole, published whole, in a process that stays below 350 MB.

    It was edited an hour ago: reading it once more to settle, which a slow machine does while the first read is being
    written, is not what is measured. Fails when every block keeps a second copy of itself.
    """
    async with served(3) as site:
        lines = [
            [b.paragraph(f"{n}.{m} some words that make it long") for m in range(99)] for n in range(200)
        ]
        toggles = [b.toggle(str(n), inside) for n, inside in enumerate(lines)]
        with site.sandbox.workspace.at(datetime.now(UTC) - timedelta(hours=1)):
            site.sandbox.workspace.append_blocks(site.pages[0], toggles)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", MEASURED, "sync"),
            cwd=tmp_path,
            env=environment({**site.settings, "EMBEDDED_KV": "1"}),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(60.0):
            _, said = await process.communicate()
        assert process.returncode == 0, said.decode()
        with sqlite3.connect(tmp_path / "data" / "kv.db") as store:
            (value,) = store.execute("SELECT value FROM entries WHERE key = 'page:row-0'").fetchone()
        store.close()
        found = list(texts(json.loads(value)["blocks"]))
        assert len(found) == 20_001 and found[-1] == "199.98 some words that make it long"
        assert int(said.split()[-1]) < PEAK_MB * MB


async def test_a_backlog_of_thousands_waits_in_the_ledger(tmp_path: Path) -> None:
    """Three thousand pages to read: eight in flight, a handful of tasks, the rest in the ledger across a kill.

    Fails when everything that is due is taken at once.
    """
    async with a_world(tmp_path) as world:
        rows = world.add_source("pages", {"slug": "rich_text"})
        for number in range(3000):
            world.workspace.add_row(rows, f"Row {number}", {"slug": f"row-{number}"})
        world.clock.advance(OLD)
        await world.start()
        most_in_flight, most_tasks, reads = 0, 0, 0

        def count(_: str, path: str) -> None:
            nonlocal most_in_flight, most_tasks, reads
            most_in_flight = max(most_in_flight, world.cycle.reader.in_flight)
            most_tasks = max(most_tasks, len(asyncio.all_tasks()))
            reads += path.endswith("/children")
            if reads % 200 == 0:
                world.cycle.hurry()

        world.sandbox.watchers.append(count)
        while reads < 200:
            await world.run()
        left = await world.ledger.call(work.backlog, world.api.notion_now())
        assert left.total == 3000 and 2700 < left.due < 2900
        assert most_in_flight == MOST_IN_FLIGHT and most_tasks < 60
        await world.kill()
        await world.start()
        async with world.counted() as seen:
            await world.run(look=False)
        assert len([r for r in seen if "/query" in r.path]) == 0
        assert (await world.ledger.call(work.backlog, world.api.notion_now())).due < left.due


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a listing of this folder changes while it is iterated


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc on this system")
async def test_a_thousand_cycles_open_nothing_that_stays_open(tmp_path: Path) -> None:
    """Quiet polls, edits, failures of every kind: as many descriptors and tasks as before.

    Fails when a request brings a connection of its own.
    """
    rng = random.Random(1)
    async with a_world(tmp_path) as world:
        rows = world.add_source("pages", {"slug": "rich_text"})
        pages = [world.workspace.add_row(rows, f"Row {n}", {"slug": f"row-{n}"}) for n in range(5)]
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        await cycles_of_every_kind(world, pages, rng, 100)
        before, tasks = descriptors(), len(asyncio.all_tasks())
        await cycles_of_every_kind(world, pages, rng, 900)
        assert descriptors() <= before + 4 and len(asyncio.all_tasks()) <= tasks + 4
        world.sandbox.faults.clear()
        world.clock.advance(OLD)
        await world.settle()
        await check(world)


async def cycles_of_every_kind(world: World, pages: list[str], rng: random.Random, count: int) -> None:
    """Mostly quiet ones."""
    for number in range(count):
        world.sandbox.faults.random(0.3 if number % 10 == 5 else 0.0, [500, 429, "cut", "reset"], seed=number)
        if number % 10 == 0:
            world.workspace.set_title(rng.choice(pages), f"Title {number}")
        await world.poll()


# The ledger's file ---------------------------------------------------------------------------------------------------


def counted(db: Connection) -> dict[str, int]:
    """How many rows the tables hold that could grow without end."""
    tables = (CycleRow, Gone, Page, Snapshot)
    return {t.__tablename__: int(db.scalar(select(func.count()).select_from(t)) or 0) for t in tables}


async def test_the_last_few_hundred_cycles_are_kept(tmp_path: Path) -> None:
    """Old summaries leave when new ones come. Fails when nothing prunes them."""
    async with a_world(tmp_path) as world:
        await world.start()
        for number in range(cycles.KEPT + 60):
            await world.ledger.call(cycles.keep, float(number), {"started_at": number})
        assert (await world.ledger.call(counted))["cycles"] == cycles.KEPT
        newest, *_ = await world.ledger.call(cycles.recent)
        assert newest["started_at"] == cycles.KEPT + 59


async def test_a_page_read_again_and_again_takes_no_more_room(tmp_path: Path) -> None:
    """Sixty versions of a large page: one snapshot, a file that reuses its room, and a journal within its bound.

    Fails when snapshots are added instead of replaced.
    """
    rng = random.Random(1)
    async with a_world(tmp_path) as world:
        rows = world.add_source("pages", {"slug": "rich_text"})
        page = world.workspace.add_row(rows, "Long", {"slug": "long"})
        await world.start()
        sizes = []
        for _ in range(60):
            for block in world.workspace.children(page):
                world.workspace.delete_block(block)
            lines = [b.paragraph(rng.randbytes(600).hex()) for _ in range(rng.randrange(20, 90))]
            world.workspace.append_blocks(page, lines)
            await world.poll(60.0)
            sizes.append(await world.ledger.call(size_bytes))
        assert (await world.ledger.call(counted))["snapshots"] == 1
        assert max(sizes[20:]) < 1.3 * max(sizes[:20]) < MB
        limit = await world.ledger.call(lambda db: db.exec_driver_sql("PRAGMA journal_size_limit").scalar())
        assert isinstance(limit, int) and 0 < limit <= 64 * 2**20
        assert (world.folder / "ledger.db-wal").stat().st_size < 8 * MB


def size_bytes(db: Connection) -> int:
    """How large the ledger is, what is still in its journal included."""
    pages = int(db.exec_driver_sql("PRAGMA page_count").scalar() or 0)
    return pages * int(db.exec_driver_sql("PRAGMA page_size").scalar() or 0)


async def test_pages_that_are_gone_are_forgotten_after_a_day(tmp_path: Path) -> None:
    """Everything of a removed page leaves at once, the memory that it was removed a day later.

    Fails when that memory is kept for ever.
    """
    async with a_world(tmp_path) as world:
        rows = world.add_source("pages", {"slug": "rich_text"})
        keep = world.workspace.add_row(rows, "Keep", {"slug": "keep"})
        world.clock.advance(OLD)
        await world.start()
        for number in range(8):
            row = world.workspace.add_row(rows, f"Row {number}", {"slug": f"row-{number}"})
            await world.poll()
            world.workspace.trash(row)
            await world.sweep()
        assert await world.slugs() == {"keep"}
        kept = await world.ledger.call(counted)
        assert kept["pages"] == kept["snapshots"] == 1 and kept["gone"] >= 8
        world.clock.advance(DAY_SECONDS + OLD)
        world.workspace.set_title(keep, "Kept")
        await world.settle()
        assert (await world.ledger.call(counted))["gone"] == 0


# A full disk ---------------------------------------------------------------------------------------------------------


def no_more_room(db: Connection) -> None:
    """From now on the file may not grow: SQLite then says what it says on a full disk."""
    pages = db.exec_driver_sql("PRAGMA page_count").scalar()
    db.exec_driver_sql(f"PRAGMA max_page_count = {pages}")


def room_again(db: Connection) -> None:
    """As much as anybody wants."""
    db.exec_driver_sql("PRAGMA max_page_count = 1000000000")


async def turn(daemon: Daemon) -> None:
    """One turn of the loop, as a tick brings it about."""
    schedule = daemon.app.schedule
    daemon.clock.advance(15.0)
    schedule._wish(look=True)
    async with asyncio.timeout(30.0):
        await schedule._turn(schedule._take())


async def test_a_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    """The ledger cannot grow: the loop goes on, `/health` says why, no page is blamed, published is what was.

    Each turn asks Notion for a few pages at most; with room again everything comes by itself. Fails when the ledger's
    failure counts as the page's, and when reading goes on all the same.
    """
    async with a_daemon(tmp_path) as daemon:
        app, workspace = daemon.app, daemon.sandbox.workspace
        await daemon.settle()
        row = workspace.add_row(daemon.sample.pages_data_source, "Large")
        await daemon.settle()
        before = {key: await app.kv.get(key) async for key in app.kv.scan("page:*")}
        assert "page:large" in before
        await app.ledger.call(no_more_room)
        noise = random.Random(1)
        workspace.append_blocks(row, [b.paragraph(noise.randbytes(900).hex()) for _ in range(90)])
        asked = daemon.sandbox.count("GET")
        for _ in range(6):
            await turn(daemon)
        assert daemon.sandbox.count("GET") - asked <= 6 * MOST_IN_FLIGHT
        said = await daemon.http.get("/health")
        assert said.status_code == 200 and "disk is full" in said.json()["reason"]
        assert "Free some space" in said.json()["reason"]
        for _ in range(8):
            await turn(daemon)
        said = await daemon.http.get("/health")
        assert said.status_code == 503 and "disk is full" in said.json()["reason"]
        assert {key: await app.kv.get(key) async for key in app.kv.scan("page:*")} == before
        await app.ledger.call(room_again)
        for _ in range(10):
            await turn(daemon)
        assert (await daemon.http.get("/health")).json()["reason"] is None
        assert await app.ledger.call(work.troubled) == []
        after = {key: await app.kv.get(key) async for key in app.kv.scan("page:*")}
        assert after.keys() == before.keys() and len(after["page:large"] or "") > 90 * 1800


async def test_a_full_sync_asked_for_while_the_ledger_is_away_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be written down, not even the wish: it waits for the turn in which something can.

    Fails when a turn that failed takes its wishes with it.
    """
    async with a_daemon(tmp_path) as daemon:
        app = daemon.app
        await daemon.settle()
        before = {key: await app.kv.get(key) async for key in app.kv.scan("page:*")}

        async def away(*_: Any) -> None:
            raise LedgerError("The ledger's disk is gone", "Bring it back.")

        monkeypatch.setattr(app.ledger, "call", away)
        asked = app.schedule.request(force=True)
        for _ in range(3):
            await turn(daemon)
        said = (await daemon.http.get("/health")).json()["reason"]
        assert "Bring it back" in said and not asked.done()
        monkeypatch.undo()
        for _ in range(5):
            await turn(daemon)
        assert asked.done()
        after = {key: await app.kv.get(key) async for key in app.kv.scan("page:*")}
        assert [key for key in after if after[key] == before[key]] == []


async def test_what_the_store_took_is_not_sent_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch arrived and cannot be marked: it is sent again at growing intervals, and marked once there is room.

    Fails when it is sent with every cycle.
    """
    async with a_world(tmp_path) as world:
        rows = world.add_source("pages", {"slug": "rich_text"})
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        for number in range(200):
            world.workspace.add_row(rows, f"Row {number}", {"slug": f"row-{number}"})
        plain, sent = world.cycle.publisher._write, 0

        async def write(*args: Any) -> None:
            nonlocal sent
            sent += 1
            await world.ledger.call(no_more_room)
            await plain(*args)

        monkeypatch.setattr(world.cycle.publisher, "_write", write)
        for _ in range(12):
            with contextlib.suppress(LedgerError):
                await world.poll(14.0)
        assert 1 < sent <= 6
        monkeypatch.undo()
        await world.ledger.call(room_again)
        world.clock.advance(60.0)
        await world.settle()
        await check(world)


async def test_a_store_on_a_full_disk_waits(tmp_path: Path) -> None:
    """The embedded store cannot grow: what is read waits in the ledger, old values stay, and it is said.

    Fails when a full disk counts as a damaged file.
    """
    async with a_world(tmp_path) as world:
        rows = world.add_source("pages", {"slug": "rich_text"})
        page = world.workspace.add_row(rows, "Page", {"slug": "page"})
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        before = await world.value("page:page")
        assert isinstance(world.kv, EmbeddedKV)
        store = world.kv
        count = await store.read(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
        await store.read(lambda db: db.execute(f"PRAGMA max_page_count = {count}").fetchone())
        lines = [b.paragraph(f"{n} " + "words " * 60) for n in range(60)]
        world.workspace.append_blocks(page, lines)
        summary = await world.poll()
        assert summary.problem is not None and summary.pending and summary.read == 1
        assert "full" in summary.problem and "Free space on the disk that holds DATA_DIR" in summary.problem
        for _ in range(10):
            summary = await world.poll(80.0)
        assert summary.problem is not None and await world.value("page:page") == before
        await store.read(lambda db: db.execute("PRAGMA max_page_count = 1000000000").fetchone())
        world.clock.advance(QUOTA_BACK_OFF_SECONDS)
        async with world.counted() as seen:
            summary = await world.run(look=False)
        assert summary.problem is None and seen == []
        await check(world)
