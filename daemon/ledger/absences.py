"""Decides what becomes of members that their parents no longer list: removed, held for a person, or waited for."""

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, func, or_, select, update

from daemon.ledger import meta
from daemon.ledger.ledger import chunks
from daemon.ledger.links import bury
from daemon.ledger.meta import Fact
from daemon.ledger.sources import data_sources, databases, row_counts, source_link, sources
from daemon.ledger.tables import DataSource, Link, Page
from daemon.sync.plan import HOLD_ALL_COUNT, Decision, Evidence, decide, too_many

LOST = "lost"
"""The reason for which a page that answered 404 is read again: until that is settled nobody counts as disappeared."""
LOST_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class _Absence:
    parent_id: str
    child_id: str
    kind: str
    evidence: Evidence
    since: float
    held: bool


def any_missing(db: Connection) -> bool:
    """Whether anything has left a listing and is still to be asked for, decided, or confirmed by a person."""
    return db.execute(select(Link.child_id).where(Link.missing.is_not(None)).limit(1)).first() is not None


def decide_missing(db: Connection, notion_now: float, *, unsure: Collection[str] = ()) -> tuple[int, int]:
    """Remove members that are known to be gone, and hold a mass disappearance. Out: (removed, newly held).

    The rows of a data source are decided together, and so is everything below a source; disappearances of both are
    also counted together. Nothing is decided under a source that does not answer, nor under a page that is itself
    missing: it shares that page's fate. `unsure`: data sources of which it could not be found out whether anything is
    left.
    """
    absences = _absences(db)
    if all(absence.held for absence in absences):
        return 0, 0
    firm, lost = _firm_parents(db), _lost_with_many(db, absences)
    removed = held = 0
    for (is_rows, name), group in _grouped(db, absences).items():
        if name in unsure and is_rows:
            continue
        decision = _decide_group(db, group, name, is_rows=is_rows)
        for absence in group:
            if absence.held:
                continue
            if absence.child_id in decision.hold or absence in lost:
                held += 1
                db.execute(update(Link).where(_is_link(absence)).values(held=True))
            elif absence.child_id in decision.remove and absence.parent_id in firm:
                removed += 1
                _remove(db, absence, notion_now)
    return removed, held


def found_one_by_one(db: Connection) -> list[str]:
    """Data sources of which rows were found gone since they were listed last, while others seem to remain."""
    found = select(Link.parent_id).join(DataSource, DataSource.id == Link.parent_id)
    since_listed = or_(DataSource.listed_date.is_(None), Link.since > DataSource.listed_date)
    undecided = and_(Link.missing.is_not(None), Link.held.is_(False))
    remaining = select(Link.parent_id).where(Link.missing.is_(None))
    question = found.where(Link.kind == "row", undecided, since_listed, Link.parent_id.in_(remaining))
    named = {data_source for (data_source,) in db.execute(question)}
    return sorted(named & _firm_parents(db)) if named else []


def _absences(db: Connection) -> list[_Absence]:
    columns = (Link.parent_id, Link.child_id, Link.kind, Link.missing, Link.since, Link.held)
    found = db.execute(select(*columns).where(Link.missing.is_not(None)))
    return [_Absence(r[0], r[1], r[2], Evidence(str(r[3])), r[4] or 0.0, r[5]) for r in found]


def _is_link(absence: _Absence) -> ColumnElement[bool]:
    return and_(Link.parent_id == absence.parent_id, Link.child_id == absence.child_id)


def _remove(db: Connection, absence: _Absence, notion_now: float) -> None:
    db.execute(delete(Link).where(_is_link(absence)))
    if absence.kind == "row" or absence.evidence is Evidence.DISAPPEARED:
        bury(db, [(absence.child_id, absence.parent_id, notion_now)])


def _grouped(db: Connection, absences: Sequence[_Absence]) -> Mapping[tuple[bool, str], list[_Absence]]:
    """By (whether these are rows, their data source or the source below which they are)."""
    homes = dict(_source_of_pages(db, {absence.parent_id for absence in absences}))
    groups: dict[tuple[bool, str], list[_Absence]] = defaultdict(list)
    for absence in absences:
        is_rows = absence.kind == "row"
        groups[is_rows, absence.parent_id if is_rows else homes.get(absence.parent_id, "")].append(absence)
    return groups


def _source_of_pages(db: Connection, parents: Iterable[str]) -> Iterable[tuple[str, str]]:
    for some in chunks(parents):
        for page, source in db.execute(select(Page.id, Page.source).where(Page.id.in_(some))):
            yield page, source or ""


def _lost_with_many(db: Connection, absences: Sequence[_Absence]) -> set[_Absence]:
    """Pages that disappeared with too many others of their source, at the top and below it."""
    lost = [a for a in absences if a.evidence is Evidence.DISAPPEARED and a.kind != "database"]
    homes = dict(_source_of_pages(db, {absence.child_id for absence in lost}))
    if not homes:
        return set()
    counted = select(Page.source, func.count()).group_by(Page.source)
    pages = {source or "": count for source, count in db.execute(counted)}
    many = {source for source, count in Counter(homes.values()).items() if too_many(count, pages[source])}
    return {absence for absence in lost if homes.get(absence.child_id) in many}


def _decide_group(db: Connection, group: Sequence[_Absence], name: str, *, is_rows: bool) -> Decision:
    if is_rows:
        members = select(func.count()).select_from(Link).where(Link.parent_id == name)
        gone = {absence.child_id: absence.evidence for absence in group}
        homes = set(dict(_source_of_pages(db, gone)).values())
        counted = all(_is_counted(db, group, home) for home in homes)
        return decide(gone, int(db.execute(members).scalar() or 0), is_database=True, is_counted=counted)
    members = select(func.count()).select_from(Page).where(Page.source == name)
    gone = {absence.child_id: absence.evidence for absence in group if absence.kind == "page"}
    below = decide(
        gone,
        int(db.execute(members).scalar() or 0),
        is_database=False,
        is_counted=_is_counted(db, group, name),
    )
    kept = _databases_to_hold(db, group)
    gone_databases = frozenset(
        absence.child_id
        for absence in group
        if absence.kind == "database" and absence.evidence is not Evidence.ASK
    )
    return Decision(below.remove | (gone_databases - kept), below.hold | kept)


def _databases_to_hold(db: Connection, group: Sequence[_Absence]) -> frozenset[str]:
    """Databases that answer 404 and take three rows or more with them, while their page is still there."""
    lost = {a.child_id for a in group if a.kind == "database" and a.evidence is Evidence.DISAPPEARED}
    if not lost:
        return frozenset()
    parts = {row.id: row.data_source_ids or () for row in databases(db) if row.id in lost}
    rows = row_counts(db)
    return frozenset(
        database for database, ids in parts.items() if sum(rows.get(ds, 0) for ds in ids) >= HOLD_ALL_COUNT
    )


def _is_counted(db: Connection, group: Sequence[_Absence], source: str) -> bool:
    """Whether every page below a source has been looked at since the first of these disappeared."""
    lost = [a for a in group if a.evidence is Evidence.DISAPPEARED and not a.held]
    if not lost:
        return True
    began, ended = (float(meta.get(db, fact) or 0.0) for fact in (Fact.SWEEP_BEGAN_AT, Fact.SWEEP_ENDED_AT))
    if began > ended and any(absence.since > ended for absence in lost):
        return False
    being_asked = (Page.source == source, Page.reason == LOST, Page.due_at.is_not(None))
    question = select(Page.id).join(Link, Link.child_id == Page.id).where(*being_asked)
    question = question.where(Page.attempts <= LOST_ATTEMPTS, Link.kind == "page", Link.missing.is_(None))
    return db.execute(question.limit(1)).first() is None


def _firm_parents(db: Connection) -> set[str]:
    """Pages and data sources that are on the site beyond doubt: reached from sources that answer, nothing missing."""
    shown: dict[str, list[str]] = defaultdict(list)
    for parent, child in db.execute(select(Link.parent_id, Link.child_id).where(Link.missing.is_(None))):
        shown[parent].append(child)
    answering = {row.id for row in data_sources(db) if row.attempts == 0}
    for database in databases(db):
        shown[database.id] += [ds for ds in database.data_source_ids or () if ds in answering]
    firm: set[str] = set()
    pending: deque[str] = deque()
    for source in sources(db):
        if not source.retired and source.attempts == 0:
            pending += [source_link(source), *(ds for ds in source.data_source_ids if ds in answering)]
    while pending:
        parent = pending.popleft()
        if parent not in firm:
            firm.add(parent)
            pending += shown[parent]
    return firm
