"""The ledger's door: tables as the models say, commits that last, writers that never lose an update."""

import asyncio
import multiprocessing
import os
import signal
import sqlite3
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event, select, update

from daemon.ledger import meta, migrate, version
from daemon.ledger.ledger import CHUNK, Ledger, LedgerError, chunks, upsert
from daemon.ledger.meta import Fact
from daemon.ledger.tables import Base, Meta, Page


def url(folder: Path) -> str:
    """The ledger of a folder."""
    return f"sqlite:///{folder / 'ledger.db'}"


async def test_the_migrations_make_exactly_the_tables_of_the_models(tmp_path: Path) -> None:
    """Broken by a column in `tables.py` that no migration adds."""
    ledger = Ledger(url(tmp_path))
    await ledger.open()
    await ledger.close()
    engine = create_engine(url(tmp_path))
    with engine.connect() as db:
        context = MigrationContext.configure(db, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


def test_the_newest_migration_is_found_by_its_file_name() -> None:
    """Without Alembic. Fails when a file's name does not begin with its revision, or the last one is not the newest."""
    assert version.newest() == ScriptDirectory.from_config(migrate.config()).get_current_head()


async def test_the_index_of_what_is_due_is_the_one_of_the_models(tmp_path: Path) -> None:
    """A comparison of metadata does not look at the condition of an index; work is taken in its order."""
    ledger = Ledger(url(tmp_path))
    await ledger.open()
    await ledger.close()
    modelled = create_engine("sqlite://")
    Base.metadata.create_all(modelled)
    question = "SELECT sql FROM sqlite_master WHERE name = 'pages_due'"
    with modelled.connect() as db:
        wanted = db.exec_driver_sql(question).scalar()
    modelled.dispose()
    with sqlite3.connect(tmp_path / "ledger.db") as file:
        (made,) = file.execute(question).fetchone()
    file.close()
    assert made == wanted
    assert "WHERE due_at IS NOT NULL" in made


async def test_a_commit_that_returned_is_on_the_disk(tmp_path: Path) -> None:
    """WAL, full syncs, foreign keys: read back from the connection that the questions run on."""
    ledger = Ledger(url(tmp_path))
    await ledger.open()

    def pragmas(db: Connection) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return [db.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert await ledger.call(pragmas) == ["wal", 2, 1, 15_000]
    await ledger.close()


async def test_a_question_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """All of it or none of it."""
    ledger = Ledger(url(tmp_path))
    await ledger.open()

    def half(db: Connection) -> None:
        meta.put(db, Fact.SWEPT_AT, 1.0)
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        await ledger.call(half)
    assert await ledger.call(meta.get, Fact.SWEPT_AT) is None
    await ledger.close()


async def test_what_was_asked_is_done_although_its_asker_is_cancelled(tmp_path: Path) -> None:
    """Broken by awaiting the thread without a shield: what still waits for its turn is then dropped."""
    ledger = Ledger(url(tmp_path))
    await ledger.open()
    may_go_on = threading.Event()
    in_the_way = asyncio.create_task(ledger.call(lambda _: may_go_on.wait(10)))
    asking = asyncio.create_task(ledger.call(meta.put, Fact.SWEPT_AT, 5.0))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    may_go_on.set()
    assert await in_the_way
    assert await ledger.call(meta.get, Fact.SWEPT_AT) == 5.0
    await ledger.close()


def put(db: Connection, name: str, value: int) -> int:
    """Keep a number."""
    upsert(db, Meta, [{"name": name, "value": value}], update=["value"])
    return value


def numbers(db: Connection) -> dict[str, int]:
    """The numbers that were kept."""
    return {name: value for name, value in db.execute(select(Meta.name, Meta.value)) if name[0] == "n"}


async def test_questions_that_wait_share_a_commit(tmp_path: Path) -> None:
    """The first goes alone, those that came meanwhile go together, and each gets its own answer.

    Fails when each is committed by itself: then a first sync flushes the disk once for each of the pages in flight.
    """
    ledger = Ledger(url(tmp_path))
    await ledger.open()
    commits = 0

    def count(_: Connection) -> None:
        nonlocal commits
        commits += 1

    event.listen(ledger._engine, "commit", count)
    answers = await asyncio.gather(*(ledger.call(put, f"n{number}", number) for number in range(8)))
    assert answers == list(range(8))
    assert commits == 2
    await ledger.close()


async def test_a_question_that_fails_takes_nobody_with_it(tmp_path: Path) -> None:
    """Whoever shared its transaction is asked again; of the failed one nothing is kept, and it alone gets the error.

    Fails when the error goes to all that shared the transaction, or when what the failed one did is committed.
    """
    ledger = Ledger(url(tmp_path))
    await ledger.open()

    def fail(db: Connection) -> None:
        put(db, "n-failed", 1)
        raise ValueError("no")

    calls = [
        ledger.call(put, "n0", 0),
        ledger.call(put, "n1", 1),
        ledger.call(fail),
        ledger.call(put, "n2", 2),
    ]
    async with asyncio.timeout(30):
        *_, third, fourth = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(third, ValueError)
    assert fourth == 2
    assert await ledger.call(numbers) == {"n0": 0, "n1": 1, "n2": 2}
    await ledger.close()


async def test_what_was_asked_before_the_end_is_done(tmp_path: Path) -> None:
    """Asked, then cancelled, then closed: all of it is on the disk, a page that was whole when the daemon stopped too.

    Fails when closing does not wait for what waits, or when one cancelled asker keeps the others from their answers.
    """
    ledger = Ledger(url(tmp_path))
    await ledger.open()
    tasks = [asyncio.create_task(ledger.call(put, f"n{number}", number)) for number in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await ledger.close()
    assert not (tmp_path / "ledger.db-wal").exists()  # SQLite takes it away with the last connection
    async with asyncio.timeout(30):
        assert [await tasks[0], await tasks[2]] == [0, 2]
    again = Ledger(url(tmp_path))
    assert await again.call(numbers) == {"n0": 0, "n1": 1, "n2": 2}
    await again.close()


def add_up(ledger_url: str, times: int) -> None:
    """Read a number and write it back one higher, in one question, again and again (another process)."""

    def one_more(db: Connection) -> None:
        found = db.execute(select(Meta.value).where(Meta.name == "count")).scalar_one()
        db.execute(update(Meta).where(Meta.name == "count").values(value=found + 1))

    async def run() -> None:
        ledger = Ledger(ledger_url)
        for _ in range(times):
            await ledger.call(one_more)
        await ledger.close()

    asyncio.run(run())


async def test_two_processes_never_lose_an_update(tmp_path: Path) -> None:
    """Broken by BEGIN instead of BEGIN IMMEDIATE: a reader that becomes a writer is refused, or overwrites."""
    ledger = Ledger(url(tmp_path))
    await ledger.open()
    await ledger.call(lambda db: upsert(db, Meta, [{"name": "count", "value": 0}], update=[]))
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=add_up, args=(url(tmp_path), 50)) for _ in range(2)]
    for other in others:
        other.start()
    for other in others:
        await asyncio.to_thread(other.join, 30)
        assert other.exitcode == 0
    found = await ledger.call(lambda db: db.execute(select(Meta.value).where(Meta.name == "count")).scalar())
    assert found == 100
    await ledger.close()


def die_in_the_middle(ledger_url: str) -> None:
    """Commit one fact, then die while the next transaction is open (another process)."""

    def die(db: Connection) -> None:
        meta.put(db, Fact.SWEPT_AT, 2.0)
        os.kill(os.getpid(), signal.SIGKILL)

    async def run() -> None:
        ledger = Ledger(ledger_url)
        await ledger.open()
        await ledger.call(meta.put, Fact.SWEPT_AT, 1.0)
        await ledger.call(die)

    asyncio.run(run())


async def test_a_kill_in_a_transaction_leaves_the_last_commit(tmp_path: Path) -> None:
    """What was committed is there, what was not is not, and the file opens."""
    victim = multiprocessing.get_context("spawn").Process(target=die_in_the_middle, args=(url(tmp_path),))
    victim.start()
    await asyncio.to_thread(victim.join, 30)
    assert victim.exitcode == -signal.SIGKILL
    ledger = Ledger(url(tmp_path))
    await ledger.open()
    assert await ledger.call(meta.get, Fact.SWEPT_AT) == 1.0
    await ledger.close()


async def test_a_file_that_is_no_ledger_is_left_as_it_is(tmp_path: Path) -> None:
    """Said with its place and what to do."""
    (tmp_path / "ledger.db").write_text("a shopping list, much longer than the head of a database file" * 20)
    before = (tmp_path / "ledger.db").read_bytes()
    ledger = Ledger(url(tmp_path))
    with pytest.raises(LedgerError, match=r"not a (database|ledger)"):
        await ledger.open()
    await ledger.close()
    assert (tmp_path / "ledger.db").read_bytes() == before


async def test_more_rows_than_a_statement_can_take(tmp_path: Path) -> None:
    """Upserts and questions by id are cut into pieces."""
    ledger = Ledger(url(tmp_path))
    await ledger.open()
    names = [f"page-{number}" for number in range(3 * CHUNK + 7)]

    def fill(db: Connection) -> int:
        rows = [{"id": name, "card": {}, "seen_stamp": "a"} for name in names]
        upsert(db, Page, rows, update=[])
        upsert(db, Page, [{**row, "seen_stamp": "b"} for row in rows], update=["seen_stamp"])
        upsert(db, Page, [{**row, "seen_stamp": "c"} for row in rows], update=[])
        found = [db.execute(select(Page.seen_stamp).where(Page.id.in_(some))).all() for some in chunks(names)]
        return sum(row.seen_stamp == "b" for some in found for row in some)

    assert await ledger.call(fill) == len(names)
    await ledger.close()


def test_a_database_without_its_driver_is_said_with_what_to_install() -> None:
    """Fails (with a traceback at every command) when the missing package is not caught."""
    with pytest.raises(LedgerError) as caught:
        Ledger("mysql+mysqldb://user:hidden@host/db")
    assert "MySQLdb" in str(caught.value) and "hidden" not in str(caught.value)
