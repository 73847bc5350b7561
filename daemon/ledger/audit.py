"""What a comparison asks of the ledger: what it claims about the store and about Notion; and what it takes back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, or_, select, update

from daemon.ledger import records
from daemon.ledger.ledger import chunks
from daemon.ledger.records import OUTDATED
from daemon.ledger.tables import Link, Page, Record

_SETTLED = and_(
    Record.wanted == Record.written,
    Record.owner_id == Record.written_owner_id,
    Record.digest.is_not(None),
)
_ORDINARY = ("settle", "unshared", "empty")
"""Reasons for which a page is read again although nothing is known to differ."""


def settled_keys(db: Connection, keys: Iterable[str] | None = None) -> dict[str, str]:
    """Keys (all, or of these) that hold what they should, as far as the ledger knows, with its SHA-1."""
    question = select(Record.key, Record.digest).where(_SETTLED)
    if keys is None:
        return {key: str(digest) for key, digest in db.execute(question.order_by(Record.key))}
    found: dict[str, str] = {}
    for some in chunks(keys):
        found.update({key: str(digest) for key, digest in db.execute(question.where(Record.key.in_(some)))})
    return found


def outdate(db: Connection, digests: Mapping[str, str]) -> None:
    """Have keys written again, as long as the ledger still believes that they hold these digests."""
    mine = and_(Record.key == bindparam("its_key"), Record.digest == bindparam("its_digest"), _SETTLED)
    if digests:
        rows = [{"its_key": key, "its_digest": digest} for key, digest in digests.items()]
        db.execute(update(Record).where(mine).values(written=OUTDATED, next_try_at=None), rows)


def waiting_keys(db: Connection) -> list[tuple[str, bool, str | None]]:
    """Keys that are still to be written: key, whether it is to be deleted, why the store refused it."""
    reasons = {row["key"]: row["reason"] for row in records.refused(db)}
    owed = records.pending(db, float("inf"))
    return [(row.key, row.wanted is None, reasons.get(row.key)) for row in owed]


def rows_of(db: Connection, data_source_id: str) -> set[str]:
    """The rows that a data source is believed to have."""
    mine = and_(Link.parent_id == data_source_id, Link.kind == "row", Link.missing.is_(None))
    return {row for (row,) in db.execute(select(Link.child_id).where(mine))}


def child_pages(db: Connection) -> list[str]:
    """Child pages and source pages that have been read and are believed to be there."""
    child = select(Link.child_id).where(Link.kind == "page", Link.missing.is_(None))
    question = select(Page.id).where(Page.id.in_(child), Page.stamp.is_not(None))
    return [page for (page,) in db.execute(question.order_by(Page.id))]


@dataclass(frozen=True, slots=True)
class OwedPage:
    """A page of which it is known that it differs, or may: why, and what went wrong when it was read last."""

    id: str
    reason: str
    problem: str | None


def owed_pages(db: Connection) -> list[OwedPage]:
    """Pages that are still to be read because something about them is known to have changed, or failed."""
    matters = or_(Page.attempts > 0, Page.reason.not_in(_ORDINARY))
    question = select(Page.id, Page.reason, Page.problem).where(Page.due_at.is_not(None), matters)
    return [OwedPage(*row) for row in db.execute(question.order_by(Page.id))]


def names(db: Connection, page_ids: Iterable[str]) -> dict[str, str]:
    """What people know these pages by: slug, else title, else the id."""
    found: dict[str, str] = {}
    for some in chunks(page_ids):
        for page, slug, card in db.execute(select(Page.id, Page.slug, Page.card).where(Page.id.in_(some))):
            found[page] = slug or (card or {}).get("title") or page
    return found
