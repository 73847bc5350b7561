"""Upkeep within a fifth of the request budget: everything that the polls cannot see, once a sweep.

Complete membership of every data source (deletions, missed rows, computed properties), a GET of every child page, the
blocks that hold child pages, pages outside the site whose synced blocks are shown on it, and, more often, the trash.
"""

import structlog
from sqlalchemy import Connection

from daemon.ledger import links, meta, originals, pages, sources, work
from daemon.ledger.absences import LOST
from daemon.ledger.ledger import Ledger
from daemon.ledger.meta import Fact
from daemon.notion.api import Answer, NotionApi
from daemon.notion.errors import NotionError, NotionForbidden, NotionNotFound
from daemon.notion.limiter import Lane
from daemon.sync.evidence import Inquiry
from daemon.sync.feeds import STOPS_THE_RUN, Feeds, is_page, sighting
from daemon.sync.plan import Evidence, Priority, Trust, Via, instant
from daemon.sync.rulebook import Rulebook
from daemon.sync.whereabouts import Whereabouts

log = structlog.get_logger(__name__)
AT_A_TIME = 100
POINTERS = ("child_page", "child_database")


class Sweep:
    """Looks at everything once. `requests`: what the last complete sweep cost; `lane`: whose budget it uses."""

    def __init__(
        self,
        api: NotionApi,
        ledger: Ledger,
        trust: Trust,
        feeds: Feeds,
        inquiry: Inquiry,
        whereabouts: Whereabouts,
        rulebook: Rulebook,
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._trust = trust
        self._feeds = feeds
        self._inquiry = inquiry
        self._whereabouts = whereabouts
        self._rulebook = rulebook
        self.requests = 0
        self.lane = Lane.UPKEEP

    async def run(self) -> None:
        """One whole sweep. Raises NotionError only when the run must stop; any other failure costs its own part."""
        before = self._api.requests
        await self._names()
        started = self._api.notion_now()
        await self._ledger.call(meta.put, Fact.SWEEP_BEGAN_AT, started)
        await self._members(started)
        await self._child_pages(started)
        await self._containers()
        await self._out_of_reach()
        await self._foreign_hosts()
        unshared = await self._ledger.call(originals.look_again)
        await self._ledger.call(work.make_due, unshared, Priority.SETTLE, "unshared")
        self.requests = self._api.requests - before
        await self._ledger.call(meta.put, Fact.SWEPT_AT, started)
        await self._ledger.call(meta.put, Fact.SWEEP_ENDED_AT, self._api.notion_now())
        log.info("sweep", action="sweep", requests=self.requests)

    async def _names(self) -> None:
        """What the configured sources and the databases inside pages are called, and hold, now."""
        for source in await self._ledger.call(sources.sources):
            if not source.retired:
                await self._feeds.resolve_source(source)
        for database in await self._ledger.call(sources.databases):
            await self._feeds.resolve_database(database)
        # Before any row is listed: an option that was renamed is another value in every row at once.
        await self._rulebook.look_again(self.lane)

    async def _members(self, started: float) -> None:
        for row in await self._ledger.call(sources.data_sources):
            if row.swept_at is None or row.swept_at < started:
                await self._feeds.sweep_members(row, self.lane)

    async def _child_pages(self, started: float) -> None:
        while some := await self._ledger.call(pages.child_pages_to_sweep, started, AT_A_TIME):
            for page_id in some:
                await self._child_page(page_id)
                await self._ledger.call(pages.swept, [page_id], started)

    async def _child_page(self, page_id: str) -> None:
        try:
            answer = await self._api.page(page_id, self.lane)
        except STOPS_THE_RUN:
            raise
        except (NotionNotFound, NotionForbidden):
            await self._ledger.call(work.make_due, [page_id], Priority.SETTLE, LOST)
        except NotionError as error:
            log.info("child page not looked at", action="sweep_failed", page=page_id, error=str(error))
        else:
            if is_page(answer.body):
                await self._take_note(answer)

    async def _take_note(self, answer: Answer) -> None:
        gone, _ = await self._whereabouts.is_gone(answer.body, answer.date, self.lane, read_again=True)
        if not gone:
            seen = [sighting(answer.body, answer.date, Via.GET)]
            await self._ledger.call(pages.note_sightings, seen, {}, self._trust)

    async def _containers(self) -> None:
        """Where child pages are held: one more or one less there is found even if no stamp tells."""
        for container, page_id in await self._ledger.call(links.containers):
            try:
                blocks = await self._api.all_children(container, self.lane)
            except STOPS_THE_RUN:
                raise
            except NotionError as error:
                log.info("container not listed", action="sweep_failed", block=container, error=str(error))
                continue
            listed = {block["id"] for block in blocks if block.get("type") in POINTERS}
            if listed != await self._ledger.call(links.children_in, container):
                await self._ledger.call(work.make_due, [page_id], Priority.SETTLE, "child")

    async def _out_of_reach(self) -> None:
        """What disappeared from a page: when access is given back no stamp tells, nor does a search."""
        for child, page_id in await self._ledger.call(links.out_of_reach):
            try:
                await self._api.block(child, self.lane)
            except STOPS_THE_RUN:
                raise
            except NotionError as error:
                log.debug("still out of reach", action="out_of_reach", id=child, error=str(error))
                continue
            await self._ledger.call(work.make_due, [page_id], Priority.SETTLE, "child")
            await self._ledger.call(links.within_reach, child, page_id)

    async def _foreign_hosts(self) -> None:
        for host in await self._ledger.call(originals.foreign_hosts):
            try:
                if not await self._inquiry.look_at_host(host, self.lane):
                    await self._ledger.call(originals.hosts_lost, [host])
            except STOPS_THE_RUN:
                raise
            except NotionError as error:
                log.info(
                    "page with originals not looked at", action="sweep_failed", page=host, error=str(error)
                )

    async def trash(self) -> None:
        """What was put into the trash lately: each hit that is on the site is asked for before it is believed.

        All of it is kept at once: many rows that went together must not look like a few.
        """
        watermark = await self._ledger.call(meta.get, Fact.TRASH_WATERMARK)
        first, found = 0.0, list[Answer]()
        async for answer in self._api.search_pages(self.lane, in_trash=True):
            first = first or answer.date
            hits = [thing for thing in answer.body["results"] if is_page(thing)]
            for page_id in await self._ledger.call(self._on_site, [hit["id"] for hit in hits]):
                found += await self._asked(page_id)
            since = (answer.date if watermark is None else float(watermark)) - self._feeds.overlap_seconds
            if hits and instant(hits[-1]["last_edited_time"]) < since:
                break
        trashed = [told for told in found if told.body.get("in_trash")]
        await self._ledger.call(self._keep_trashed, trashed)
        for told in found:
            if not told.body.get("in_trash"):
                await self._take_note(told)
        await self._ledger.call(meta.put, Fact.TRASH_WATERMARK, first or watermark)

    async def _asked(self, page_id: str) -> list[Answer]:
        """The page as a GET shows it; nothing when Notion did not tell."""
        try:
            answer = await self._api.page(page_id, self.lane)
        except STOPS_THE_RUN:
            raise
        except NotionError as error:
            log.info("trashed page not looked at", action="sweep_failed", page=page_id, error=str(error))
            return []
        return [answer] if is_page(answer.body) else []

    @staticmethod
    def _keep_trashed(db: Connection, answers: list[Answer]) -> None:
        for answer in answers:
            places = [
                link
                for link in links.parents_of(db, answer.body["id"])
                if not link.parent_id.startswith("source:")
            ]
            links.answer_missing(db, [(link, Evidence.TRASHED) for link in places], answer.date)

    @staticmethod
    def _on_site(db: Connection, ids: list[str]) -> list[str]:
        """Those of the pages that are on the site and not known to be gone."""
        return [page for page in ids if any(link.missing is None for link in links.parents_of(db, page))]
