"""Synced blocks: which pages show copies of which originals, and where the originals live.

No stamp of a page moves when an original elsewhere does, so the pages that show it have to be told.
"""

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, delete, or_, select, update

from daemon.ledger import work
from daemon.ledger.ledger import chunks, upsert
from daemon.ledger.tables import Copy, Original, Page
from daemon.sync import plan
from daemon.sync.plan import Priority, Trust


def store_copies(
    db: Connection,
    page_id: str,
    copies: Mapping[str, bool],
    hosted: Mapping[str, str],
    newest_stamp: float,
    trust: Trust,
) -> None:
    """Keep which originals a page shows (and whether they could not be read) and hosts (and their content's hash).

    Pages that show an original become due when its content has changed, when it is no longer on this page, and when
    they were read so soon after this page's newest stamp (unix seconds) that they may show what was before it.
    """
    db.execute(delete(Copy).where(Copy.page_id == page_id))
    shown = [{"page_id": page_id, "original_id": o, "unshared": u} for o, u in copies.items()]
    upsert(db, Copy, shown, update=[])
    upsert(db, Original, [{"id": original} for original in copies], update=[])
    before = _hosted_hashes(db, page_id, hosted)
    rows = [{"id": o, "host_id": page_id, "content_hash": digest} for o, digest in hosted.items()]
    upsert(db, Original, rows, update=["host_id", "content_hash"])
    changed = [original for original, digest in hosted.items() if before.get(original) not in (None, digest)]
    dependants_due(db, changed, except_page=page_id)
    fresh = [original for original in hosted if before.get(original) is None]
    dependants_due(db, fresh, except_page=page_id, read_before=trust.settles_at(newest_stamp))
    _lose(db, [original for original in before if original not in hosted], except_page=page_id)


def _lose(db: Connection, originals: Iterable[str], *, except_page: str = "") -> None:
    """These are not where they were: what shows them is read again, and they are looked for."""
    for some in chunks(originals):
        dependants_due(db, some, except_page=except_page)
        nowhere = {"host_id": None, "content_hash": None, "stamp": None, "checked_at": None}
        db.execute(update(Original).where(Original.id.in_(some)).values(**nowhere))


def hosts_lost(db: Connection, hosts: Iterable[str]) -> None:
    """Pages that hold originals are out of reach, or off the site."""
    for some in chunks(hosts):
        _lose(db, [o for (o,) in db.execute(select(Original.id).where(Original.host_id.in_(some)))])


def _hosted_hashes(db: Connection, page_id: str, originals: Iterable[str]) -> dict[str, str | None]:
    """The content of these originals, and of all that were on this page, when it was read last."""
    columns = select(Original.id, Original.content_hash)
    hashes = {original: digest for original, digest in db.execute(columns.where(Original.host_id == page_id))}  # noqa: C416
    for some in chunks(originals):
        found = db.execute(columns.where(Original.id.in_(some)))
        hashes.update({original: digest for original, digest in found})  # noqa: C416
    return hashes


def dependants_due(
    db: Connection, originals: Iterable[str], *, except_page: str = "", read_before: float | None = None
) -> int:
    """The pages that show copies of these blocks are to be read again: no stamp of theirs will tell.

    `read_before`: only those whose last read is older (Notion's clock). Out: how many.
    """
    count = 0
    for some in chunks(originals):
        showing = select(Copy.page_id).where(Copy.original_id.in_(some), Copy.page_id != except_page)
        if read_before is not None:
            showing = showing.join(Page, Page.id == Copy.page_id).where(Page.read_date < read_before)
        pages = {page for (page,) in db.execute(showing)}
        count += work.make_due(db, sorted(pages), Priority.FRESH, "dependency")
    return count


def hosts_seen(db: Connection, stamps: Mapping[str, str], dates: Mapping[str, float], trust: Trust) -> int:
    """Pages outside the site that hold originals were seen: what shows these follows their stamps.

    Dates are on Notion's clock. Out: how many pages became due.
    """
    count = 0
    for some in chunks(stamps):
        hosted = select(Original.id, Original.host_id, Original.stamp).where(Original.host_id.in_(some))
        for original, host, stamp in db.execute(hosted.where(Original.host_id.not_in(select(Page.id)))).all():
            seen = stamps[str(host)]
            if stamp is None or plan.instant(seen) > plan.instant(stamp):
                count += _stamped(db, original, seen, dates[str(host)], trust)
    return count


def _stamped(db: Connection, original: str, stamp: str, date: float, trust: Trust) -> int:
    """The page of an original has a new stamp: what was read before that stamp had settled is read again, and once
    more when it has."""
    settle_at = trust.settles_at(plan.instant(stamp))
    values = {"stamp": stamp, "settle_at": settle_at if date < settle_at + trust.lag_seconds else None}
    db.execute(update(Original).where(Original.id == original).values(**values))
    return dependants_due(db, [original], read_before=settle_at)


def settle_originals(db: Connection, notion_now: float) -> None:
    """Hosts outside the site whose stamp was too young to be trusted: what was read before is read once more."""
    ripe = db.execute(select(Original.id, Original.settle_at).where(Original.settle_at <= notion_now)).all()
    for original, settle_at in ripe:
        dependants_due(db, [original], read_before=settle_at)
        db.execute(update(Original).where(Original.id == original).values(settle_at=None))


def unplaced_originals(db: Connection, limit: int) -> list[str]:
    """Originals that copies show and whose page is not known yet."""
    shown = select(Copy.original_id).where(Copy.unshared.is_(False))
    question = select(Original.id).where(
        Original.host_id.is_(None), Original.checked_at.is_(None), Original.id.in_(shown)
    )
    return [o for (o,) in db.execute(question.order_by(Original.id).limit(limit))]


def place_original(db: Connection, original: str, host: str | None, now: float) -> None:
    """An original lives on this page (None: it could not be found; the next sweep looks again)."""
    db.execute(update(Original).where(Original.id == original).values(host_id=host, checked_at=now))


def look_again(db: Connection) -> list[str]:
    """Once a sweep: look for the originals again that were not found. Out: pages that show them, or unreadable ones.

    Nothing tells of edits of these, so the pages are read again.
    """
    db.execute(update(Original).where(Original.host_id.is_(None)).values(checked_at=None))
    nowhere = select(Original.id).where(Original.host_id.is_(None))
    showing = select(Copy.page_id).where(or_(Copy.unshared, Copy.original_id.in_(nowhere)))
    return sorted({page for (page,) in db.execute(showing)})


def foreign_hosts(db: Connection) -> list[str]:
    """Pages outside the site that hold originals shown on it."""
    shown = select(Copy.original_id)
    question = select(Original.host_id).where(
        Original.id.in_(shown), Original.host_id.not_in(select(Page.id))
    )
    return sorted({host for (host,) in db.execute(question) if host})
