"""Pages: sightings become work, and reads become snapshots."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, bindparam, case, exists, or_, select, update

from daemon import jsontext
from daemon.ledger import assets, originals, records
from daemon.ledger.ledger import chunks, upsert
from daemon.ledger.links import link_row
from daemon.ledger.tables import AssetUse, Copy, Database, Gone, Link, Original, Page, Snapshot
from daemon.notion.files import HostedFile
from daemon.sync import plan
from daemon.sync.plan import Evidence, Known, Priority, Sighting, Trust, Via


@dataclass(frozen=True, slots=True)
class ChildPointer:
    """A child page or database as its parent's blocks show it."""

    id: str
    kind: str
    container_id: str
    title: str
    created_time: str
    stamp: str


@dataclass(frozen=True, slots=True)
class StoredRead:
    """One page, read whole, ready to be stored. Dates are unix seconds on Notion's clock."""

    page_id: str
    stamp: str
    newest_stamp: float
    date: float
    by_get: bool
    trusted: bool
    cost_requests: int
    snapshot: bytes
    content_hash: str
    read_hash: str
    card: dict[str, Any]
    children: Sequence[ChildPointer]
    shows: Sequence[str]
    copies: Mapping[str, bool]
    originals: Mapping[str, str]
    files: Sequence[HostedFile] = ()
    blocks_date: float = 0.0


def note_sightings(
    db: Connection,
    sightings: Sequence[Sighting],
    cards: Mapping[str, dict[str, Any]],
    trust: Trust,
    *,
    calm: bool = False,
) -> int:
    """Turn sightings into work. Out: how many pages became due.

    `cards` holds the facts of pages not known yet, by id. `calm`: this is a first listing, nothing in it is urgent.
    """
    if not sightings:
        return 0
    known = what_is_known(db, [sighting.page_id for sighting in sightings])
    changed: list[dict[str, Any]] = []
    for sighting in sightings:
        verdict = plan.judge(known.get(sighting.page_id), sighting, trust)
        if verdict.accept and (sighting.page_id in known or sighting.page_id in cards):
            changed.append(_sighted(sighting, verdict, known.get(sighting.page_id), cards, calm))
    upsert(db, Page, [row for row in changed if row["id"] not in known], update=[])
    for row in changed:
        if row["id"] in known:
            _accept(db, row)
    return sum(1 for row in changed if row["due_at"] is not None)


def what_is_known(db: Connection, ids: Iterable[str]) -> dict[str, Known]:
    """What the ledger knows of those of these pages that it knows, by id."""
    columns = (
        Page.id,
        Page.seen_stamp,
        Page.seen_date,
        Page.stamp,
        Page.trusted,
        Page.listed_hash,
        Page.read_hash,
        Page.rest_until,
        case((Page.attempts > 0, Page.due_at)),
    )
    known: dict[str, Known] = {}
    for some in chunks(ids):
        for row in db.execute(select(*columns).where(Page.id.in_(some))):
            known[row[0]] = Known(*row[1:])
    return known


def believable(
    db: Connection, data_source_id: str, sightings: Sequence[Sighting], trust: Trust
) -> list[Sighting]:
    """Drop what a listing says of pages that were found gone, from it or from the site, later than it can know."""
    gone: dict[str, float] = {}
    places = Gone.parent_id.in_(("", data_source_id))
    for some in chunks(sighting.page_id for sighting in sightings):
        for page, date in db.execute(select(Gone.id, Gone.date).where(Gone.id.in_(some), places)):
            gone[page] = max(date, gone.get(page, date))
    return [
        told
        for told in sightings
        if told.page_id not in gone or plan.not_from_before(told.stamp, told.date, gone[told.page_id], trust)
    ]


def _sighted(
    sighting: Sighting,
    verdict: plan.Verdict,
    known: Known | None,
    cards: Mapping[str, dict[str, Any]],
    calm: bool,
) -> dict[str, Any]:
    urgency = Priority.BACKLOG if calm else verdict.due
    due_at = max(sighting.date, (known and known.rest_until) or 0.0)
    if known and verdict.due is not Priority.FRESH:
        due_at = max(due_at, known.retry_at or 0.0)  # only an edit cuts the back-off of a failing page short
    body = None if verdict.ask else sighting.body
    return {
        "id": sighting.page_id,
        "seen_stamp": sighting.stamp,
        "seen_date": sighting.date,
        "seen_body": jsontext.pack(body) if body is not None else None,
        "listed_hash": sighting.listed_hash,
        "due_at": None if verdict.due is None else due_at,
        "priority": int(urgency or 0),
        "reason": verdict.reason,
        "card": cards.get(sighting.page_id, {}),
    }


def _accept(db: Connection, row: Mapping[str, Any]) -> None:
    values = {name: row[name] for name in ("seen_stamp", "seen_date", "seen_body")}
    if row["listed_hash"] is not None:
        values["listed_hash"] = row["listed_hash"]
    if row["due_at"] is not None:
        values |= {"due_at": row["due_at"], "priority": row["priority"], "reason": row["reason"]}
    db.execute(_UPDATE, {"page": row["id"], **values})


# Storing is done once a page, and making a statement takes longer than running it: these are made once.
_BEFORE = select(
    Page.seen_stamp,
    Page.seen_date,
    Page.forced,
    Page.stamp,
    Page.content_hash,
    Page.asked,
    exists().where(Link.parent_id == bindparam("page")).label("has_members"),
    exists().where(Copy.page_id == bindparam("page")).label("has_copies"),
    exists().where(Original.host_id == bindparam("page")).label("has_originals"),
    exists().where(AssetUse.page_id == bindparam("page")).label("has_files"),
).where(Page.id == bindparam("page"))
_UPDATE = update(Page).where(Page.id == bindparam("page"))
_MEMBERS = select(Link.child_id).where(Link.parent_id == bindparam("page"), Link.missing.is_(None))


def store_read(
    db: Connection, read: StoredRead, trust: Trust, *, asked: int, rest_until: float | None = None
) -> bool:
    """Keep a page that was read whole: content, stamp, children and what is still owed, in one commit.

    `asked`: of the page as it was when the read began; `rest_until`: it is costly and is not read again before.
    Out: whether something came up that has to be asked for (a database, a child that left, a synced copy).
    """
    before = db.execute(_BEFORE, {"page": read.page_id}).one_or_none()
    if before is None:
        return False
    newer = _seen_meanwhile(before.seen_stamp, before.seen_date, read)
    asked_meanwhile = before.asked != asked
    values: dict[str, Any] = {
        "stamp": read.stamp,
        "read_date": read.date,
        "trusted": read.trusted,
        "content_hash": read.content_hash,
        "read_hash": read.read_hash,
        "cost_requests": read.cost_requests,
        "card": read.card,
        "shows": list(read.shows),
        "attempts": 0,
        "problem": None,
        "forced": before.forced and asked_meanwhile,
        "rest_until": rest_until,
        "seen_body": None,
    }
    if read.by_get:
        values["swept_at"] = read.date
    if not newer:
        values |= {"seen_stamp": read.stamp, "seen_date": max(read.date, before.seen_date or 0.0)}
    if not newer and not asked_meanwhile:
        is_news = (before.stamp, before.content_hash) != (read.stamp, read.content_hash)
        again_at = trust.settles_at(read.newest_stamp)
        if is_news and plan.is_from_the_future(read.stamp, read.date, trust):
            again_at = trust.settles_at(read.date)
        due_at = None if read.trusted else max(again_at, rest_until or 0.0)
        values |= {"due_at": due_at, "priority": int(Priority.SETTLE)}
        values["reason"] = "settle"
    db.execute(_UPDATE, {"page": read.page_id, **values})
    upsert(db, Snapshot, [{"page_id": read.page_id, "content": read.snapshot}], update=["content"])
    if before.forced and not asked_meanwhile:
        records.rewrite(db, owner_id=read.page_id)
    absent = False
    if read.children or before.has_members:
        absent = _store_children(db, read, trust, first=before.stamp is None)
    if read.copies or read.originals or before.has_copies or before.has_originals:
        originals.store_copies(db, read.page_id, read.copies, read.originals, read.newest_stamp, trust)
    if read.files or before.has_files:
        assets.store_uses(db, read.page_id, read.files, read.blocks_date)
    return absent or bool(read.copies) or any(child.kind == "database" for child in read.children)


def _seen_meanwhile(seen_stamp: str | None, seen_date: float | None, read: StoredRead) -> bool:
    """Whether a newer stamp was seen while the page was being read: then it stays due."""
    if seen_stamp is None:
        return False
    return plan.instant(seen_stamp) != plan.instant(read.stamp) and (seen_date or 0.0) > read.date


def _store_children(db: Connection, read: StoredRead, trust: Trust, *, first: bool) -> bool:
    listed = {child.id: child for child in read.children}
    rows = [
        link_row(read.page_id, child.id, child.kind, position, child.container_id)
        for position, child in enumerate(listed.values())
    ]
    upsert(db, Link, rows, update=["kind", "position", "container_id", "missing", "since", "held"])
    members = db.execute(_MEMBERS, {"page": read.page_id})
    absent = [child for (child,) in members if child not in listed]
    for some in chunks(absent):
        gone = and_(Link.parent_id == read.page_id, Link.child_id.in_(some))
        db.execute(update(Link).where(gone).values(missing=Evidence.ASK.value, since=read.date))
    found = [{"id": child.id, "name": child.title} for child in listed.values() if child.kind == "database"]
    upsert(db, Database, found, update=[])
    pages = [child for child in listed.values() if child.kind == "page"]
    note_sightings(
        db,
        [Sighting(child.id, child.stamp, read.date, Via.POINTER) for child in pages],
        {child.id: {"title": child.title, "createdTime": child.created_time} for child in pages},
        trust,
        calm=first,
    )
    return bool(absent)


def has_blocks(db: Connection, page_id: str) -> bool:
    """Whether the last good version of a page has any content."""
    content = db.execute(select(Snapshot.content).where(Snapshot.page_id == page_id)).scalar()
    return content is not None and bool(jsontext.unpack(content)["blocks"])


def child_pages_to_sweep(db: Connection, before: float, limit: int) -> list[str]:
    """Child pages and source pages that have been read and not been asked for since `before` (our clock)."""
    child = select(Link.child_id).where(Link.kind == "page")
    unswept = or_(Page.swept_at.is_(None), Page.swept_at < before)
    question = select(Page.id).where(Page.id.in_(child), Page.stamp.is_not(None), unswept)
    return [p for (p,) in db.execute(question.order_by(Page.swept_at, Page.id).limit(limit))]


def swept(db: Connection, page_ids: Iterable[str], now: float) -> None:
    """The sweep has asked for these pages."""
    for some in chunks(page_ids):
        db.execute(update(Page).where(Page.id.in_(some)).values(swept_at=now))
