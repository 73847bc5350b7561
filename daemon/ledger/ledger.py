"""The one door to the ledger's database: one engine, one thread, and no question without a transaction.

SQLite runs in WAL mode with `BEGIN IMMEDIATE` and full syncs, so that a reader never blocks the writer, two writers
never lose an update, and a commit that returned survives the machine. The only SQL that is not portable is here.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import (
    Connection,
    Engine,
    Executable,
    PoolProxiedConnection,
    Table,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError, DataError, IntegrityError, ProgrammingError

from daemon.ledger import version
from daemon.ledger.tables import Base

P = ParamSpec("P")
T = TypeVar("T")
Question = Callable[[Connection], Any]
Outcome = tuple[Any, Exception | None]
"""What a question gave, or the error it ended with."""

BUSY_TIMEOUT_MS = 15_000
CHUNK = 400
_ELSEWHERE = "name another place with LEDGER_DATABASE_URL, or with DATA_DIR where that is not set"
"""Rows or ids in one statement: well below the number of variables any database allows."""


class LedgerError(Exception):
    """The ledger cannot be used: why (`cause`) and what to do about it (`hint`)."""

    def __init__(self, cause: str, hint: str) -> None:
        self.cause = cause
        self.hint = hint
        super().__init__(f"{cause}. {hint}")


class Ledger:
    """Opens the ledger and runs questions on it, one after the other.

    Questions that wait while others are answered share one transaction, and one flush of the disk (group commit).
    """

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._engine = _make_engine(url)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._waiting: list[tuple[Question, asyncio.Future[Any]]] = []
        self._job: asyncio.Future[list[Outcome]] | None = None

    async def open(self) -> None:
        """Create or upgrade the tables. Raises LedgerError when the database cannot be used."""
        await self._in_thread(self._open)

    async def is_behind(self) -> bool:
        """Whether its tables are missing or of an older version. Changes nothing; raises LedgerError as `open`."""
        return await self._in_thread(self._is_behind)

    async def call(
        self, question: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `question(connection, ...)` in a transaction: all of it is committed before this returns, or none of it.

        It may run twice, the first time undone: when another that shared its transaction failed. So it does nothing but
        ask the database, and does not use its arguments up. What was asked is done even when its asker is cancelled:
        the answer is then dropped.
        """
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((lambda db: question(db, *args, **kwargs), answer))
        if self._job is None:
            self._go_on()
        return await answer

    async def close(self) -> None:
        """Answer what was asked, then close the database."""
        while self._job is not None:
            await asyncio.wait([self._job])
        await self._in_thread(self._engine.dispose)
        self._thread.shutdown(wait=True)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work))

    def _go_on(self) -> None:
        """Have everything answered that waits."""
        asked, self._waiting = self._waiting, []
        questions = [question for question, _ in asked]
        self._job = asyncio.get_running_loop().run_in_executor(self._thread, self._answer, questions)
        self._job.add_done_callback(partial(self._tell, [answer for _, answer in asked]))

    def _tell(self, answers: Sequence[asyncio.Future[Any]], job: asyncio.Future[list[Outcome]]) -> None:
        self._job = None
        if self._waiting:
            self._go_on()
        for answer, (result, error) in zip(answers, job.result(), strict=True):
            if answer.done():
                continue  # its asker was cancelled
            if error is None:
                answer.set_result(result)
            else:
                answer.set_exception(error)

    def _answer(self, questions: Sequence[Question]) -> list[Outcome]:
        if len(questions) > 1:
            with suppress(Exception):
                return self._transact(lambda db: [(question(db), None) for question in questions])
            # One of them failed, and all were undone. Each by itself, then: none fails for another's sake.
        return [self._answer_one(question) for question in questions]

    def _answer_one(self, question: Question) -> Outcome:
        try:
            return self._transact(question), None
        except Exception as error:
            return None, error

    def _transact(self, question: Callable[[Connection], T]) -> T:
        try:
            with self._engine.begin() as db:
                return question(db)
        except (IntegrityError, ProgrammingError, DataError):
            raise  # mistakes of ours, not of the database
        except DatabaseError as error:
            raise self._explained(error) from error

    def _open(self) -> None:
        self._make_folder()
        if self._is_behind():
            from daemon.ledger import migrate  # noqa: PLC0415 - with Alembic, which few starts need

            with self._explaining():
                migrate.upgrade(self._engine)

    def _is_behind(self) -> bool:
        with self._explaining(), self._engine.begin() as db:
            if version.is_newest(db):
                return False
            from daemon.ledger import migrate  # noqa: PLC0415

            return migrate.is_behind(db)

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except version.NewerLedgerError as error:
            raise LedgerError(
                f"{self._where()} was written by a newer version of notion-kv-sync ({error})",
                "Start that version again, or move the file away to begin with an empty ledger.",
            ) from error
        except DatabaseError as error:
            raise self._explained(error) from error

    def _make_folder(self) -> None:
        if (
            self._url.database
            and self._url.drivername.startswith("sqlite")
            and self._url.database != ":memory:"
        ):
            folder = Path(self._url.database).parent
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise LedgerError(
                    f"the folder {folder} for the ledger cannot be made ({error.strerror})",
                    f"Let this user write there, or {_ELSEWHERE}.",
                ) from error

    def _where(self) -> str:
        return f"the ledger at {self._url.render_as_string(hide_password=True)}"

    def _explained(self, error: DatabaseError) -> LedgerError:
        cause = str(error.orig or error).strip()
        hints = {
            "readonly": f"Give this user the right to write the file and its folder, or {_ELSEWHERE}.",
            "unable to open": f"Check that the folder exists and that this user may write to it, or {_ELSEWHERE}.",
            "disk is full": "Free some space on the volume; nothing was lost, work goes on when there is room.",
            "locked": "Another process holds the file; stop it, or give this one a ledger of its own.",
            "not a database": f"The file is not a ledger; {_ELSEWHERE}.",
        }
        hint = next((text for word, text in hints.items() if word in cause), "Check LEDGER_DATABASE_URL.")
        return LedgerError(f"{self._where()} cannot be used: {cause}", hint)


def upsert(
    db: Connection, table: type[Base], rows: Sequence[Mapping[str, Any]], *, update: Iterable[str]
) -> None:
    """Insert rows; where the primary key is there already, set the columns named in `update` (none: keep)."""
    if not rows:
        return
    statement = _upsert(db.dialect.name, table, tuple(update))
    for start in range(0, len(rows), CHUNK):
        db.execute(statement, list(rows[start : start + CHUNK]))


@lru_cache(maxsize=64)
def _upsert(dialect: str, table: type[Base], columns: tuple[str, ...]) -> Executable:
    target = table.__table__
    assert isinstance(target, Table)
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = insert(target)
    keys = [column.name for column in target.primary_key.columns]
    if not columns:
        return statement.on_conflict_do_nothing(index_elements=keys)
    changes = {name: statement.excluded[name] for name in columns}
    return statement.on_conflict_do_update(index_elements=keys, set_=changes)


def chunks(ids: Iterable[str]) -> Iterable[list[str]]:
    """Ids in groups that fit one statement."""
    everything = list(ids)
    for start in range(0, len(everything), CHUNK):
        yield everything[start : start + CHUNK]


def _make_engine(url: str) -> Engine:
    try:
        engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    except ModuleNotFoundError as error:
        raise LedgerError(
            f"a ledger of this kind needs the Python package {error.name}, which is not installed",
            f"Install {error.name}, or leave LEDGER_DATABASE_URL unset: the ledger is a file then.",
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        # The dialect's own hook: one listener of the engine's makes every statement look for listeners.
        engine.dialect.do_begin = _begin_immediate  # type: ignore[method-assign, assignment]
    return engine


def _begin_immediate(connection: PoolProxiedConnection) -> None:
    connection.cursor().execute("BEGIN IMMEDIATE").close()


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    """The driver opens no transaction before a SELECT unless told to leave transactions to us."""
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "journal_size_limit=67108864",
    ):
        connection.execute(f"PRAGMA {pragma}").close()
