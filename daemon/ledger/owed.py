"""What the site is still to be told: tags and paths of what was written or removed, in the order in which it was.

A tag or path is owed once, however often it changes before the site has heard of it: it keeps its turn, and counts as
told only when the telling began after its last change.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select

from daemon.ledger import meta
from daemon.ledger.ledger import chunks, upsert
from daemon.ledger.meta import Fact
from daemon.ledger.tables import Link, Owed, Page, Record
from daemon.site.addresses import path_of, slug_of, tag_of

TAG, PATH = "tag", "path"


@dataclass(frozen=True, slots=True)
class Debt:
    """One tag or path to be told of. `version` is another one as soon as it changes again."""

    kind: str
    value: str
    version: int


def owe(db: Connection, keys: Sequence[str], templates: Mapping[str, str]) -> None:
    """The site is to be told of these keys. `templates`: where the pages of each source are on the site.

    To be called before they are marked as written: where they were before is to be told, too.
    """
    found = {key: None for some in chunks(keys) for key in _debts(db, some, templates)}
    if not found:
        return
    last = int(meta.get(db, Fact.OWED_LAST) or 0)
    rows: list[dict[str, Any]] = [
        {"kind": kind, "value": value, "position": number, "version": number}
        for number, (kind, value) in enumerate(found, start=last + 1)
    ]
    upsert(db, Owed, rows, update=["version"])
    meta.put(db, Fact.OWED_LAST, last + len(rows))


def first(db: Connection, limit: int) -> list[Debt]:
    """What is to be told next, oldest first."""
    question = select(Owed.kind, Owed.value, Owed.version).order_by(Owed.position).limit(limit)
    return [Debt(*row) for row in db.execute(question)]


def settle(db: Connection, debts: Iterable[Debt]) -> None:
    """The site has heard of these; what changed meanwhile stays owed."""
    versions = [debt.version for debt in debts]
    db.execute(delete(Owed).where(Owed.version.in_(versions)))


def count(db: Connection) -> int:
    """How many tags and paths are owed."""
    return int(db.execute(select(func.count()).select_from(Owed)).scalar() or 0)


def _debts(db: Connection, keys: Sequence[str], templates: Mapping[str, str]) -> list[tuple[str, str]]:
    """Tags and paths of keys, in their order."""
    columns = (Record.key, Record.kind, Record.owner_id, Record.source, Record.written_source)
    known = {row.key: row for row in db.execute(select(*columns).where(Record.key.in_(keys)))}
    hosts = _hosts(db, [row.owner_id for row in known.values() if row.kind == "database"])
    debts: list[tuple[str, str]] = []
    for row in (known[key] for key in keys if key in known):
        debts.append((TAG, tag_of(row.key)))
        slug = slug_of(row.key)
        places = hosts.get(row.owner_id, []) if row.kind == "database" else []
        if slug is not None:
            places = [(source, slug) for source in (row.written_source, row.source)]
        paths = (path_of(templates, source, shown) for source, shown in places)
        debts += [(PATH, path) for path in paths if path is not None]
    return debts


def _hosts(db: Connection, database_ids: Sequence[str]) -> dict[str, list[tuple[str | None, str]]]:
    """Source and slug of the pages that show databases, by the database's id."""
    question = (
        select(Link.child_id, Page.source, Page.slug)
        .join(Page, Page.id == Link.parent_id)
        .where(Link.child_id.in_(database_ids), Link.kind == "database", Page.slug.is_not(None))
        .order_by(Link.child_id, Page.id)
    )
    hosts: dict[str, list[tuple[str | None, str]]] = {}
    for database, source, slug in db.execute(question) if database_ids else ():
        hosts.setdefault(database, []).append((source, str(slug)))
    return hosts
