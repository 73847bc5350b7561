"""Removals that wait for a person: what disappeared with too much else at once, and sources out of the settings."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from daemon.ledger import links, publishing, sources
from daemon.ledger.ledger import chunks
from daemon.ledger.publishing import UNPUBLISH
from daemon.ledger.sources import SourceRow, source_link
from daemon.ledger.tables import Database, Link, Page, Source

Key = tuple[str, str]
"""What tells one from the others: the ids of parent and child, or a source's name and id."""


@dataclass(frozen=True, slots=True)
class Held:
    """One of them, for people: what it is (a link's `kind`, `source`, or `rows of`), its names, and why it is to go.

    `rows`: title and slug of each, where one decision is about many.
    """

    key: Key
    kind: str
    title: str
    slug: str | None
    reason: str
    rows: tuple[tuple[str, str | None], ...] = ()

    @property
    def count(self) -> int:
        """How many things are to go."""
        return max(1, len(self.rows))


def held(db: Connection) -> list[Held]:
    """Everything that waits, by slug."""
    columns = (Link.parent_id, Link.child_id, Link.kind, Link.missing)
    waiting = db.execute(select(*columns).where(Link.held)).all()
    known = names(db, [child for _, child, _, _ in waiting])
    found = [
        Held((parent, child), kind, *known.get(child, ("", None)), evidence or "")
        for parent, child, kind, evidence in waiting
    ]
    found.sort(key=lambda one: (one.slug or "", one.key))
    for name, rows in publishing.refused(db).items():
        reason = f"none of its {len(rows)} published rows passes PUBLISH_FILTER or PUBLISH_AT any more"
        found.append(Held((UNPUBLISH, name), "rows of", name, None, reason, _called(db, rows)))
    return found + [_retired(db, row) for row in sources.sources(db) if row.retired]


def names(db: Connection, ids: Collection[str]) -> dict[str, tuple[str, str | None]]:
    """What people call pages and databases: title and slug, by id."""
    found: dict[str, tuple[str, str | None]] = {}
    for some in chunks(ids):
        for page, card, slug in db.execute(select(Page.id, Page.card, Page.slug).where(Page.id.in_(some))):
            found[page] = ((card or {}).get("title") or "", slug)
        for database, name in db.execute(select(Database.id, Database.name).where(Database.id.in_(some))):
            found[database] = (name or "", None)
    return found


def let_go(db: Connection, keys: Collection[Key]) -> int:
    """A person said that these are really to go; what does not wait (any more) stays. Out: how many left."""
    count = links.confirm_removals(db, keys)
    count += sum(publishing.let_go(db, name) for parent, name in keys if parent == UNPUBLISH)
    for row in sources.sources(db):
        if row.retired and (row.name, row.ref) in keys:
            db.execute(delete(Source).where(Source.name == row.name, Source.ref == row.ref))
            db.execute(delete(Link).where(Link.parent_id == source_link(row)))
            count += 1
    return count


def _retired(db: Connection, row: SourceRow) -> Held:
    parents = [*row.data_source_ids, source_link(row)]
    rows = list(db.execute(select(Link.child_id).where(Link.parent_id.in_(parents))).scalars())
    reason = f"not in the settings any more, {len(rows)} pages"
    return Held((row.name, row.ref), "source", row.name, None, reason, _called(db, rows))


def _called(db: Connection, ids: Collection[str]) -> tuple[tuple[str, str | None], ...]:
    known = names(db, ids)
    return tuple(
        sorted((known.get(page, ("", None)) for page in ids), key=lambda one: (one[1] or "", one[0]))
    )
