"""The work owed: which pages are to be read, in which order, what failed and when it is tried again."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, case, func, select, update

from daemon.ledger.ledger import chunks
from daemon.ledger.sources import source_link, sources
from daemon.ledger.tables import Database, DataSource, Link, Page, Source
from daemon.sync import plan
from daemon.sync.plan import Priority


@dataclass(frozen=True, slots=True)
class DuePage:
    """A page to read. `seen_body` is the page object that a listing gave, packed, if there is one."""

    id: str
    priority: int
    reason: str
    seen_stamp: str | None
    seen_date: float | None
    seen_body: bytes | None
    stamp: str | None
    attempts: int
    asked: int


# Asked after every page: made once, because making a statement takes longer than running it.
_DUE = (
    select(
        Page.id,
        Page.priority,
        Page.reason,
        Page.seen_stamp,
        Page.seen_date,
        Page.seen_body,
        Page.stamp,
        Page.attempts,
        Page.asked,
    )
    .where(Page.due_at <= bindparam("now"))
    .order_by(Page.priority, Page.due_at, Page.id)
    .limit(bindparam("limit"))
)


def due(
    db: Connection, notion_now: float, limit: int, exclude: Iterable[str] = (), only: str | None = None
) -> list[DuePage]:
    """Pages whose reading is due, most urgent first; of one source only, or `children`: what is below them all."""
    question = _DUE if only is None else _DUE.where(*_within(db, only))
    # Left out here, not in the statement: with a list of any length in it, it would be made anew each time.
    being_read = set(exclude)
    found = db.execute(question, {"now": notion_now, "limit": limit + len(being_read)})
    return [DuePage(*row) for row in found if row.id not in being_read][:limit]


def _within(db: Connection, only: str | None) -> list[ColumnElement[bool]]:
    """The condition that restricts pages to a part of the site; none for all of it."""
    if only is None:
        return []
    top = top_pages(db, None if only == "children" else only)
    return [Page.id.not_in(top) if only == "children" else Page.id.in_(top)]


def top_pages(db: Connection, source: str | None) -> Select[str]:
    """The ids of the rows and pages that a source (None: any source) consists of."""
    named = [row for row in sources(db) if source in (None, row.name)]
    parents = [ds for row in named for ds in row.data_source_ids] + [source_link(row) for row in named]
    return select(Link.child_id).where(Link.parent_id.in_(parents))


def next_due_at(db: Connection, *, failing: bool = True, only: str | None = None) -> float | None:
    """When the next page falls due, on Notion's clock; None when no work is left. `failing`: retries count too."""
    question = select(func.min(Page.due_at)).where(*_within(db, only))
    moment: float | None = db.execute(question if failing else question.where(Page.attempts == 0)).scalar()
    return moment


def make_due(db: Connection, page_ids: Iterable[str], priority: Priority, reason: str) -> int:
    """Have pages read now, beginning with a GET, also those being read. A more urgent reason that stands is kept.

    A page that fails waits for its next try all the same: only news of it (`FRESH`) cuts its back-off short.
    """
    count = 0
    for some in chunks(page_ids):
        stands = and_(Page.due_at.is_not(None), Page.priority < int(priority))
        urgency = case((stands, Page.priority), else_=int(priority))
        due_at = func.coalesce(Page.rest_until, 0.0)
        if priority is not Priority.FRESH:
            due_at = func.coalesce(case((Page.attempts > 0, Page.due_at)), due_at)
        values = {"due_at": due_at, "priority": urgency, "reason": reason}
        values |= {"seen_body": None, "asked": Page.asked + 1}
        count += db.execute(update(Page).where(Page.id.in_(some)).values(values)).rowcount
    return count


def fail_page(
    db: Connection, page_id: str, problem: str, notion_now: float, reason: str | None = None
) -> int:
    """A page could not be read whole: the last good version stays, and it is tried again later. Out: attempts."""
    mine = Page.id == page_id
    attempts = int(db.execute(select(Page.attempts).where(mine)).scalar() or 0) + 1
    due_at = notion_now + plan.retry_delay_seconds(attempts)
    values = {"attempts": attempts, "problem": problem, "due_at": due_at, "seen_body": None}
    if reason is not None:
        values["reason"] = reason
    db.execute(update(Page).where(mine).values(**values, priority=int(Priority.BACKLOG)))
    return attempts


def retry_now(db: Connection, notion_now: float) -> None:
    """An outage is over: pages and listings that fail are tried now. Their attempts still count."""
    waiting = and_(Page.attempts > 0, Page.due_at > notion_now)
    db.execute(update(Page).where(waiting).values(due_at=notion_now))
    for table in (Source, DataSource, Database):
        db.execute(update(table).where(table.next_try_at.is_not(None)).values(next_try_at=None))


def is_failing(db: Connection, page_id: str) -> bool:
    """Whether the last try to read a page failed."""
    return bool(db.execute(select(Page.attempts).where(Page.id == page_id)).scalar())


def put_off(db: Connection, page_id: str) -> None:
    """A page is known to be gone: nothing is read any more; it leaves with its links."""
    db.execute(update(Page).where(Page.id == page_id).values(due_at=None, forced=False))


def put_off_until(db: Connection, page: DuePage, due_at: float, reason: str) -> None:
    """Read a page again later, beginning with a GET, unless something new was said of it since it was taken up."""
    unchanged = (Page.asked == page.asked, Page.seen_stamp.is_not_distinct_from(page.seen_stamp))
    later = {"due_at": due_at, "priority": int(Priority.SETTLE), "reason": reason, "seen_body": None}
    db.execute(update(Page).where(Page.id == page.id, *unchanged).values(later))


def list_again(db: Connection, data_source_id: str) -> None:
    """A row answers 404: its data source is listed again by the sweep, which tells whether the row is gone."""
    db.execute(update(DataSource).where(DataSource.id == data_source_id).values(swept_at=None))


def force_all(db: Connection, only: str | None = None) -> None:
    """Have every page (of one part) read again and its key rewritten; what listings showed is not needed twice."""
    again = {"due_at": 0.0, "priority": int(Priority.BACKLOG), "reason": "force", "asked": Page.asked + 1}
    db.execute(update(Page).where(*_within(db, only)).values(**again, forced=True))


def forced_left(db: Connection) -> int:
    """How many pages a running force has still to read, those apart that fail: they stay marked until they are read."""
    left = select(func.count()).select_from(Page).where(Page.forced, Page.attempts == 0)
    return int(db.execute(left).scalar() or 0)


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much work the ledger holds: due now, due later (on Notion's clock), failing, never tried yet."""

    due: int
    later: int
    failing: int
    unread: int
    total: int


def backlog(db: Connection, notion_now: float) -> Backlog:
    """Counts for deciding whether work is left, and for people."""
    one = func.coalesce
    counts = db.execute(
        select(
            one(func.sum(case((Page.due_at <= notion_now, 1), else_=0)), 0),
            one(func.sum(case((and_(Page.due_at > notion_now, Page.attempts == 0), 1), else_=0)), 0),
            one(func.sum(case((Page.attempts > 0, 1), else_=0)), 0),
            one(func.sum(case((and_(Page.stamp.is_(None), Page.attempts == 0), 1), else_=0)), 0),
            func.count(),
        )
    ).one()
    return Backlog(*(int(value) for value in counts))


def troubled(db: Connection, limit: int = 100) -> list[dict[str, Any]]:
    """Pages that could not be read: id, slug, title, reason, attempts, when they are tried next."""
    columns = (Page.id, Page.slug, Page.card, Page.problem, Page.attempts, Page.due_at)
    found = db.execute(
        select(*columns).where(Page.attempts > 0).order_by(Page.attempts.desc(), Page.id).limit(limit)
    )
    return [
        {
            "id": r[0],
            "slug": r[1],
            "title": (r[2] or {}).get("title"),
            "reason": r[3],
            "attempts": r[4],
            "nextTryAt": r[5],
        }
        for r in found
    ]
