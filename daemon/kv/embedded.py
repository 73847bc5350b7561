"""The store that needs no account: one SQLite file with the same behaviour as the others."""

import asyncio
import hashlib
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from daemon.kv.base import (
    OWNER_KEY,
    PROBE_KEY,
    KVError,
    KVQuotaExceeded,
    KVReadOnly,
    KVUnavailable,
    KVValueTooLarge,
    Owner,
    Write,
)
from daemon.kv.glob import glob_escaped, glob_matcher

Result = TypeVar("Result")

SCHEMA_VERSION = 1
LOCK_WAIT_SECONDS = 5.0
ROWS_PER_SCAN = 1000

# The id is what SCAN's cursors count in: it never changes while a key lives, and new keys get higher ones.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value TEXT NOT NULL);
PRAGMA user_version = 1;
"""
_SET = "INSERT INTO entries (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


def value_of(connection: sqlite3.Connection, key: str) -> str | None:
    """The text under a full key (prefix included)."""
    row = connection.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def keys_after(connection: sqlite3.Connection, cursor: int, count: int) -> tuple[int, list[str]]:
    """Up to `count` full keys after a cursor (0 begins), and the cursor to go on from (0: that was all)."""
    rows = connection.execute(
        "SELECT id, key FROM entries WHERE id > ? ORDER BY id LIMIT ?", (cursor, count)
    ).fetchall()
    next_cursor = int(rows[-1][0]) if len(rows) == count else 0
    return next_cursor, [str(key) for _, key in rows]


class EmbeddedKV:
    """A store in the SQLite file `path`, made when it is first used.

    One connection, used by one worker thread at a time. A write is on the disk before it is reported (WAL,
    synchronous=FULL). Other processes may open the file meanwhile.
    """

    name = "embedded"

    def __init__(self, path: Path | str, prefix: str = "") -> None:
        self.commands = 0
        self.bytes_written = 0
        self._path = Path(path)
        self._prefix = prefix
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    @property
    def path(self) -> Path:
        """Where the file is, or will be."""
        return self._path

    async def ping(self) -> None:
        await self._command(lambda connection: value_of(connection, OWNER_KEY))

    async def get(self, key: str) -> str | None:
        return await self._command(lambda connection: value_of(connection, self._prefix + key))

    async def get_many(self, keys: Sequence[str]) -> list[str | None]:
        if not keys:
            return []
        return await self._command(
            lambda connection: [value_of(connection, self._prefix + key) for key in keys]
        )

    async def read_owner(self) -> Owner | None:
        return Owner.from_json(await self.get(OWNER_KEY))

    async def claim(self, owner: Owner, expected: Owner | None) -> bool:
        token = None if expected is None else expected.token
        return await self._write_fenced([], owner, token)

    async def apply(self, writes: Sequence[Write], owner: Owner) -> bool:
        return await self._write_fenced(writes, owner, owner.token)

    async def digests(self, keys: Sequence[str]) -> list[str | None]:
        if not keys:
            return []
        return await self._command(
            lambda connection: [_digest(value_of(connection, self._prefix + key)) for key in keys]
        )

    async def check_writable(self) -> None:
        probe = Write(self._prefix + PROBE_KEY, "{}")
        self.commands += 1

        def work(connection: sqlite3.Connection) -> None:
            _write(connection, probe)  # seen by nobody: it is gone before the transaction ends
            _write(connection, replace(probe, value=None))

        await asyncio.to_thread(self._in_transaction, "BEGIN IMMEDIATE", work)

    async def scan(self, pattern: str) -> AsyncIterator[str]:
        matches = glob_matcher(glob_escaped(self._prefix) + pattern)
        cursor = 0
        while True:
            here = cursor
            cursor, keys = await self._command(lambda connection: keys_after(connection, here, ROWS_PER_SCAN))  # noqa: B023
            for key in keys:
                if matches(key):
                    yield key.removeprefix(self._prefix)
            if cursor == 0:
                return

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    async def read(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Run `work` in a worker thread, on one snapshot of the file. Keys are full keys there."""
        return await asyncio.to_thread(self._in_transaction, "BEGIN", work)

    async def _command(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        self.commands += 1
        return await self.read(work)

    async def _write_fenced(self, writes: Sequence[Write], owner: Owner, expected_token: int | None) -> bool:
        """Write all of it and the owner's record if the stored token is the expected one (None: nobody's)."""
        rows = [*writes, Write(OWNER_KEY, owner.to_json())]
        rows = [Write(self._prefix + row.key, row.value) for row in rows]
        self.commands += 1
        self.bytes_written += sum(row.size_bytes for row in rows)

        def work(connection: sqlite3.Connection) -> bool:
            current = Owner.from_json(value_of(connection, self._prefix + OWNER_KEY))
            if (None if current is None else current.token) != expected_token:
                return False
            for row in rows:
                _write(connection, row)
            return True

        return await asyncio.to_thread(self._in_transaction, "BEGIN IMMEDIATE", work)

    def _in_transaction(self, begin: str, work: Callable[[sqlite3.Connection], Result]) -> Result:
        with self._lock:
            try:
                connection = self._opened()
                connection.execute(begin)
                with connection:  # commits, or rolls back when something is raised
                    return work(connection)
            except sqlite3.Error as error:
                raise _error_of(error, self._path) from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = _opened(self._path)
        return self._connection

    def _close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def _digest(text: str | None) -> str | None:
    return None if text is None else hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _write(connection: sqlite3.Connection, write: Write) -> None:
    if write.value is None:
        connection.execute("DELETE FROM entries WHERE key = ?", (write.key,))
    else:
        connection.execute(_SET, (write.key, write.value))


def _opened(path: Path) -> sqlite3.Connection:
    """Open the file, make what is missing. Threads take turns by the store's lock: sqlite3 need not check."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KVUnavailable(
            f"The folder for {path.name} cannot be made: {error.strerror}", _FOLDER_HINT
        ) from error
    connection = sqlite3.connect(
        path, timeout=LOCK_WAIT_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise KVError(
            "The embedded store was written by a newer version", "Run that version, or move the file away."
        )
    if version < SCHEMA_VERSION:
        connection.executescript(_SCHEMA)


_FOLDER_HINT = "Check that DATA_DIR exists, is writable for this user and is on a disk with space."
_DAMAGED_HINT = "Move the file away and start again: the store is filled anew from the ledger (`republish`)."
_KINDS: dict[int, tuple[type[KVError], str]] = {
    sqlite3.SQLITE_FULL: (
        KVQuotaExceeded,
        "Free space on the disk that holds DATA_DIR; what waits is written then.",
    ),
    sqlite3.SQLITE_READONLY: (KVReadOnly, _FOLDER_HINT),
    sqlite3.SQLITE_CANTOPEN: (KVUnavailable, _FOLDER_HINT),
    sqlite3.SQLITE_TOOBIG: (KVValueTooLarge, "Split the page into smaller ones."),
    sqlite3.SQLITE_NOTADB: (KVError, _DAMAGED_HINT),
    sqlite3.SQLITE_CORRUPT: (KVError, _DAMAGED_HINT),
}


def _error_of(error: sqlite3.Error, path: Path) -> KVError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte; the rest is detail
    kind, hint = _KINDS.get(code, (KVUnavailable, _FOLDER_HINT))
    return kind(f"The embedded store {path.name} failed: {error}", hint)
