"""Compares the store with the ledger and the ledger with Notion, says what differs, and has it mended.

The store is compared by hashes that it computes itself, so no value travels; Notion by what the sweep looks at.
Comparing changes nothing. Mending only marks work in the ledger: who owns the store does it in the ordinary way.
"""

import re
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import structlog
from sqlalchemy import Connection

from daemon.clock import Clock
from daemon.kv.base import KV, KVError
from daemon.ledger import audit, links, meta, pages, records, sources, work
from daemon.ledger.absences import LOST
from daemon.ledger.ledger import Ledger
from daemon.ledger.links import UNPUBLISHED, MissingLink
from daemon.ledger.meta import Fact
from daemon.ledger.sources import DataSourceRow
from daemon.notion.api import NotionApi
from daemon.notion.errors import NotionError, NotionForbidden, NotionNotFound
from daemon.notion.limiter import Lane
from daemon.site.indexes import card, key_page
from daemon.sync.compose import Composition
from daemon.sync.feeds import STOPS_THE_RUN, Feeds, is_page, sighting
from daemon.sync.lease import Lease, Standing
from daemon.sync.leftovers import pages_shown
from daemon.sync.plan import Evidence, Known, Priority, Sighting, Trust, Via, judge
from daemon.sync.publish import Publisher
from daemon.sync.sweep import POINTERS
from daemon.sync.whereabouts import Whereabouts

log = structlog.get_logger(__name__)
COMPARE_INTERVAL_SECONDS = 86_400.0
KEYS_AT_ONCE = 300
"""Keys whose values the store hashes in one command: it does nothing else meanwhile."""
FAMILIES = ("page:*", "*:index", "db:*:cursor:_", "redirect:*")
_OURS = re.compile(r"(page|redirect):.+|[A-Za-z0-9-]+:index|db:[^:]+:cursor:_", re.DOTALL)


class Kind(StrEnum):
    """What is wrong with a key or a page, in one word."""

    STORE = "store"
    ALTERED = "altered"
    REMOVED = "removed"
    WAITING = "waiting"
    FORMER = "former"
    LEFTOVER = "leftover"
    UNREAD = "unread"
    STALE = "stale"
    MISSING = "missing"
    GONE = "gone"
    HELD = "held"
    UNKNOWN = "unknown"
    UNSETTLED = "unsettled"


@dataclass(frozen=True, slots=True)
class Difference:
    """One key or page that differs: what people know it by, and a sentence with the next step.

    `ref` is what mending needs: the digest that was written, or the id of the page or data source.
    """

    kind: Kind
    name: str
    told: str
    ref: str = ""

    @property
    def counts(self) -> bool:
        """Whether something is wrong: a key that is not ours, and a row that cannot be judged yet, are only named."""
        return self.kind not in (Kind.LEFTOVER, Kind.UNSETTLED)


@dataclass
class Comparison:
    """How many keys and pages were compared, and what differs."""

    keys: int = 0
    pages: int = 0
    differences: list[Difference] = field(default_factory=list)


def differing_keys(written: Mapping[str, str], held: Iterable[str | None]) -> list[Difference]:
    """Pure. In: key -> SHA-1 of what was written, and those of what the store holds, in the same order."""
    found: list[Difference] = []
    for (key, digest), there in zip(written.items(), held, strict=True):
        if there is None:
            found.append(
                Difference(Kind.REMOVED, key, "is not in the store. --repair writes it again.", digest)
            )
        elif there != digest:
            told = "holds something else than was written. --repair writes it again."
            found.append(Difference(Kind.ALTERED, key, told, digest))
    return found


def is_due(compared_at: float | None, first_sync_at: float | None, now: float) -> bool:
    """Whether the daily comparison is due. Times are unix seconds; what was just written need not be compared."""
    last = first_sync_at if compared_at is None else compared_at
    # A moment that lies ahead was noted by a clock that was wrong: it must not put this off.
    return last is not None and not 0 <= now - last < COMPARE_INTERVAL_SECONDS


class StoreCheck:
    """The store against the ledger. Raises KVError."""

    def __init__(self, kv: KV, ledger: Ledger, lease: Lease, publisher: Publisher, clock: Clock) -> None:
        self._kv = kv
        self._ledger = ledger
        self._lease = lease
        self._publisher = publisher
        self._clock = clock

    async def compare(self, site: Composition) -> Comparison:
        """Everything that a person wants to know; the values of keys that are not ours are looked at too."""
        if not await self._is_ours():
            told = (
                "is not the one that this ledger wrote (emptied, exchanged, or another daemon's): "
                "every key has to be written again. --repair does so, and so does a daemon when it notices."
            )
            return Comparison(differences=[Difference(Kind.STORE, self._kv.name, told)])
        found = await self.altered()
        found.differences += [_waiting(*row) for row in await self._ledger.call(audit.waiting_keys)]
        found.differences += await self._leftovers(site)
        return found

    async def _is_ours(self) -> bool:
        owner = await self._kv.read_owner()

        def question(db: Connection) -> bool:
            if owner is None:
                return not records.written_any(db)
            known = meta.get(db, Fact.LEDGER_ID), meta.get(db, Fact.CONTENT_ID)
            return known == (owner.ledger_id, owner.content_id)

        return await self._ledger.call(question)

    async def altered(self) -> Comparison:
        """Keys that do not hold what was written: changed by somebody else, or removed."""
        written = await self._ledger.call(audit.settled_keys)
        keys, found = list(written), Comparison(len(written))
        for start in range(0, len(keys), KEYS_AT_ONCE):
            some = {key: written[key] for key in keys[start : start + KEYS_AT_ONCE]}
            differing = differing_keys(some, await self._kv.digests(list(some)))
            # What was written meanwhile does not differ; the ledger knew of that before the store did.
            still = await self._ledger.call(audit.settled_keys, [d.name for d in differing])
            found.differences += [d for d in differing if still.get(d.name) == d.ref]
        return found

    async def _leftovers(self, site: Composition) -> list[Difference]:
        """Keys of our families that the ledger knows nothing of; pages of ours under former slugs are told apart."""
        keys = {key for family in FAMILIES async for key in self._kv.scan(family) if _OURS.fullmatch(key)}
        unknown = await self._ledger.call(records.unknown_keys, sorted(keys))
        is_complete = await self._ledger.call(meta.get, Fact.FIRST_SYNC_AT) is not None
        pages_there = [key for key in unknown if key.startswith("page:")]
        shown = {key: page async for key, page in pages_shown(self._kv, pages_there)}
        return [_leftover(key, shown.get(key) if is_complete else None, site) for key in unknown]

    async def mark(self, differences: Sequence[Difference]) -> None:
        """Have keys that differ written again, and pages under former slugs removed, by whoever owns the store."""
        await self._ledger.call(_mark_keys, differences)

    async def daily(self) -> None:
        """Compare and mend, once a day, if this daemon owns the store and the store is well. Never raises KVError."""
        now = self._clock.now().timestamp()
        if not self._may_compare() or not await self._ledger.call(_is_due, now):
            return
        try:
            found = await self.altered()
        except KVError as error:
            log.warning("the store was not compared", action="compare_failed", error=str(error))
            return

        def keep(db: Connection) -> None:
            _mark_keys(db, found.differences)
            meta.put(db, Fact.STORE_COMPARED_AT, now)

        await self._ledger.call(keep)
        kinds = [difference.kind for difference in found.differences]
        altered, removed = kinds.count(Kind.ALTERED), kinds.count(Kind.REMOVED)
        (log.warning if kinds else log.info)(
            "compared the store with the ledger; what differs is written again",
            action="store_compared",
            keys=found.keys,
            altered=altered,
            removed=removed,
        )

    def _may_compare(self) -> bool:
        is_well = self._publisher.error is None and not self._publisher.is_paused
        return is_well and self._lease.standing is Standing.OWNER


def _is_due(db: Connection, now: float) -> bool:
    return is_due(meta.get(db, Fact.STORE_COMPARED_AT), meta.get(db, Fact.FIRST_SYNC_AT), now)


def _mark_keys(db: Connection, differences: Sequence[Difference]) -> None:
    again = {d.name: d.ref for d in differences if d.kind in (Kind.ALTERED, Kind.REMOVED)}
    audit.outdate(db, again)
    records.adopt_for_removal(db, {d.name: d.ref for d in differences if d.kind is Kind.FORMER})


def _waiting(key: str, is_deletion: bool, problem: str | None) -> Difference:
    told = "is still to be deleted" if is_deletion else "is still to be written"
    reason = f"; the store refuses it: {problem}" if problem else ": the daemon does so, and --repair."
    return Difference(Kind.WAITING, key, told + reason)


def _leftover(key: str, page: str | None, site: Composition) -> Difference:
    if page is None or not site.is_ours(page) or key in site.wanted:
        return Difference(Kind.LEFTOVER, key, "was not written by this ledger. It is left alone.")
    if not site.is_published(page):
        return Difference(Kind.FORMER, key, "shows a page that is not published. --repair removes it.", page)
    now_at = key_page(site.layout.places[page].slug)
    return Difference(Kind.FORMER, key, f"shows a page that is at {now_at} now. --repair removes it.", page)


class NotionCheck:
    """The ledger against Notion: the rows of every data source, and every child page, without its blocks.

    Raises NotionError only when Notion refuses the token.
    """

    def __init__(
        self, api: NotionApi, ledger: Ledger, trust: Trust, feeds: Feeds, whereabouts: Whereabouts
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._trust = trust
        self._feeds = feeds
        self._whereabouts = whereabouts

    async def compare(self) -> Comparison:
        """Look at every row, every child page and every list of child pages; what is known to be owed comes first."""
        owed = await self._ledger.call(_known_differences)
        found = Comparison()
        for row in await self._ledger.call(sources.data_sources):
            await self._guarded(found, row.id, self._rows(row, found))
        for page in await self._ledger.call(audit.child_pages):
            await self._guarded(found, page, self._child_page(page, found))
        found.differences = _with_news(owed, found.differences)
        named = {difference.name for difference in found.differences}
        for container, page in await self._ledger.call(links.containers):
            if page not in named:
                await self._guarded(found, container, self._container(container, page, found))
        return await self._named(found)

    async def _guarded(self, found: Comparison, thing: str, looking: Awaitable[None]) -> None:
        """What Notion does not tell is neither right nor wrong, and is said."""
        try:
            await looking
        except STOPS_THE_RUN:
            raise
        except NotionError as error:
            found.differences.append(Difference(Kind.UNKNOWN, thing, f"could not be compared: {error}"))

    async def _rows(self, row: DataSourceRow, found: Comparison) -> None:
        told: list[Sighting] = []
        titles: dict[str, str] = {}
        listed: set[str] = set()
        async for answer in self._api.rows(row.id, Lane.READ):
            whole = await self._feeds.whole(answer, Lane.READ)
            seen = [thing for thing in whole.body["results"] if is_page(thing)]
            titles |= {page["id"]: str(card(page).get("title") or page["id"]) for page in seen}
            told += [replace(sighting(page, answer.date, Via.MEMBERSHIP), body=None) for page in seen]
            listed.update(thing["id"] for thing in answer.body["results"])
        found.pages += len(listed)
        differences, absent = await self._ledger.call(self._judge_rows, row.id, told, titles, listed)
        found.differences += differences
        for page in absent:
            link = MissingLink(row.id, page, "row", None)
            await self._guarded(found, page, self._absent_row(link, found))

    def _judge_rows(
        self,
        db: Connection,
        data_source: str,
        told: Sequence[Sighting],
        titles: Mapping[str, str],
        listed: set[str],
    ) -> tuple[list[Difference], list[str]]:
        members, live = audit.rows_of(db, data_source), pages.believable(db, data_source, told, self._trust)
        known = pages.what_is_known(db, [seen.page_id for seen in live])
        unsettled = {seen.page_id for seen in told} - {seen.page_id for seen in live} - members
        text = "is listed by Notion, and was found gone a moment ago. Listings lag: the next sweep decides."
        differences = [
            Difference(Kind.UNSETTLED, titles[page], text, data_source) for page in sorted(unsettled)
        ]
        for seen in live:
            if seen.page_id not in members:
                text = "is listed by Notion, and not known to the ledger. --repair reads and publishes it."
                differences.append(Difference(Kind.MISSING, titles[seen.page_id], text, data_source))
            elif stale := _stale(known.get(seen.page_id), seen, self._trust):
                differences.append(stale)
        return differences, sorted(members - listed)

    async def _absent_row(self, link: MissingLink, found: Comparison) -> None:
        """Not being listed is no proof: only a direct answer is."""
        try:
            body = (await self._api.page(link.child_id, Lane.READ)).body
        except NotionNotFound:
            evidence = Evidence.DISAPPEARED
        else:
            evidence = await self._whereabouts.weigh(link, body, Lane.READ)
        if evidence is not Evidence.KEPT:
            found.differences.append(_gone(link.child_id, evidence, link.parent_id))

    async def _child_page(self, page: str, found: Comparison) -> None:
        found.pages += 1
        try:
            answer = await self._api.page(page, Lane.READ)
        except (NotionNotFound, NotionForbidden):
            found.differences.append(_gone(page, Evidence.DISAPPEARED, page))
            return
        if not is_page(answer.body):
            return
        places = [evidence for _, evidence in await self._whereabouts.places(answer.body, Lane.READ)]
        if places and Evidence.KEPT not in places:
            found.differences.append(_gone(page, places[0], page))
            return
        known = await self._ledger.call(pages.what_is_known, [page])
        stale = _stale(known.get(page), sighting(answer.body, answer.date, Via.GET), self._trust)
        found.differences += [stale] if stale else []

    async def _container(self, container: str, page: str, found: Comparison) -> None:
        blocks = await self._api.all_children(container, Lane.READ)
        listed = {block["id"] for block in blocks if block.get("type") in POINTERS}
        if listed != await self._ledger.call(links.children_in, container):
            text = "has other child pages or databases than the ledger knows. --repair reads it again."
            found.differences.append(Difference(Kind.STALE, page, text, page))

    async def _named(self, found: Comparison) -> Comparison:
        """The same, with pages called what people call them."""
        names = await self._ledger.call(audit.names, {difference.name for difference in found.differences})
        found.differences = [replace(d, name=names.get(d.name, d.name)) for d in found.differences]
        return found

    async def mark(self, differences: Sequence[Difference]) -> None:
        """Have stale pages read again, and data sources whose rows differ listed into the ledger."""
        rows = {row.id: row for row in await self._ledger.call(sources.data_sources)}
        refs = {d.ref for d in differences if d.kind in (Kind.MISSING, Kind.GONE)}
        for data_source in sorted(refs & rows.keys()):
            await self._feeds.sweep_members(rows[data_source], Lane.READ)
        stale = [d.ref for d in differences if d.kind is Kind.STALE]
        await self._ledger.call(work.make_due, stale, Priority.FRESH, "verify")
        await self._ledger.call(work.make_due, sorted(refs - rows.keys()), Priority.SETTLE, LOST)


def _known_differences(db: Connection) -> list[Difference]:
    """What the ledger itself knows to differ: pages still to be read, removals that wait for a person."""
    found: list[Difference] = []
    if meta.get(db, Fact.FIRST_SYNC_AT) is None:
        text = "was never read whole: run the daemon, `sync`, or --repair."
        found.append(Difference(Kind.UNREAD, "the site", text))
    held = {child: evidence for _, child, _, evidence in links.held_links(db)}
    for child, evidence in held.items():
        what = (
            "stopped passing its filter" if evidence == UNPUBLISHED else f"is gone from Notion ({evidence})"
        )
        text = f"{what} with many others: look, then run `confirm-removals`."
        found.append(Difference(Kind.HELD, child, text, child))
    for page in audit.owed_pages(db):
        text = f"is still to be read ({page.reason}): the daemon does so, and --repair."
        if page.problem:
            text = f"could not be read: {page.problem}"
        if page.id not in held:
            found.append(Difference(Kind.UNREAD, page.id, text, page.id))
    return found


def _with_news(owed: Sequence[Difference], found: Sequence[Difference]) -> list[Difference]:
    """What is known to be owed, and what else was found: not twice what is said of a page."""
    known = {difference.name for difference in owed}
    return [*owed, *(difference for difference in found if difference.name not in known)]


def _stale(known: Known | None, seen: Sighting, trust: Trust) -> Difference | None:
    if known is None or judge(known, seen, trust).due is None:
        return None
    if seen.via is Via.GET and (known.seen_date or 0.0) > seen.date:
        return None  # a daemon that runs beside this has looked since
    text = f"was edited: Notion says {seen.stamp}, the ledger read {known.stamp}. --repair reads it again."
    if known.stamp == seen.stamp:
        text = "shows other computed values than when it was read. --repair reads it again."
    return Difference(Kind.STALE, seen.page_id, text, seen.page_id)


def _gone(page: str, evidence: Evidence, ref: str) -> Difference:
    text = f"is gone from Notion ({evidence}). --repair has it removed, unless it is one of too many at once."
    return Difference(Kind.GONE, page, text, ref)
