"""Configured sources, the data sources behind them, and the databases found inside pages."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, func, or_, select, update

from daemon.ledger.ledger import chunks, upsert
from daemon.ledger.tables import Database, DataSource, Link, Source
from daemon.sync.plan import STUCK_AFTER_ATTEMPTS, retry_delay_seconds


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A source as the ledger knows it. `kind` is None until Notion told what its id is."""

    name: str
    ref: str
    retired: bool
    kind: str | None
    data_source_ids: tuple[str, ...]
    checked_at: float | None
    attempts: int
    next_try_at: float | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class DataSourceRow:
    """A data source. `watermark` and `listed_date` are on Notion's clock; None: never listed whole."""

    id: str
    configured: bool
    watermark: float | None
    listed_date: float | None
    swept_at: float | None
    attempts: int
    next_try_at: float | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class DatabaseRow:
    """A database inside a page. `data_source_ids` is None until Notion told of them."""

    id: str
    name: str
    data_source_ids: tuple[str, ...] | None
    skipped: bool
    checked_at: float | None
    attempts: int
    next_try_at: float | None
    problem: str | None


def source_link(source: SourceRow) -> str:
    """The parent id under which a source's own page is linked."""
    return f"source:{source.name}:{source.ref}"


def follow_settings(db: Connection, wanted: Sequence[tuple[str, str]]) -> None:
    """Make the sources those of the settings, in their order; others are retired and keep their pages."""
    rows = [
        {"name": name, "ref": ref, "position": at, "retired": False} for at, (name, ref) in enumerate(wanted)
    ]
    db.execute(update(Source).values(retired=True))
    if rows:
        upsert(db, Source, rows, update=["position", "retired"])
    live = {ds for row in sources(db) if not row.retired for ds in row.data_source_ids}
    db.execute(update(DataSource).values(configured=False))
    for some in chunks(live):
        db.execute(update(DataSource).where(DataSource.id.in_(some)).values(configured=True))


def sources(db: Connection) -> list[SourceRow]:
    """All sources: the configured ones in their order, then the retired."""
    columns = (Source.name, Source.ref, Source.retired, Source.kind, Source.data_source_ids)
    state = (Source.checked_at, Source.attempts, Source.next_try_at, Source.problem)
    found = db.execute(select(*columns, *state).order_by(Source.retired, Source.position, Source.ref))
    return [SourceRow(r[0], r[1], r[2], r[3], tuple(r[4] or ()), r[5], r[6], r[7], r[8]) for r in found]


def source_resolved(
    db: Connection, row: SourceRow, kind: str, title: str, ids: Iterable[str], now: float
) -> None:
    """Notion told what a source is: a page, or one or several data sources."""
    data_source_ids = list(ids)
    db.execute(
        update(Source)
        .where(Source.name == row.name, Source.ref == row.ref)
        .values(kind=kind, title=title, data_source_ids=data_source_ids, checked_at=now)
        .values(attempts=0, next_try_at=None, problem=None)
    )
    add_data_sources(db, data_source_ids, configured=True)


def source_failed(db: Connection, row: SourceRow, problem: str, now: float) -> None:
    """A source did not answer: nothing is removed, and it is asked again later."""
    attempts = row.attempts + 1
    db.execute(
        update(Source)
        .where(Source.name == row.name, Source.ref == row.ref)
        .values(attempts=attempts, problem=problem, next_try_at=now + retry_delay_seconds(attempts))
    )


def add_data_sources(db: Connection, ids: Iterable[str], *, configured: bool) -> None:
    """Make sure data sources are known; one that is configured stays so."""
    rows = [{"id": ds, "configured": configured} for ds in ids]
    upsert(db, DataSource, rows, update=["configured"] if configured else [])


def data_sources(db: Connection) -> list[DataSourceRow]:
    """Every data source that a source or a database on the site still names."""
    live = {ds for source in sources(db) for ds in source.data_source_ids}
    live.update(ds for database in databases(db) for ds in database.data_source_ids or ())
    columns = (DataSource.id, DataSource.configured, DataSource.watermark, DataSource.listed_date)
    state = (DataSource.swept_at, DataSource.attempts, DataSource.next_try_at, DataSource.problem)
    return [
        DataSourceRow(*r)
        for r in db.execute(select(*columns, *state).order_by(DataSource.id))
        if r[0] in live
    ]


def data_source_listed(db: Connection, data_source_id: str, seen: set[str], date: float) -> int:
    """A complete listing ended: members it did not show are to be asked for. Out: how many.

    The watermark becomes the `Date` of the listing's first answer: what was edited later is for the next query.
    """
    stored = select(Link.child_id).where(Link.parent_id == data_source_id, Link.missing.is_(None))
    absent = [child for (child,) in db.execute(stored) if child not in seen]
    for some in chunks(absent):
        asked = and_(Link.parent_id == data_source_id, Link.child_id.in_(some))
        db.execute(update(Link).where(asked).values(missing="ask", since=date))
    values = {"watermark": date, "listed_date": date, "swept_at": date}
    db.execute(update(DataSource).where(DataSource.id == data_source_id).values(**values, **_HEALTHY))
    return len(absent)


def watermark_moved(db: Connection, data_source_id: str, date: float) -> None:
    """A complete query of recent edits was committed as work: the next one starts from its first answer."""
    db.execute(update(DataSource).where(DataSource.id == data_source_id).values(watermark=date, **_HEALTHY))


_HEALTHY: dict[str, Any] = {"attempts": 0, "next_try_at": None, "problem": None}


def data_source_failed(db: Connection, data_source_id: str, problem: str, now: float) -> None:
    """A listing failed: nothing is concluded from it, and it is tried again later."""
    mine = DataSource.id == data_source_id
    attempts = int(db.execute(select(DataSource.attempts).where(mine)).scalar() or 0) + 1
    retry_at = now + retry_delay_seconds(attempts)
    db.execute(
        update(DataSource).where(mine).values(attempts=attempts, problem=problem, next_try_at=retry_at)
    )


def databases(db: Connection) -> list[DatabaseRow]:
    """Every database that a page still shows."""
    columns = (Database.id, Database.name, Database.data_source_ids, Database.skipped, Database.checked_at)
    state = (Database.attempts, Database.next_try_at, Database.problem)
    shown = select(Link.child_id).where(Link.kind == "database")
    found = db.execute(select(*columns, *state).where(Database.id.in_(shown)).order_by(Database.id))
    return [
        DatabaseRow(r[0], r[1] or "", None if r[2] is None else tuple(r[2]), r[3], r[4], r[5], r[6], r[7])
        for r in found
    ]


def database_resolved(db: Connection, database_id: str, name: str, ids: Iterable[str], now: float) -> None:
    """Notion told a database's name and data sources."""
    data_source_ids = list(ids)
    values = {"name": name, "data_source_ids": data_source_ids, "skipped": False, "checked_at": now}
    db.execute(update(Database).where(Database.id == database_id).values(**values, **_HEALTHY))
    add_data_sources(db, data_source_ids, configured=False)


def database_skipped(db: Connection, database_id: str, reason: str, now: float) -> None:
    """Notion does not serve this database (a linked view): named in the status, asked again by the sweep."""
    values = {"skipped": True, "checked_at": now, "problem": reason, "next_try_at": None}
    db.execute(update(Database).where(Database.id == database_id).values(**values))


def database_failed(db: Connection, row: DatabaseRow, problem: str, now: float) -> None:
    """A database did not answer: tried again later, and soon not waited for."""
    attempts = row.attempts + 1
    values = {"attempts": attempts, "problem": problem, "next_try_at": now + retry_delay_seconds(attempts)}
    db.execute(update(Database).where(Database.id == row.id).values(**values))


def troubled(db: Connection) -> list[dict[str, Any]]:
    """Listings that fail: what kind, id, name (of a source or database), reason, attempts, when they are tried next."""
    found = [_trouble("source", row.ref, row.name, row) for row in sources(db) if not row.retired]
    found += [_trouble("data_source", row.id, None, row) for row in data_sources(db)]
    found += [_trouble("database", row.id, row.name, row) for row in databases(db)]
    return [trouble for trouble in found if trouble["attempts"]]


def _trouble(
    kind: str, thing: str, name: str | None, row: SourceRow | DataSourceRow | DatabaseRow
) -> dict[str, Any]:
    told = {"kind": kind, "id": thing, "name": name, "reason": row.problem}
    return {**told, "attempts": row.attempts, "nextTryAt": row.next_try_at}


def is_stuck(attempts: int) -> bool:
    """Whether a listing failed so often that slugs no longer wait for it."""
    return attempts >= STUCK_AFTER_ATTEMPTS


def row_counts(db: Connection) -> dict[str, int]:
    """How many rows each data source has."""
    found = db.execute(
        select(Link.parent_id, func.count()).where(Link.kind == "row").group_by(Link.parent_id)
    )
    return {name: count for name, count in found}  # noqa: C416 - rows are only nearly tuples


def forget_unused(db: Connection) -> None:
    """Drop databases and data sources that nothing names any more, with their links."""
    shown = select(Link.child_id).where(Link.kind == "database")
    db.execute(delete(Database).where(Database.id.not_in(shown)))
    live = {row.id for row in data_sources(db)}
    unused = [ds for (ds,) in db.execute(select(DataSource.id)) if ds not in live]
    for some in chunks(unused):
        db.execute(delete(Link).where(or_(Link.parent_id.in_(some))))
        db.execute(delete(DataSource).where(DataSource.id.in_(some)))
