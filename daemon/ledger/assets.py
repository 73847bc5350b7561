"""Files that Notion hosts: which pages show them, which keys name them, what is copied and what is still to be.

A file belongs to one place (see `daemon.notion.files`), a copy to its bytes: two places with the same file share one.
Times are unix seconds; `expires_at` and `first_seen_at` are on Notion's clock.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, delete, func, or_, select, update
from sqlalchemy.sql import ColumnElement

from daemon.ledger.ledger import chunks, upsert
from daemon.ledger.tables import Asset, AssetHold, AssetUse, Page, Record, Snapshot, StoredCopy
from daemon.notion.files import HostedFile
from daemon.site.files import FileFacts
from daemon.site.media import is_passive
from daemon.sync.plan import retry_delay_seconds


@dataclass(frozen=True, slots=True)
class Copied:
    """Bytes in a store."""

    digest: str
    store: str
    location: str
    url: str | None
    media_type: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class AssetRow:
    """A file with its copy, if there is one. `named`: the value of some key names it; `used`: some page shows it."""

    id: str
    holder: str
    path: str
    kind: str
    url: str
    expires_at: float | None
    copy: Copied | None
    named: bool
    used: bool

    @property
    def is_public(self) -> bool:
        """Whether readers may have its copy: not while only pages show it that are not published.

        What nothing shows or names any more was named once: what only drafts showed is forgotten with them.
        """
        return self.named or not self.used


@dataclass(frozen=True, slots=True)
class Todo:
    """A file to be fetched. `pages`: where it is shown, one of them."""

    id: str
    holder: str
    path: str
    kind: str
    url: str
    expires_at: float | None
    attempts: int
    page_id: str


# What pages show ------------------------------------------------------------------------------------------------


def store_uses(db: Connection, page_id: str, files: Sequence[HostedFile], seen_at: float) -> None:
    """Keep which files a page shows now, and their newest addresses."""
    rows: list[dict[str, Any]] = [
        {
            "id": file.id,
            "holder": file.holder,
            "path": file.path,
            "kind": file.kind,
            "url": file.url,
            "expires_at": file.expires_at,
            "first_seen_at": seen_at,
            "unused_since": None,
        }
        for file in files
    ]
    upsert(db, Asset, rows, update=["url", "expires_at", "unused_since"])
    shown = {row["id"] for row in rows}
    before = {a for (a,) in db.execute(select(AssetUse.asset_id).where(AssetUse.page_id == page_id))}
    upsert(db, AssetUse, [{"page_id": page_id, "asset_id": each} for each in shown - before], update=[])
    _share_copies(db, [row["path"] for row in rows if row["id"] not in before])
    for some in chunks(before - shown):
        db.execute(delete(AssetUse).where(AssetUse.page_id == page_id, AssetUse.asset_id.in_(some)))
    _forget_unpublished(db, before - shown)


def _share_copies(db: Connection, paths: Iterable[str]) -> None:
    """A file that is copied for one place is copied for the others."""
    for some in chunks(paths):
        columns: tuple[Any, ...] = (Asset.path, Asset.digest, Asset.store, Asset.width, Asset.height)
        for row in db.execute(select(*columns).where(Asset.path.in_(some), Asset.measured)).all():
            known = {"digest": row[1], "store": row[2], "width": row[3], "height": row[4], "measured": True}
            mine = (Asset.path == row[0], Asset.measured.is_(False))
            db.execute(update(Asset).where(*mine).values(known))


def old_reads(db: Connection) -> Iterator[tuple[str, float, bytes]]:
    """Every read that is kept: page, date, packed content; a few at a time."""
    pages = [page for (page,) in db.execute(select(Snapshot.page_id))]
    kept = select(Page.id, Page.read_date, Snapshot.content).join(Snapshot, Snapshot.page_id == Page.id)
    for some in chunks(pages):
        for page_id, read_date, content in db.execute(kept.where(Page.id.in_(some))).all():
            yield page_id, read_date or 0.0, content


def forget_uses(db: Connection, page_ids: Sequence[str]) -> None:
    """These pages are gone."""
    mine = AssetUse.page_id.in_(page_ids)
    shown = [asset for (asset,) in db.execute(select(AssetUse.asset_id).where(mine).distinct())]
    db.execute(delete(AssetUse).where(mine))
    _forget_unpublished(db, shown)


def _forget_unpublished(db: Connection, asset_ids: Iterable[str]) -> None:
    """Of files that a page shows no more, forget those that nothing shows and no key names: drafts had them.

    The others are kept for their days of grace, and given out to whoever still has their addresses.
    """
    shown = select(AssetUse.page_id).where(AssetUse.asset_id == Asset.id).exists()
    for some in chunks(asset_ids):
        db.execute(delete(Asset).where(Asset.id.in_(some), ~shown, ~_NAMED))


def refresh(db: Connection, files: Iterable[HostedFile]) -> None:
    """Keep newer addresses of files that are known."""
    for file in files:
        newer = {"url": file.url, "expires_at": file.expires_at}
        db.execute(update(Asset).where(Asset.id == file.id).values(newer))


_NAMED = select(AssetHold.key).where(AssetHold.asset_id == Asset.id).exists()
"""The value of some key names the file, or may."""


Previous = dict[tuple[str, str], FileFacts]
"""By holder and kind, the last file that was copied from there, where the present one is not copied."""
_ONE_AT_A_TIME = ("image", "video", "file", "pdf", "audio", "cover", "icon")


def load(db: Connection) -> tuple[dict[str, tuple[FileFacts, ...]], Previous]:
    """The files of every page, and what was copied from the same places before."""
    shown = select(*_FACTS, AssetUse.page_id).join(Asset, Asset.id == AssetUse.asset_id)
    shown = shown.outerjoin(StoredCopy, _ITS_COPY).order_by(AssetUse.page_id, Asset.id)
    found: dict[str, list[FileFacts]] = defaultdict(list)
    for row in db.execute(shown):
        found[row[-1]].append(_facts(row[:-1]))
    lacking = {file.holder for files in found.values() for file in files if not file.copied}
    previous: Previous = {}
    for some in chunks(lacking):
        copied = select(*_FACTS).join(StoredCopy, _ITS_COPY).where(Asset.holder.in_(some))
        past = copied.where(Asset.kind.in_(_ONE_AT_A_TIME), Asset.id.not_in(select(AssetUse.asset_id)))
        for row in db.execute(past.order_by(Asset.first_seen_at, StoredCopy.stored_at)):
            facts = _facts(row)
            previous[facts.holder, facts.kind] = facts
    return {page: tuple(files) for page, files in found.items()}, previous


_ITS_COPY = and_(StoredCopy.digest == Asset.digest, StoredCopy.store == Asset.store)
_FACTS: tuple[Any, ...] = (
    *(Asset.id, Asset.holder, Asset.kind, Asset.path, Asset.url, Asset.expires_at, Asset.first_seen_at),
    *(StoredCopy.digest, StoredCopy.url, StoredCopy.media_type, Asset.width, Asset.height),
    *(Asset.measured, Asset.attempts, Asset.refused),
)


def _facts(row: Sequence[Any]) -> FileFacts:
    asset_id, holder, kind, path, own_url, expires_at, first_seen_at, *rest = row
    digest, url, media_type, width, height, measured, attempts, refused = rest
    return FileFacts(
        id=asset_id,
        holder=holder,
        kind=kind,
        path=path,
        url=own_url,
        expires_at=expires_at,
        first_seen_at=first_seen_at,
        copied=digest is not None,
        copy_url=url,
        passive=is_passive(media_type or ""),
        width=width,
        height=height,
        settled=digest is not None or measured or attempts > 0,
        failing=attempts > 0 and not refused,
    )


# What keys name -------------------------------------------------------------------------------------------------


def hold(db: Connection, holds: Mapping[str, Collection[str]]) -> None:
    """A batch is about to be sent that may have keys name these files. In: key -> ids of files."""
    rows = [{"key": key, "asset_id": each} for key, ids in holds.items() for each in ids]
    upsert(db, AssetHold, rows, update=[])


def hold_only(db: Connection, holds: Mapping[str, Collection[str]]) -> None:
    """The batch was applied: these keys name these files and no others."""
    for some in chunks(holds):
        found = select(AssetHold.key, AssetHold.asset_id).where(AssetHold.key.in_(some))
        for key, asset_id in db.execute(found).all():
            if asset_id not in holds[key]:
                mine = (AssetHold.key == key, AssetHold.asset_id == asset_id)
                db.execute(delete(AssetHold).where(*mine))


# Copying --------------------------------------------------------------------------------------------------------


def to_fetch(
    db: Connection,
    *,
    store: str | None,
    now: float,
    limit: int,
    busy_paths: Collection[str] = (),
) -> list[Todo]:
    """Files to be copied into `store` (None: pictures to be measured), new ones first; one of each path."""
    question = (
        select(
            *(Asset.id, Asset.holder, Asset.path, Asset.kind, Asset.url, Asset.expires_at, Asset.attempts),
            func.min(AssetUse.page_id),
        )
        .join(AssetUse, AssetUse.asset_id == Asset.id)
        .where(_is_wanted(store), or_(Asset.next_try_at.is_(None), Asset.next_try_at <= now))
        .group_by(Asset.id)
        .order_by(Asset.attempts, Asset.first_seen_at, Asset.id)
    )
    if busy_paths:
        question = question.where(Asset.path.not_in(list(busy_paths)))
    chosen: dict[str, Todo] = {}
    for row in db.execute(question.limit(4 * limit)):
        todo = Todo(*row)
        chosen.setdefault(todo.path, todo)
    return list(chosen.values())[:limit]


def _is_wanted(store: str | None) -> ColumnElement[bool]:
    if store is None:
        return and_(Asset.kind == "image", Asset.measured.is_(False), Asset.refused.is_(False))
    return and_(Asset.refused.is_(False), or_(Asset.digest.is_(None), Asset.store != store))


def known_copy(db: Connection, digest: str, store: str) -> Copied | None:
    """The copy of these bytes, if the store has them."""
    found = db.execute(select(*_COPY).where(StoredCopy.digest == digest, StoredCopy.store == store)).first()
    return Copied(*found) if found else None


_COPY = (
    *(StoredCopy.digest, StoredCopy.store, StoredCopy.location, StoredCopy.url),
    *(StoredCopy.media_type, StoredCopy.size_bytes),
)
_WELL: dict[str, Any] = {"attempts": 0, "next_try_at": None, "problem": None, "refused": False}


def fetched(
    db: Connection, path: str, copy: Copied | None, measures: tuple[int, int] | None, now: float
) -> None:
    """A file is copied (None: only measured): wherever it is shown, in one commit."""
    width, height = measures or (None, None)
    known: dict[str, Any] = {**_WELL, "width": width, "height": height, "measured": True}
    if copy is not None:
        row = {name: getattr(copy, name) for name in Copied.__slots__}
        upsert(db, StoredCopy, [{**row, "stored_at": now}], update=["location", "url", "media_type"])
        known |= {"digest": copy.digest, "store": copy.store}
    db.execute(update(Asset).where(Asset.path == path).values(known))


def failed(db: Connection, path: str, problem: str, now: float, *, refused: bool) -> None:
    """It could not be fetched. `refused`: and will not be, with these settings; else it is tried again later."""
    mine = Asset.path == path
    attempts = int(db.execute(select(func.max(Asset.attempts)).where(mine)).scalar() or 0) + 1
    next_try_at = None if refused else now + retry_delay_seconds(attempts)
    told = {"attempts": attempts, "problem": problem, "refused": refused, "next_try_at": next_try_at}
    db.execute(update(Asset).where(mine).values(told))


def lost(db: Connection, digest: str, store: str) -> None:
    """The store has these bytes no more: they are to be copied again."""
    its = (Asset.digest == digest, Asset.store == store)
    db.execute(update(Asset).where(*its).values(digest=None, store=None, next_try_at=None))
    db.execute(delete(StoredCopy).where(StoredCopy.digest == digest, StoredCopy.store == store))


def try_refused_again(db: Connection) -> None:
    """The settings may allow today what they did not yesterday."""
    db.execute(update(Asset).where(Asset.refused.is_(True)).values(refused=False, next_try_at=None))


def find(db: Connection, asset_id: str) -> AssetRow | None:
    """A file by its id."""
    used = select(AssetUse.page_id).where(AssetUse.asset_id == Asset.id).exists()
    columns: tuple[Any, ...] = (Asset.id, Asset.holder, Asset.path, Asset.kind, Asset.url, Asset.expires_at)
    question = (
        select(*columns, _NAMED, used, *_COPY).outerjoin(StoredCopy, _ITS_COPY).where(Asset.id == asset_id)
    )
    row = db.execute(question).first()
    if row is None:
        return None
    own_id, holder, path, kind, url, expires_at, is_named, is_used, *its_copy = row
    copy = Copied(*its_copy) if its_copy[0] else None
    return AssetRow(own_id, holder, path, kind, url, expires_at, copy, bool(is_named), bool(is_used))


# Removing -------------------------------------------------------------------------------------------------------


def forget_unused(db: Connection, now: float, grace_seconds: float) -> int:
    """Note which files nothing shows or names any more; forget those that nothing has for so long. Out: how many."""
    db.execute(delete(AssetHold).where(AssetHold.key.not_in(select(Record.key))))
    db.execute(delete(AssetUse).where(AssetUse.page_id.not_in(select(Page.id))))
    used = or_(
        Asset.id.in_(select(AssetUse.asset_id)),
        Asset.id.in_(select(AssetHold.asset_id)),
    )
    db.execute(update(Asset).where(used, Asset.unused_since.is_not(None)).values(unused_since=None))
    db.execute(update(Asset).where(~used, Asset.unused_since.is_(None)).values(unused_since=now))
    old = Asset.unused_since <= now - grace_seconds
    return int(db.execute(delete(Asset).where(~used, old)).rowcount)


def unneeded_copies(db: Connection, store: str, limit: int) -> list[Copied]:
    """Bytes in this store that no file has any more."""
    needed = select(Asset.id).where(Asset.digest == StoredCopy.digest).exists()
    question = select(*_COPY).where(StoredCopy.store == store, ~needed)
    return [Copied(*row) for row in db.execute(question.limit(limit))]


def is_unneeded(db: Connection, digest: str) -> bool:
    """Whether no file has these bytes."""
    return db.execute(select(Asset.id).where(Asset.digest == digest).limit(1)).first() is None


def forget_copy(db: Connection, digest: str, store: str) -> None:
    """The store has removed these bytes."""
    db.execute(delete(StoredCopy).where(StoredCopy.digest == digest, StoredCopy.store == store))


# For people -----------------------------------------------------------------------------------------------------


def counts(db: Connection, store: str | None) -> dict[str, int]:
    """How many files that pages show are copied, wait, fail, are refused; and the bytes of the copies."""
    shown = Asset.id.in_(select(AssetUse.asset_id))
    done = and_(Asset.digest.is_not(None), Asset.store == store) if store else Asset.measured.is_(True)
    failing = and_(Asset.attempts > 0, Asset.refused.is_(False))
    states = {
        "copied": done,
        "waiting": and_(_is_wanted(store), Asset.attempts == 0),
        "failed": failing,
        "refused": Asset.refused.is_(True),
    }
    size = select(func.coalesce(func.sum(StoredCopy.size_bytes), 0)).where(StoredCopy.store == (store or ""))
    found = {
        name: int(db.execute(select(func.count()).select_from(Asset).where(shown, state)).scalar() or 0)
        for name, state in states.items()
    }
    return {**found, "bytes": int(db.execute(size).scalar() or 0)}


def troubled(db: Connection, limit: int) -> list[dict[str, Any]]:
    """Files that could not be fetched: where, why, and when they are tried again."""
    columns = (Asset.id, func.min(AssetUse.page_id), Asset.path, Asset.problem, Asset.next_try_at)
    question = (
        select(*columns)
        .join(AssetUse, AssetUse.asset_id == Asset.id)
        .where(Asset.problem.is_not(None))
        .group_by(Asset.id)
        .order_by(Asset.path)
    )
    return [
        {"id": r[0], "pageId": r[1], "name": r[2].rsplit("/", 1)[-1], "reason": r[3], "nextTryAt": r[4]}
        for r in db.execute(question.limit(limit))
    ]
