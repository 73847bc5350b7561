"""Asks for what left a listing, and finds where the originals of synced copies live.

Absence is only a candidate: a page may be in the trash, may have moved, may be out of the integration's reach, or
the listing may have been wrong. One GET each tells them apart; only then, and never for a mass of them, anything is
removed.
"""

import structlog

from daemon.clock import Clock
from daemon.ledger import absences, links, originals, sources
from daemon.ledger.ledger import Ledger
from daemon.ledger.links import MissingLink
from daemon.notion.api import NotionApi
from daemon.notion.errors import NotionError, NotionNotFound
from daemon.notion.limiter import Lane
from daemon.sync.feeds import STOPS_THE_RUN, Feeds
from daemon.sync.plan import Evidence, Trust
from daemon.sync.whereabouts import Whereabouts, spot_of_block

log = structlog.get_logger(__name__)
AT_A_TIME = 50


class Inquiry:
    """Explains absences and places originals; everything it learns is in the ledger when it returns."""

    def __init__(
        self,
        api: NotionApi,
        ledger: Ledger,
        trust: Trust,
        clock: Clock,
        feeds: Feeds,
        whereabouts: Whereabouts,
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._trust = trust
        self._clock = clock
        self._feeds = feeds
        self._whereabouts = whereabouts

    async def explain_absences(self) -> int:
        """Ask for every member that its parent no longer lists, then remove or hold. Out: how many were removed."""
        if not await self._ledger.call(absences.any_missing):
            return 0
        asked: set[tuple[str, str]] = set()
        await self._ask_all(asked)
        unsure = await self._look_for_the_rest()
        await self._ask_all(asked)
        now = self._api.notion_now()
        removed, held = await self._ledger.call(absences.decide_missing, now, unsure=unsure)
        if held:
            log.error(
                "many pages disappeared at once: their removal is held",
                action="removals_held",
                held=held,
                hint="Check that the integration still has access. If they are really gone: confirm-removals.",
            )
        return removed

    async def _ask_all(self, asked: set[tuple[str, str]]) -> None:
        while fresh := await self._not_asked(asked):
            for link in fresh:
                asked.add((link.parent_id, link.child_id))
                await self._ask(link)

    async def _not_asked(self, asked: set[tuple[str, str]]) -> list[MissingLink]:
        """Absences without an explanation, those apart that were asked for in vain just now."""
        found = await self._ledger.call(links.to_ask, AT_A_TIME + len(asked))
        return [link for link in found if (link.parent_id, link.child_id) not in asked]

    async def _ask(self, link: MissingLink) -> None:
        try:
            evidence, date = await self._weigh(link)
        except STOPS_THE_RUN:
            raise
        except NotionError as error:
            log.info(
                "absence not explained yet", action="absence_unexplained", id=link.child_id, error=str(error)
            )
            return
        log.info(
            "left a listing",
            action="absence",
            id=link.child_id,
            parent=link.parent_id,
            evidence=evidence.value,
        )
        await self._ledger.call(links.answer_missing, [(link, evidence)], date)

    async def _weigh(self, link: MissingLink) -> tuple[Evidence, float]:
        kind = "database" if link.kind == "database" else "page"
        ask = self._api.database if kind == "database" else self._api.page
        try:
            answer = await ask(link.child_id, Lane.READ)
        except NotionNotFound:
            return Evidence.DISAPPEARED, self._api.notion_now()
        evidence = await self._whereabouts.weigh(link, answer.body, Lane.READ)
        if evidence is Evidence.MOVED:
            await self._whereabouts.rehome(answer.body, kind, answer.date, Lane.READ, read_again=True)
        return evidence, answer.date

    async def _look_for_the_rest(self) -> set[str]:
        """Where rows were found gone one by one, see whether any is left: all of them at once is not believed.

        Out: the data sources that did not tell.
        """
        unsure = set()
        for data_source in await self._ledger.call(absences.found_one_by_one):
            try:
                if not await self._shows_others(data_source):
                    await self._list(data_source)
            except STOPS_THE_RUN:
                raise
            except NotionError as error:
                log.info("rows not looked for", action="rest_unknown", id=data_source, error=str(error))
                unsure.add(data_source)
        return unsure

    async def _shows_others(self, data_source: str) -> bool:
        missing = await self._ledger.call(links.missing_rows, data_source)
        async for answer in self._api.rows(data_source, Lane.READ):
            if any(row["id"] not in missing for row in answer.body["results"]):
                return True
        return False

    async def _list(self, data_source: str) -> None:
        for row in await self._ledger.call(sources.data_sources):
            if row.id == data_source:
                await self._feeds.list_members(row, Lane.READ)

    async def place_originals(self) -> None:
        """Find the page of every original that copies show: its edits are theirs too."""
        for original in await self._ledger.call(originals.unplaced_originals, AT_A_TIME):
            try:
                await self._place(original)
            except STOPS_THE_RUN:
                raise
            except NotionError as error:
                log.info("original not placed", action="original_unplaced", id=original, error=str(error))
                await self._put(original, None)

    async def _place(self, original: str) -> None:
        spot = await spot_of_block(self._api, original, Lane.READ)
        host = None if spot.in_trash else spot.page_id  # no page's stamp tells of what is in the trash
        await self._put(original, host)
        is_foreign = host in await self._ledger.call(originals.foreign_hosts)
        if host is not None and is_foreign and not await self.look_at_host(host, Lane.READ):
            await self._put(original, None)

    async def _put(self, original: str, host: str | None) -> None:
        await self._ledger.call(originals.place_original, original, host, self._clock.now().timestamp())

    async def look_at_host(self, host: str, lane: Lane) -> bool:
        """Ask for a page outside the site that holds originals: what shows them follows its stamp. False: a 404."""
        try:
            answer = await self._api.page(host, lane)
        except NotionNotFound:
            return False
        stamp = answer.body.get("last_edited_time")
        if stamp:
            await self._ledger.call(originals.hosts_seen, {host: stamp}, {host: answer.date}, self._trust)
        return True
