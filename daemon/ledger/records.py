"""What the key-value store should hold and does hold, and the facts of all pages that decide it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, func, or_, select, update

from daemon.ledger import assets, originals, publishing
from daemon.ledger import sources as source_rows
from daemon.ledger.ledger import chunks, upsert
from daemon.ledger.tables import Copy, Gone, Link, Original, Page, Record, Snapshot
from daemon.site.files import FileFacts
from daemon.site.redirects import Former
from daemon.site.slugs import Child, DatabaseFacts, PageFacts, SourceFacts
from daemon.sync import plan

OUTDATED = "outdated"
"""In place of the hash of what a key holds: it holds something, and is to be written again or deleted."""
GONE_KEPT_SECONDS = 86_400.0
"""No listing is that late: after a day nothing can bring a removed page back by mistake."""


@dataclass(frozen=True, slots=True)
class ReadFacts:
    """What composing needs of a page that has been read: its content's hash, and what of others it shows.

    `trusted`: nothing can be added any more under this stamp.
    """

    content_hash: str
    stamp: str
    shows: tuple[str, ...]
    trusted: bool


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """Everything that decides which keys there are, without any page's blocks.

    `shown`: pages that had a place on the site; `slugs_before`: which page had each slug; `former`: who left which.
    """

    sources: list[SourceFacts]
    rows: dict[str, list[str]]
    databases: dict[str, DatabaseFacts]
    database_names: dict[str, str]
    pages: dict[str, PageFacts]
    cards: dict[str, dict[str, Any]]
    reads: dict[str, ReadFacts]
    shown: set[str] = field(default_factory=set)
    slugs_before: dict[str, str] = field(default_factory=dict)
    former: dict[str, Former] = field(default_factory=dict)
    files: dict[str, tuple[FileFacts, ...]] = field(default_factory=dict)
    previous_files: assets.Previous = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a key should hold: whose content, on which level of the site, and its hash; of a page also its source."""

    kind: str
    owner_id: str
    level: int
    hash: str
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """A key whose value differs from what it should hold. `wanted` is None for a deletion."""

    key: str
    kind: str
    owner_id: str
    written_owner_id: str | None
    level: int
    wanted: str | None
    source: str | None = None


def load_site(db: Connection) -> SiteFacts:
    """The facts of the whole site, read in one transaction."""
    rows: dict[str, list[str]] = defaultdict(list)
    children: dict[str, list[Child]] = defaultdict(list)
    source_pages: dict[str, str] = {}
    links = select(Link.parent_id, Link.child_id, Link.kind).order_by(
        Link.parent_id, Link.position, Link.child_id
    )
    for parent, child, kind in db.execute(links):
        if kind == "row":
            rows[parent].append(child)
        elif parent.startswith("source:"):
            source_pages[parent] = child
        else:
            children[parent].append(Child(child, "page" if kind == "page" else "database"))
    pages, cards, reads = _load_pages(db, children)
    listed = {row.id: row for row in source_rows.data_sources(db)}
    databases = source_rows.databases(db)
    rules = publishing.rules(db)
    files, previous_files = assets.load(db)
    return SiteFacts(
        sources=[
            _source_facts(row, listed, source_pages, rules[row.name, row.ref])
            for row in source_rows.sources(db)
        ],
        rows=rows,
        databases={row.id: _database_facts(row, listed) for row in databases},
        database_names={row.id: row.name for row in databases},
        pages=pages,
        cards=cards,
        reads=reads,
        shown=publishing.shown(db),
        slugs_before=publishing.slugs_before(db),
        former=publishing.former_slugs(db),
        files=files,
        previous_files=previous_files,
    )


def _load_pages(
    db: Connection, children: Mapping[str, list[Child]]
) -> tuple[dict[str, PageFacts], dict[str, dict[str, Any]], dict[str, ReadFacts]]:
    pages: dict[str, PageFacts] = {}
    cards: dict[str, dict[str, Any]] = {}
    reads: dict[str, ReadFacts] = {}
    columns = (Page.id, Page.card, Page.slug, Page.stamp, Page.attempts, Page.content_hash, Page.shows)
    found = db.execute(select(*columns, Page.trusted))
    for page_id, card, slug, stamp, attempts, content_hash, shows, trusted in found:
        read = stamp is not None
        pages[page_id] = PageFacts(
            id=page_id,
            title=card.get("title") or "",
            raw_slug=card.get("rawSlug"),
            created_time=card.get("createdTime") or "",
            settled_slug=slug,
            listed=read,
            stuck=not read and source_rows.is_stuck(attempts),
            children=tuple(children.get(page_id, ())),
        )
        cards[page_id] = card
        if read:
            reads[page_id] = ReadFacts(content_hash or "", stamp, tuple(shows or ()), trusted)
    return pages, cards, reads


def _source_facts(
    row: source_rows.SourceRow,
    listed: Mapping[str, source_rows.DataSourceRow],
    pages: Mapping[str, str],
    publishes: publishing.SourceRule,
) -> SourceFacts:
    known = [listed[ds] for ds in row.data_source_ids if ds in listed]
    whole = row.kind is not None and all(ds.listed_date is not None for ds in known)
    failing = source_rows.is_stuck(row.attempts) or any(source_rows.is_stuck(ds.attempts) for ds in known)
    return SourceFacts(
        name=row.name,
        page_id=pages.get(source_rows.source_link(row)) if row.kind == "page" else None,
        data_source_ids=row.data_source_ids,
        listed=whole or row.retired,
        stuck=failing,
        rule=publishes.rule,
        frozen=publishes.frozen,
        retired=row.retired,
    )


def _database_facts(
    row: source_rows.DatabaseRow, listed: Mapping[str, source_rows.DataSourceRow]
) -> DatabaseFacts:
    ids = row.data_source_ids or ()
    known = [listed[ds] for ds in ids if ds in listed]
    return DatabaseFacts(
        id=row.id,
        data_source_ids=ids,
        listed=row.data_source_ids is not None and all(ds.listed_date is not None for ds in known),
        stuck=row.skipped
        or source_rows.is_stuck(row.attempts)
        or any(source_rows.is_stuck(ds.attempts) for ds in known),
    )


def store_places(
    db: Connection, places: Mapping[str, tuple[str, str]], known: Mapping[str, PageFacts]
) -> None:
    """Keep the settled slug and the source of every page on the site. In: id -> (slug, source)."""
    stored = {row[0]: (row[1], row[2]) for row in db.execute(select(Page.id, Page.slug, Page.source))}
    moved = [
        {"page": page_id, "slug": place[0], "source": place[1]}
        for page_id, place in places.items()
        if page_id in known and stored.get(page_id) != place
    ]
    if moved:
        db.execute(update(Page).where(Page.id == bindparam("page")), moved)


_UNTRIED: dict[str, Any] = {"attempts": 0, "next_try_at": None, "problem": None}


def store_wanted(db: Connection, wanted: Mapping[str, Wanted]) -> int:
    """Make the records want exactly these keys. Out: how many records changed what they want.

    What was refused before says nothing of what a key should hold now.
    """
    columns = (Record.key, Record.wanted, Record.owner_id, Record.level, Record.source)
    stored = {row[0]: tuple(row[1:]) for row in db.execute(select(*columns))}
    changed = [
        {
            "key": key,
            "kind": w.kind,
            "owner_id": w.owner_id,
            "level": w.level,
            "wanted": w.hash,
            "source": w.source,
            **_UNTRIED,
        }
        for key, w in wanted.items()
        if stored.get(key) != (w.hash, w.owner_id, w.level, w.source)
    ]
    upsert(db, Record, changed, update=["kind", "owner_id", "level", "wanted", "source", *_UNTRIED])
    unwanted = [key for key, row in stored.items() if key not in wanted and row[0] is not None]
    for some in chunks(unwanted):
        db.execute(update(Record).where(Record.key.in_(some)).values(wanted=None, **_UNTRIED))
    db.execute(delete(Record).where(Record.wanted.is_(None), Record.written.is_(None)))
    return len(changed) + len(unwanted)


def forget_pages(db: Connection, off_site: Iterable[str], notion_now: float) -> int:
    """Drop pages that no longer have a place, whole. Out: how many."""
    count = 0
    late = Gone.date < notion_now - GONE_KEPT_SECONDS
    db.execute(delete(Gone).where(late, Gone.parent_id.not_in(select(Page.id))))
    for some in chunks(off_site):
        graves = [{"id": page, "parent_id": "", "date": notion_now} for page in some]
        upsert(db, Gone, graves, update=["date"])
        originals.hosts_lost(db, some)
        db.execute(delete(Snapshot).where(Snapshot.page_id.in_(some)))
        db.execute(delete(Link).where(Link.parent_id.in_(some)))
        db.execute(delete(Copy).where(Copy.page_id.in_(some)))
        assets.forget_uses(db, some)
        count += db.execute(delete(Page).where(Page.id.in_(some))).rowcount
    if count:
        lost = Original.host_id.is_(None)
        db.execute(delete(Original).where(lost, Original.id.not_in(select(Copy.original_id))))
    return count


_DIFFERS = or_(
    and_(Record.wanted.is_not(None), or_(Record.written.is_(None), Record.wanted != Record.written)),
    and_(Record.wanted.is_(None), Record.written.is_not(None)),
    Record.owner_id != Record.written_owner_id,
    Record.source != Record.written_source,
)


def pending(db: Connection, now: float) -> list[Pending]:
    """Keys to write or delete now, what is higher on the site first."""
    ready = or_(Record.next_try_at.is_(None), Record.next_try_at <= now)
    columns = (
        Record.key,
        Record.kind,
        Record.owner_id,
        Record.written_owner_id,
        Record.level,
        Record.wanted,
        Record.source,
    )
    found = db.execute(select(*columns).where(_DIFFERS, ready).order_by(Record.level, Record.key))
    return [Pending(*row) for row in found]


def pending_count(db: Connection, *, refused: bool = True) -> int:
    """How many keys differ from what they should hold; `refused`: those that the store refuses included."""
    question = select(func.count()).select_from(Record).where(_DIFFERS)
    return int(db.execute(question if refused else question.where(Record.problem.is_(None))).scalar() or 0)


def snapshots(db: Connection, page_ids: Sequence[str]) -> dict[str, tuple[str, bytes]]:
    """Content hash and packed content of pages, by id."""
    found: dict[str, tuple[str, bytes]] = {}
    for some in chunks(page_ids):
        question = select(Page.id, Page.content_hash, Snapshot.content).join(
            Snapshot, Snapshot.page_id == Page.id
        )
        found.update({r[0]: (r[1] or "", r[2]) for r in db.execute(question.where(Page.id.in_(some)))})
    return found


def begin_write(db: Connection, keys: Sequence[str]) -> None:
    """A batch is about to be sent: from here to `mark_written` nobody knows what these keys hold.

    They count as there and outdated: written again whatever they should hold then, and deleted if nothing.
    """
    unknown = {
        "written": OUTDATED,
        "written_owner_id": func.coalesce(Record.written_owner_id, Record.owner_id),
        "written_source": func.coalesce(Record.written_source, Record.source),
    }
    for some in chunks(keys):
        db.execute(update(Record).where(Record.key.in_(some)).values(unknown))


_NOTHING: dict[str, Any] = {
    "written": None,
    "written_owner_id": None,
    "written_source": None,
    "digest": None,
}
"""Of a key that the store does not hold."""


def mark_written(db: Connection, done: Sequence[tuple[Pending, str | None]], now: float) -> None:
    """The store confirmed a batch. In: each key with the SHA-1 of its new value (None: deleted)."""
    written: list[dict[str, Any]] = []
    for row, digest in done:
        if row.wanted is None:
            mine = Record.key == row.key
            db.execute(delete(Record).where(mine, Record.wanted.is_(None)))
            db.execute(update(Record).where(mine).values(_NOTHING))
            continue
        holds = {"written": row.wanted, "written_owner_id": row.owner_id, "digest": digest}
        holds["written_source"] = row.source
        written.append({"its_key": row.key, **holds, "written_at": now, **_UNTRIED})
    if written:
        db.execute(update(Record).where(Record.key == bindparam("its_key")), written)


def refuse(db: Connection, keys: Sequence[str], problem: str, now: float) -> None:
    """The store refuses these values: their page fails, the rest goes on."""
    for key in keys:
        attempts = int(db.execute(select(Record.attempts).where(Record.key == key)).scalar() or 0) + 1
        retry_at = now + plan.retry_delay_seconds(attempts)
        values = {"attempts": attempts, "problem": problem, "next_try_at": retry_at}
        db.execute(update(Record).where(Record.key == key).values(**values))


def forget_written(db: Connection) -> None:
    """Nothing is known of what the store holds (another store, or flushed): everything is to be written again."""
    db.execute(delete(Record).where(Record.wanted.is_(None)))
    db.execute(update(Record).values(written=None, written_owner_id=None, digest=None, next_try_at=None))


def rewrite(db: Connection, *, kinds: Sequence[str] = (), owner_id: str | None = None) -> None:
    """Have keys written again although they hold what they should. They still count as there: deletions stay owed."""
    question = update(Record).where(Record.wanted.is_not(None), Record.written.is_not(None))
    if kinds:
        question = question.where(Record.kind.in_(kinds))
    if owner_id is not None:
        question = question.where(Record.owner_id == owner_id)
    db.execute(question.values(written=OUTDATED, next_try_at=None))


def deletions_owed(db: Connection) -> list[str]:
    """Keys that the store holds, or may hold, and should not."""
    question = select(Record.key).where(Record.wanted.is_(None), Record.written.is_not(None))
    return [key for (key,) in db.execute(question.order_by(Record.key))]


def unknown_keys(db: Connection, keys: Sequence[str]) -> list[str]:
    """Those of the keys that this ledger knows nothing of."""
    known = {
        key for some in chunks(keys) for (key,) in db.execute(select(Record.key).where(Record.key.in_(some)))
    }
    return [key for key in keys if key not in known]


def adopt_for_removal(db: Connection, leftovers: Mapping[str, str]) -> None:
    """Have keys removed that this ledger did not write. In: key -> the page of ours that it shows."""
    below: dict[str, str | None] = {}
    for some in chunks(leftovers.values()):
        below.update(
            (row[0], row[1]) for row in db.execute(select(Page.id, Page.source).where(Page.id.in_(some)))
        )
    rows = [
        {
            "key": key,
            "kind": "page",
            "owner_id": page,
            "wanted": None,
            "written": OUTDATED,
            "source": below.get(page),
        }
        for key, page in leftovers.items()
    ]
    upsert(db, Record, rows, update=[])


def written_keys(db: Connection) -> set[str]:
    """The lists (indexes and database bundles) that the store holds."""
    question = select(Record.key).where(Record.kind != "page", Record.written.is_not(None))
    return {key for (key,) in db.execute(question)}


def published_pages(db: Connection, pages: Iterable[str]) -> set[str]:
    """Those of the pages that a key in the store shows, where they are to be or where they were."""
    shown = func.coalesce(Record.written_owner_id, Record.owner_id)
    found: set[str] = set()
    for some in chunks(pages):
        mine = (Record.kind == "page", Record.written.is_not(None), shown.in_(some))
        found |= {page for (page,) in db.execute(select(shown).where(*mine))}
    return found


def written_any(db: Connection) -> bool:
    """Whether this ledger ever wrote a key that it still keeps."""
    return db.execute(select(Record.key).where(Record.written.is_not(None)).limit(1)).first() is not None


def key_counts(db: Connection) -> dict[str, int]:
    """How many keys are written, by kind."""
    found = db.execute(
        select(Record.kind, func.count()).where(Record.written.is_not(None)).group_by(Record.kind)
    )
    return {name: count for name, count in found}  # noqa: C416 - rows are only nearly tuples


def refused(db: Connection) -> list[dict[str, Any]]:
    """Keys that the store refuses, with the reason."""
    columns = (Record.key, Record.owner_id, Record.problem, Record.next_try_at)
    found = db.execute(select(*columns).where(Record.problem.is_not(None)).order_by(Record.key))
    return [{"key": r[0], "id": r[1], "reason": r[2], "nextTryAt": r[3]} for r in found]
