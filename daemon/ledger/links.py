"""What shows what, and what is known of a member that its parent no longer lists."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, func, select, update

from daemon.ledger import meta
from daemon.ledger.ledger import chunks, upsert
from daemon.ledger.meta import Fact
from daemon.ledger.tables import DataSource, Gone, Link, Page
from daemon.sync.plan import Evidence

UNPUBLISHED = "unpublished"
"""In place of what is known of a member that is gone: it is there, and does not pass its source's rule any more."""


def add_rows(db: Connection, data_source_id: str, page_ids: Iterable[str]) -> None:
    """These pages, known by now, are rows of this data source: a listing, or the page itself, said so."""
    rows: list[dict[str, Any]] = []
    for some in chunks(page_ids):
        known = {p for (p,) in db.execute(select(Page.id).where(Page.id.in_(some)))}
        rows += [link_row(data_source_id, page_id, "row") for page_id in some if page_id in known]
    upsert(db, Link, rows, update=_THERE)


def add_child(db: Connection, parent: str, child: str, kind: str, container: str) -> None:
    """A page or database says that it lives in this page: it does so at its end until the page is read again."""
    last = db.execute(select(func.max(Link.position)).where(Link.parent_id == parent)).scalar()
    row = link_row(parent, child, kind, 0 if last is None else last + 1, container)
    upsert(db, Link, [row], update=[*_THERE, "container_id"])


def add_source_page(db: Connection, parent: str, page_id: str) -> None:
    """A source is this one page and everything under it."""
    upsert(db, Link, [link_row(parent, page_id, "page")], update=[])


def link_row(
    parent: str, child: str, kind: str, position: int = 0, container: str | None = None
) -> dict[str, Any]:
    """A member that is there: not missing, not held."""
    place = {
        "parent_id": parent,
        "child_id": child,
        "kind": kind,
        "position": position,
        "container_id": container,
    }
    return {**place, **_THERE}


_THERE: dict[str, Any] = {"missing": None, "since": None, "held": False}
"""What is known of a member that is not missing."""


@dataclass(frozen=True, slots=True)
class MissingLink:
    """A member that its parent's last complete listing did not show."""

    parent_id: str
    child_id: str
    kind: str
    container_id: str | None
    missing: str | None = None


def to_ask(db: Connection, limit: int) -> list[MissingLink]:
    """Members whose absence has no explanation yet."""
    columns = (Link.parent_id, Link.child_id, Link.kind, Link.container_id)
    question = (
        select(*columns).where(Link.missing == Evidence.ASK.value).order_by(Link.parent_id, Link.child_id)
    )
    return [MissingLink(*row) for row in db.execute(question.limit(limit))]


def parents_of(db: Connection, child_id: str) -> list[MissingLink]:
    """Every place that shows a page or database."""
    columns = (Link.parent_id, Link.child_id, Link.kind, Link.container_id, Link.missing)
    return [MissingLink(*row) for row in db.execute(select(*columns).where(Link.child_id == child_id))]


def answer_missing(
    db: Connection, answers: Iterable[tuple[MissingLink, Evidence]], notion_now: float
) -> None:
    """Keep what direct answers said of missing members; `KEPT` puts one back."""
    for link, evidence in answers:
        mine = and_(Link.parent_id == link.parent_id, Link.child_id == link.child_id)
        back = evidence is Evidence.KEPT
        found = {"missing": evidence.value, "since": func.coalesce(Link.since, notion_now)}
        db.execute(update(Link).where(mine).values(**(_THERE if back else found)))


def missing_rows(db: Connection, data_source_id: str) -> set[str]:
    """The rows that are known to be gone from a data source, or looked for."""
    gone = select(Link.child_id).where(Link.parent_id == data_source_id, Link.missing.is_not(None))
    return {row for (row,) in db.execute(gone)}


def confirm_removals(db: Connection, members: Collection[tuple[str, str]] | None = None) -> int:
    """A person said that what is held (of these: parent, child) is really gone. Out: how many members left."""
    held = db.execute(select(Link.child_id, Link.parent_id, Link.since).where(Link.held)).all()
    gone = [row for row in held if members is None or (row.parent_id, row.child_id) in members]
    bury(db, [(child, parent, since or 0.0) for child, parent, since in gone])
    for child, parent, _ in gone:
        db.execute(delete(Link).where(Link.parent_id == parent, Link.child_id == child))
    return len(gone)


def bury(db: Connection, gone: Iterable[tuple[str, str, float]]) -> None:
    """Remember what left its data source or page, and when (Notion's clock). In: (id, parent, date)."""
    graves = [{"id": child, "parent_id": parent, "date": date} for child, parent, date in gone]
    upsert(db, Gone, graves, update=["date"])


def out_of_reach(db: Connection) -> list[tuple[str, str]]:
    """Child pages and databases that left a page without a trace: (id, page)."""
    question = select(Gone.id, Gone.parent_id).join(Page, Page.id == Gone.parent_id)
    return [(child, page) for child, page in db.execute(question.order_by(Gone.parent_id, Gone.id))]


def within_reach(db: Connection, child: str, page: str) -> None:
    """Something that had left a page without a trace answers again."""
    db.execute(delete(Gone).where(Gone.id == child, Gone.parent_id == page))


def held_links(db: Connection) -> list[tuple[str, str, str, str | None]]:
    """Removals that wait for a person: parent, child, kind, evidence. In place of a parent: a source's name."""
    columns = (Link.parent_id, Link.child_id, Link.kind, Link.missing)
    gone = db.execute(select(*columns).where(Link.held).order_by(Link.child_id))
    waiting = meta.get(db, Fact.UNPUBLISHING) or {}
    unpublished = [(name, row, "row", UNPUBLISHED) for name, rows in waiting.items() for row in rows]
    return [*((r[0], r[1], r[2], r[3]) for r in gone), *unpublished]


def known_parents(db: Connection, ids: Iterable[str]) -> dict[str, tuple[str, str]]:
    """What we know under these ids: id -> ("data_source" | "page" | "container", the page or data source)."""
    found: dict[str, tuple[str, str]] = {}
    for some in chunks(ids):
        held = select(Link.container_id, Link.parent_id).where(Link.container_id.in_(some))
        found.update({str(block): ("container", page) for block, page in db.execute(held)})
        for kind, column in (("page", Page.id), ("data_source", DataSource.id)):
            found.update(
                {known: (kind, known) for (known,) in db.execute(select(column).where(column.in_(some)))}
            )
    return found


def containers(db: Connection) -> list[tuple[str, str]]:
    """Blocks that hold child pages or databases: (container, page)."""
    pairs = select(Link.container_id, Link.parent_id).where(Link.container_id.is_not(None)).distinct()
    return sorted((str(container), page) for container, page in db.execute(pairs))


def children_in(db: Connection, container_id: str) -> set[str]:
    """The child pages and databases that a block is known to hold."""
    held = select(Link.child_id).where(Link.container_id == container_id, Link.missing.is_(None))
    return {child for (child,) in db.execute(held)}
