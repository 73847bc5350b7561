"""What may have changed: queries, search and listings, each turned into sightings and committed as work.

A feed only ever says "look at this page". Queries see rows of data sources, late; search sees everything below them,
late and not always; complete listings also tell what is gone. A watermark is the `Date` of a listing's first answer
and moves in the transaction that commits the last of its sightings; the next query overlaps it by the time that
Notion's index may lag and the width of its stamps.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import Connection

from daemon.clock import Clock
from daemon.ledger import links, meta, originals, pages, sources, work
from daemon.ledger.ledger import Ledger
from daemon.ledger.meta import Fact
from daemon.ledger.sources import DatabaseRow, DataSourceRow, SourceRow
from daemon.notion.api import Answer, NotionApi, incomplete
from daemon.notion.errors import (
    NotionBlocked,
    NotionError,
    NotionForbidden,
    NotionIncomplete,
    NotionNotFound,
    NotionUnauthorized,
    NotionValidation,
)
from daemon.notion.limiter import Lane
from daemon.notion.values import is_full_page, plain_text
from daemon.site.bundle import listing_hash
from daemon.site.indexes import card
from daemon.sync.plan import Priority, Sighting, Trust, Via, instant, parent_id
from daemon.sync.whereabouts import spot_of_block

log = structlog.get_logger(__name__)
REMEMBERED = 10_000
"""Pages outside the site of which it is remembered that they were looked at."""

STOPS_THE_RUN = (NotionUnauthorized, NotionBlocked)
"""Errors after which no further request makes sense."""


def is_page(thing: Mapping[str, Any]) -> bool:
    """Whether a listed object is a whole page (not a data source of a wiki, not a partial object)."""
    return thing.get("object") == "page" and is_full_page(thing) and "last_edited_time" in thing


def sighting(page: dict[str, Any], date: float, via: Via) -> Sighting:
    """What a listed page object tells."""
    page.pop("request_id", None)
    told = listing_hash(page) if via is Via.MEMBERSHIP else None
    return Sighting(page["id"], page["last_edited_time"], date, via, page, told)


def _rests(row: SourceRow | DatabaseRow | DataSourceRow, now: float) -> bool:
    """Whether asking for it failed so lately that it is not asked for again yet."""
    return row.next_try_at is not None and row.next_try_at > now


class Feeds:
    """Asks Notion what may have changed and commits the answers to the ledger."""

    def __init__(self, api: NotionApi, ledger: Ledger, trust: Trust, clock: Clock) -> None:
        self._api = api
        self._ledger = ledger
        self._trust = trust
        self._clock = clock
        self._strangers: OrderedDict[str, str] = OrderedDict()
        self._to_place: dict[str, None] = {}

    @property
    def overlap_seconds(self) -> float:
        """How far a query reaches back behind its watermark."""
        return self._trust.lag_seconds + self._trust.settles_at(0.0)

    # The poll ----------------------------------------------------------------------------------------------------

    async def poll(self, only: str | None = None) -> int:
        """Look for changes: one query per configured data source and one search. Out: pages that became due.

        `only` restricts it to one source's data sources, or to what is below (`children`).
        """
        found = 0
        for row in await self._polled(only):
            found += await self._guarded(row, self._query)
        if only is not None:
            await self._look_at_source_pages(only)
        if only in (None, "children"):
            found += await self._search()
        await self._ledger.call(originals.settle_originals, self._api.notion_now())
        return found

    async def _polled(self, only: str | None) -> list[DataSourceRow]:
        def question(db: Connection) -> list[DataSourceRow]:
            rows = [row for row in sources.data_sources(db) if row.configured and row.watermark is not None]
            if only is None:
                return rows
            named = {
                ds for source in sources.sources(db) if source.name == only for ds in source.data_source_ids
            }
            return [row for row in rows if row.id in named]

        return await self._ledger.call(question)

    async def _look_at_source_pages(self, name: str) -> None:
        """A source that is a page is otherwise seen by search and sweep."""
        for source in await self._ledger.call(sources.sources):
            if source.name == name and source.kind == "page" and not source.retired:
                await self.resolve_source(source)

    async def _guarded(self, row: DataSourceRow, ask: Any) -> int:
        """One listing that fails is recorded and stops nothing else."""
        now = self._clock.now().timestamp()
        if _rests(row, now):
            return 0
        try:
            return int(await ask(row))
        except STOPS_THE_RUN:
            raise
        except NotionError as error:
            log.warning(
                "listing failed",
                action="listing_failed",
                data_source=row.id,
                error=str(error),
                hint=error.hint,
            )
            await self._ledger.call(sources.data_source_failed, row.id, f"{error} {error.hint}", now)
            return 0

    async def _query(self, row: DataSourceRow) -> int:
        assert row.watermark is not None
        since = row.watermark - self.overlap_seconds
        found, first = 0, 0.0
        # In the order of creation: an edit made meanwhile then moves no row from one page of results to another.
        async for answer in self._api.query(row.id, Lane.FEED, edited_on_or_after=since, sort="created"):
            first = first or answer.date
            found += await self._commit_rows(row.id, await self.whole(answer, Lane.FEED), Via.QUERY)
            if incomplete(answer.body):
                return found + await self.list_members(row, Lane.READ)
        await self._ledger.call(sources.watermark_moved, row.id, first)
        return found

    async def whole(self, answer: Answer, lane: Lane) -> Answer:
        """A page of results in which the rows that Notion listed as a bare id are replaced by what a GET shows.

        A GET is younger than the listing, so dating it like the listing trusts it less than it deserves.
        """
        things = answer.body["results"]
        bare = [thing["id"] for thing in things if thing.get("object") == "page" and not is_page(thing)]
        if not bare:
            return answer
        asked = {page_id: await self._shown(page_id, lane) for page_id in bare}
        return Answer({**answer.body, "results": [asked.get(t["id"]) or t for t in things]}, answer.date)

    async def _shown(self, page_id: str, lane: Lane) -> dict[str, Any] | None:
        """The page as a GET shows it; None when it is gone, or when Notion shows only a part of it there too."""
        try:
            page = (await self._api.page(page_id, lane)).body
        except NotionNotFound:
            return None
        if is_page(page):
            return None if page.get("in_trash") else page
        log.warning(
            "Notion shows only a part of a row",
            action="row_partial",
            page=page_id,
            hint=NotionForbidden.hint,
        )
        return None

    async def _commit_rows(self, data_source_id: str, answer: Answer, via: Via, *, calm: bool = False) -> int:
        rows = [thing for thing in answer.body["results"] if is_page(thing)]
        told = [sighting(page, answer.date, via) for page in rows]
        cards = {page["id"]: card(page) for page in rows}

        def commit(db: Connection) -> int:
            live = pages.believable(db, data_source_id, told, self._trust)
            due = pages.note_sightings(db, live, cards, self._trust, calm=calm)
            links.add_rows(db, data_source_id, [sighting.page_id for sighting in live])
            return due

        return await self._ledger.call(commit) if told else 0

    async def sweep_members(self, row: DataSourceRow, lane: Lane) -> int:
        """List every row for the sweep: a failure is recorded, and nothing is concluded from it."""
        return await self._guarded(row, lambda row: self.list_members(row, lane))

    async def list_members(self, row: DataSourceRow, lane: Lane) -> int:
        """List every row of a data source: finds what the queries missed, and what is gone."""
        found, first, seen = 0, 0.0, set[str]()
        async for answer in self._api.rows(row.id, lane):
            first = first or answer.date
            whole = await self.whole(answer, lane)
            found += await self._commit_rows(row.id, whole, Via.MEMBERSHIP, calm=row.listed_date is None)
            seen.update(thing["id"] for thing in answer.body["results"])
        await self._ledger.call(sources.data_source_listed, row.id, seen, first)
        return found

    # Search ------------------------------------------------------------------------------------------------------

    async def _search(self) -> int:
        """Everything below the data sources, newest edit first, until older than the watermark."""
        watermark = await self._ledger.call(meta.get, Fact.SEARCH_WATERMARK)
        found, first = 0, 0.0
        try:
            async for answer in self._api.search_pages(Lane.FEED):
                first = first or answer.date
                since = (answer.date if watermark is None else float(watermark)) - self.overlap_seconds
                hits = [thing for thing in answer.body["results"] if is_page(thing)]
                found += await self._hits(hits, answer.date)
                if hits and instant(hits[-1]["last_edited_time"]) < since:
                    break
        except NotionIncomplete as error:
            log.info("search ended early", action="search_incomplete", error=str(error))
        await self._ledger.call(meta.put, Fact.SEARCH_WATERMARK, first or watermark)
        return found

    async def _hits(self, hits: Sequence[dict[str, Any]], date: float) -> int:
        by_id = {hit["id"]: hit for hit in hits}

        def known(db: Connection) -> tuple[int, dict[str, tuple[str, str]]]:
            told = [sighting(hit, date, Via.SEARCH) for hit in hits]
            due = pages.note_sightings(db, told, {}, self._trust)
            stamps = {page: hit["last_edited_time"] for page, hit in by_id.items()}
            due += originals.hosts_seen(db, stamps, dict.fromkeys(by_id, date), self._trust)
            parents = [named for hit in hits if (named := parent_id(hit))]
            return due, links.known_parents(db, [*by_id, *parents])

        due, known_ids = await self._ledger.call(known)
        for page_id, hit in by_id.items():
            if known_ids.get(page_id, ("", ""))[0] != "page" and self._is_news(hit):
                due += await self._stranger(hit, known_ids.get(parent_id(hit) or "", ("", "")), date)
                self._remember(hit)
        return due

    def _is_news(self, hit: Mapping[str, Any]) -> bool:
        """Whether an edit of a page outside the site is seen for the first time."""
        stamp: str = hit["last_edited_time"]
        return self._strangers.get(hit["id"]) != stamp

    def _remember(self, hit: Mapping[str, Any]) -> None:
        self._strangers[hit["id"]] = hit["last_edited_time"]
        if len(self._strangers) > REMEMBERED:
            self._strangers.popitem(last=False)

    async def _stranger(self, hit: dict[str, Any], home: tuple[str, str], date: float) -> int:
        """A page that is not on the site yet: a new row of a database, or a new child somewhere.

        One that lies in a block has to be placed by walking up, which a poll does not wait for.
        """
        kind, place = home
        if kind == "data_source":
            return await self._commit_rows(place, Answer({"results": [hit]}, date), Via.SEARCH)
        if kind in ("page", "container"):
            return await self._ledger.call(work.make_due, [place], Priority.FRESH, "child")
        if "block_id" in (hit.get("parent") or {}):
            self._to_place[str(hit["parent"]["block_id"])] = None
        return 0

    async def place_strangers(self) -> int:
        """Find the pages in whose blocks new pages lie. Out: how many pages of the site are to be read for that."""
        found = 0
        while self._to_place:
            block, _ = self._to_place.popitem()
            try:
                page = (await spot_of_block(self._api, block, Lane.UPKEEP)).page_id
            except STOPS_THE_RUN:
                raise
            except NotionError as error:
                log.info("block not placed", action="block_unplaced", block=block, error=str(error))
                continue
            if page is not None:
                found += await self._ledger.call(work.make_due, [page], Priority.FRESH, "child")
        return found

    # What has never been listed ----------------------------------------------------------------------------------

    async def discover(self) -> int:
        """Resolve and list what is not known yet: sources, databases found inside pages, their data sources.

        Out: how many were asked for. Each answer, and each that does not come, may change what is published.
        """
        now, asked = self._clock.now().timestamp(), 0
        for source in await self._ledger.call(sources.sources):
            if not source.retired and source.kind is None and not _rests(source, now):
                await self.resolve_source(source)
                asked += 1
        for database in await self._ledger.call(sources.databases):
            if database.data_source_ids is None and not database.skipped and not _rests(database, now):
                await self.resolve_database(database)
                asked += 1
        for row in await self._ledger.call(sources.data_sources):
            if row.listed_date is None and not _rests(row, now):
                await self._guarded(row, lambda row: self.list_members(row, Lane.READ))
                asked += 1
        return asked + await self.place_strangers()

    async def resolve_source(self, row: SourceRow) -> None:
        """Ask Notion what a source's id is: a database, a data source or a page."""
        now = self._clock.now().timestamp()
        if _rests(row, now):
            return
        try:
            kind, thing, date = await self._identify(row.ref)
        except STOPS_THE_RUN:
            raise
        except NotionError as error:
            log.warning(
                "source does not answer",
                action="source_failed",
                source=row.name,
                error=str(error),
                hint=error.hint,
            )
            await self._ledger.call(sources.source_failed, row, f"{error} {error.hint}", now)
            return
        await self._ledger.call(self._keep_source, row, kind, thing, date, now)

    def _keep_source(
        self, db: Connection, row: SourceRow, kind: str, thing: dict[str, Any], date: float, now: float
    ) -> None:
        if thing.get("in_trash"):
            problem = (
                "It is in Notion's trash: restore it, or take it out of the settings. Its keys are kept."
            )
            sources.source_failed(db, row, problem, now)
            return
        if kind == "page":
            pages.note_sightings(
                db, [sighting(thing, date, Via.GET)], {thing["id"]: card(thing)}, self._trust
            )
            links.add_source_page(db, sources.source_link(row), thing["id"])
            sources.source_resolved(db, row, kind, "", [], now)
            return
        ids = (
            [thing["id"]]
            if kind == "data_source"
            else [part["id"] for part in thing.get("data_sources") or []]
        )
        # One that is no longer named keeps its rows until they are asked for one by one.
        kept = [*ids, *(ds for ds in row.data_source_ids if ds not in ids)]
        sources.source_resolved(db, row, kind, plain_text(thing.get("title") or []), kept, now)

    async def _identify(self, ref: str) -> tuple[str, dict[str, Any], float]:
        """Try the three kinds of thing an id may name; the last refusal is what a person gets to read."""
        for kind, ask in (("database", self._api.database), ("data_source", self._api.data_source)):
            try:
                answer = await ask(ref, Lane.FEED)
                return kind, answer.body, answer.date
            except (NotionNotFound, NotionValidation):
                continue
        answer = await self._api.page(ref, Lane.FEED)
        return "page", answer.body, answer.date

    async def resolve_database(self, row: DatabaseRow) -> None:
        """Ask for a database found inside a page; a linked view that is not served is skipped by name."""
        now = self._clock.now().timestamp()
        if _rests(row, now):
            return
        try:
            body = (await self._api.database(row.id, Lane.READ)).body
        except STOPS_THE_RUN:
            raise
        except (NotionNotFound, NotionValidation, NotionForbidden) as error:
            if row.data_source_ids is None:
                reason = f"Notion does not serve this database (a linked view, or not shared): {error}"
                await self._ledger.call(sources.database_skipped, row.id, reason, now)
            else:
                await self._ledger.call(sources.database_failed, row, str(error), now)
        except NotionError as error:
            await self._ledger.call(sources.database_failed, row, f"{error} {error.hint}", now)
        else:
            ids = [part["id"] for part in body.get("data_sources") or []]
            kept = [*ids, *(ds for ds in row.data_source_ids or () if ds not in ids)]
            name = plain_text(body.get("title") or [])
            await self._ledger.call(sources.database_resolved, row.id, name, kept, now)
