"""The embedded store as a file: it is made, shared, kept, full, damaged or locked."""

import asyncio
import contextlib
import json
import sqlite3
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.kv import (
    EmbeddedKV,
    KVError,
    KVQuotaExceeded,
    KVReadOnly,
    KVUnavailable,
    KVValueTooLarge,
    Owner,
    Write,
    embedded,
)

ME = Owner(token=7, daemon_id="d-1", ledger_id="l-1", content_id="c-1", heartbeat=1_767_603_600.0)

# Another process: writes pages through the store, says so, and goes on holding the file until it is killed.
WRITER = """
import asyncio, os, sys
from daemon.kv import EmbeddedKV, Owner, Write

async def main():
    kv = EmbeddedKV(sys.argv[1])
    owner = await kv.read_owner()
    for number in range(20):
        assert await kv.apply([Write(f"page:{number}", '"from outside"')], owner)
    print("written", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


@pytest.fixture
async def kv(tmp_path: Path) -> AsyncIterator[EmbeddedKV]:
    """A store that this test owns."""
    store = EmbeddedKV(tmp_path / "kv.db")
    assert await store.claim(ME, None)
    yield store
    await store.close()


async def test_the_file_is_made_and_kept(tmp_path: Path) -> None:
    """Missing folders and the file are made at first use; what was written is there after closing and opening."""
    path = tmp_path / "data" / "deeper" / "kv.db"
    kv = EmbeddedKV(path)
    assert not path.exists()
    await kv.ping()
    assert path.exists()
    assert await kv.claim(ME, None)
    assert await kv.apply([Write("page:a", '"kept"')], ME)
    await kv.close()
    again = EmbeddedKV(str(path))
    assert await again.get("page:a") == '"kept"'
    assert await again.read_owner() == ME
    await again.close()
    await again.close()


async def test_every_write_is_synced(kv: EmbeddedKV) -> None:
    """The file is in WAL mode with full synchronisation."""
    assert await kv.read(lambda db: db.execute("PRAGMA journal_mode").fetchone()) == ("wal",)
    assert await kv.read(lambda db: db.execute("PRAGMA synchronous").fetchone()) == (2,)


async def test_another_process_shares_the_file(kv: EmbeddedKV, tmp_path: Path) -> None:
    """What another process has written is seen here and survives its kill -9; what we write it could see."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "kv.db")]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    assert process.stdout
    assert await process.stdout.readline() == b"written\n"
    assert await kv.apply([Write("page:0", '"from here"')], ME)
    process.kill()
    await process.communicate()
    assert await kv.get_many(["page:0", "page:19"]) == ['"from here"', '"from outside"']
    assert await kv.apply([], ME)


async def test_many_at_once(kv: EmbeddedKV) -> None:
    """Writes and reads from many tasks at once all succeed."""
    writes = [kv.apply([Write(f"page:{number}", str(number))], ME) for number in range(40)]
    reads = [kv.get_many(["page:1", "page:2"]) for _ in range(40)]
    assert all(await asyncio.gather(*writes))
    await asyncio.gather(*reads)
    assert await kv.get_many([f"page:{number}" for number in range(40)]) == [str(each) for each in range(40)]


async def test_a_cancelled_write_leaves_the_store_usable(kv: EmbeddedKV) -> None:
    """After a cancelled write the next ones work, and its batch is there whole or not at all."""
    writing = asyncio.create_task(kv.apply([Write("page:a", "1"), Write("page:b", "1")], ME))
    await asyncio.sleep(0)
    writing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await writing
    assert await kv.get_many(["page:a", "page:b"]) in ([None, None], ["1", "1"])
    assert await kv.apply([Write("page:a", "2")], ME)
    assert await kv.get("page:a") == "2"


async def test_a_full_disk(kv: EmbeddedKV) -> None:
    """A write that finds no space is undone whole, says what to do, and smaller ones go on."""
    assert await kv.apply([Write("page:a", "1")], ME)
    await kv.read(lambda db: db.execute("PRAGMA max_page_count = 20").fetchone())
    writes = [Write("page:a", None), Write("page:big", json.dumps("x" * 200_000))]
    with pytest.raises(KVQuotaExceeded, match="DATA_DIR") as caught:
        await kv.apply(writes, replace(ME, heartbeat=1.0))
    assert caught.value.retryable
    assert await kv.get_many(["page:a", "page:big"]) == ["1", None]
    assert await kv.read_owner() == ME
    assert await kv.apply([Write("page:a", "2")], ME)


async def test_a_value_beyond_the_limit(kv: EmbeddedKV) -> None:
    """A value that the database refuses fails its batch only."""
    await kv.read(lambda db: db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1000))
    with pytest.raises(KVValueTooLarge):
        await kv.apply([Write("page:a", "1"), Write("page:big", "x" * 2000)], ME)
    assert await kv.get("page:a") is None
    assert await kv.apply([Write("page:a", "1")], ME)


async def test_no_database(tmp_path: Path) -> None:
    """A file that is something else is left alone, and the way out is named."""
    path = tmp_path / "kv.db"
    path.write_text("not a database, but somebody's notes, long enough to be looked at " * 20)
    before = path.read_bytes()
    kv = EmbeddedKV(path)
    with pytest.raises(KVError, match="republish") as caught:
        await kv.ping()
    assert not caught.value.retryable
    assert path.read_bytes() == before
    await kv.close()


@pytest.mark.parametrize("blocked", ["the file is a folder", "the folder is a file"])
async def test_no_place(tmp_path: Path, blocked: str) -> None:
    """A place where no file can be made names the setting, and works as soon as it is mended."""
    path = tmp_path / "data" / "kv.db"
    obstacle = path if blocked == "the file is a folder" else path.parent
    if obstacle == path:
        obstacle.mkdir(parents=True)
    else:
        obstacle.write_text("in the way")
    kv = EmbeddedKV(path)
    with pytest.raises(KVUnavailable, match="DATA_DIR"):
        await kv.ping()
    obstacle.rmdir() if obstacle == path else obstacle.unlink()
    await kv.ping()
    await kv.close()


async def test_a_file_that_may_only_be_read(kv: EmbeddedKV) -> None:
    """A store that cannot be written is told apart from one that cannot be read."""
    await kv.read(lambda db: db.execute("PRAGMA query_only = 1").fetchone())
    with pytest.raises(KVReadOnly, match="writable"):
        await kv.check_writable()
    with pytest.raises(KVReadOnly, match="writable"):
        await kv.apply([Write("page:a", "1")], ME)
    assert await kv.read_owner() == ME


async def test_a_newer_file(tmp_path: Path) -> None:
    """A file that a newer version wrote is not touched."""
    path = tmp_path / "kv.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    kv = EmbeddedKV(path)
    with pytest.raises(KVError, match="newer version"):
        await kv.ping()
    await kv.close()


async def test_locked_by_somebody_else(
    kv: EmbeddedKV, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process holds the file, reading works and writing says that it may be tried again."""
    await kv.close()
    monkeypatch.setattr(embedded, "LOCK_WAIT_SECONDS", 0.02)
    assert await kv.apply([Write("page:a", "1")], ME)
    with contextlib.closing(sqlite3.connect(tmp_path / "kv.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert await kv.get("page:a") == "1"
        with pytest.raises(KVUnavailable, match="locked"):
            await kv.check_writable()
        with pytest.raises(KVUnavailable, match="locked") as caught:
            await kv.apply([Write("page:a", "2")], ME)
        assert caught.value.retryable
        other.execute("ROLLBACK")
    assert await kv.apply([Write("page:a", "2")], ME)
