"""Where pages, databases and blocks live now: weighs what a GET says against every place that lists them.

A page that says it lives elsewhere on the site is put there in the same breath, so that it never leaves the site while
its new parent waits to be read.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from daemon.ledger import links, pages, work
from daemon.ledger.ledger import Ledger
from daemon.ledger.links import MissingLink
from daemon.notion.api import NotionApi
from daemon.notion.errors import NotionForbidden, NotionNotFound, NotionValidation
from daemon.notion.limiter import Lane
from daemon.site.indexes import card
from daemon.sync.plan import Evidence, Priority, Sighting, Trust, Via, parent_id, weigh

MOST_HOPS = 50
"""How many blocks up the page that holds a block is looked for; deeper than any editor goes."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a block lies: on which page (None: that cannot be told), and whether in a block that is in the trash."""

    page_id: str | None
    in_trash: bool = False


async def spot_of_block(api: NotionApi, block_id: str, lane: Lane) -> Spot:
    """Walk up from a block to the page it lies on. Raises NotionError when Notion does not answer properly."""
    current, in_trash = block_id, False
    for _ in range(MOST_HOPS):
        try:
            block = (await api.block(current, lane)).body
        except (NotionNotFound, NotionForbidden, NotionValidation):
            return Spot(None, in_trash)
        if block.get("type") == "child_page":
            return Spot(str(block["id"]), in_trash)
        in_trash = in_trash or bool(block.get("in_trash") or block.get("archived"))
        parent = block.get("parent") or {}
        if parent.get("page_id"):
            return Spot(str(parent["page_id"]), in_trash)
        if not parent.get("block_id"):
            return Spot(None, in_trash)
        current = str(parent["block_id"])
    return Spot(None, in_trash)


class Whereabouts:
    """Answers where a page is, and keeps the answer in the ledger."""

    def __init__(self, api: NotionApi, ledger: Ledger, trust: Trust) -> None:
        self._api = api
        self._ledger = ledger
        self._trust = trust

    async def is_gone(
        self, page: dict[str, Any], date: float, lane: Lane, *, read_again: bool = False
    ) -> tuple[bool, bool]:
        """Weigh a GET of a page against every place that lists it, and keep what it says.

        `read_again`: it is not being read, so if it left a place and has another one it has to be: it is due in the
        commit that says so, since nothing else would ever make it due.
        Out: whether it has no place on the site any more, and whether anything was found that has to be decided.
        """
        answers = await self.places(page, lane)
        kept = any(evidence is Evidence.KEPT for _, evidence in answers)
        if not kept and any(evidence is Evidence.MOVED for _, evidence in answers):
            kept = await self.rehome(page, "page", date, lane, read_again=read_again)
        news = [(link, evidence) for link, evidence in answers if (link.missing or Evidence.KEPT) != evidence]
        if news:
            again = [page["id"]] if read_again and kept else []
            await self._ledger.call(self._keep_answers, news, date, again)
        if answers and not kept:
            await self._ledger.call(work.put_off, page["id"])
        return bool(answers) and not kept, bool(news)

    @staticmethod
    def _keep_answers(
        db: Connection, answers: Iterable[tuple[MissingLink, Evidence]], date: float, read_again: list[str]
    ) -> None:
        links.answer_missing(db, answers, date)
        work.make_due(db, read_again, Priority.FRESH, "moved")

    async def places(self, page: dict[str, Any], lane: Lane) -> list[tuple[MissingLink, Evidence]]:
        """What a GET of a page says of every place that lists it. Changes nothing."""
        listed_in = await self._ledger.call(links.parents_of, page["id"])
        return [(link, await self._weigh_place(link, page, lane)) for link in listed_in]

    async def _weigh_place(self, link: MissingLink, page: dict[str, Any], lane: Lane) -> Evidence:
        if link.parent_id.startswith("source:"):
            return Evidence.KEPT  # a source in the trash is reported; its keys stay until the settings change
        at_home = link.missing is None and weigh(page, homes(link)) is Evidence.KEPT
        return Evidence.KEPT if at_home else await self.weigh(link, page, lane)

    async def weigh(self, link: MissingLink, thing: dict[str, Any], lane: Lane) -> Evidence:
        """What a direct answer about a page or database says of its absence from a listing.

        Trash does not reach down: what lies in a trashed block says of itself that all is well.
        """
        evidence = weigh(thing, homes(link))
        block = (thing.get("parent") or {}).get("block_id")
        if block is None or evidence not in (Evidence.KEPT, Evidence.MOVED):
            return evidence
        spot = await spot_of_block(self._api, block, lane)
        if spot.in_trash:
            return Evidence.TRASHED
        return Evidence.KEPT if spot.page_id == link.parent_id else evidence

    async def rehome(
        self, thing: dict[str, Any], kind: str, date: float, lane: Lane, *, read_again: bool
    ) -> bool:
        """Something says it lives elsewhere: if that place is on the site, it is there from now on.

        `read_again`: it is due in the same commit, since what it shows (a row's properties) depends on its place.
        """
        named = parent_id(thing) or ""
        found, home = await self._place(thing, named, lane)
        if found == "data_source" and kind == "page":
            await self._ledger.call(self._add_row, home, thing, date, read_again)
        elif found in ("page", "container"):
            await self._ledger.call(self._add_child, home, thing["id"], kind, named, read_again)
        else:
            return False
        return True

    async def take_in(self, thing: dict[str, Any], kind: str, date: float, lane: Lane) -> bool:
        """Something that is not on the site, as a GET shows it: if it lives there, it is read. Out: whether it does.

        A row comes in as it is; anything else is found by reading the page that it says it lies on.
        """
        thing.pop("request_id", None)
        if weigh(thing, ()) is Evidence.TRASHED:
            return False
        found, home = await self._place(thing, parent_id(thing) or "", lane)
        if found == "data_source" and kind == "page":
            await self._ledger.call(self._add_row, home, thing, date, False)
        elif found in ("page", "container"):
            await self._ledger.call(work.make_due, [home], Priority.FRESH, "child")
        else:
            return False
        return True

    async def _place(self, thing: dict[str, Any], named: str, lane: Lane) -> tuple[str, str]:
        known = await self._ledger.call(links.known_parents, [named])
        if named not in known and (thing.get("parent") or {}).get("block_id"):
            spot = await spot_of_block(self._api, named, lane)
            known = await self._ledger.call(links.known_parents, [spot.page_id or ""])
            return ("", "") if spot.in_trash else known.get(spot.page_id or "", ("", ""))
        return known.get(named, ("", ""))

    def _add_row(
        self, db: Connection, home: str, page: dict[str, Any], date: float, read_again: bool
    ) -> None:
        seen = [Sighting(page["id"], page["last_edited_time"], date, Via.GET, page)]
        pages.note_sightings(db, seen, {page["id"]: card(page)}, self._trust)
        links.add_rows(db, home, [page["id"]])
        work.make_due(db, [page["id"]] if read_again else [], Priority.FRESH, "moved")

    @staticmethod
    def _add_child(
        db: Connection, home: str, child: str, kind: str, container: str, read_again: bool
    ) -> None:
        links.add_child(db, home, child, kind, container)
        work.make_due(db, [home], Priority.FRESH, "child")
        work.make_due(db, [child] if read_again else [], Priority.FRESH, "moved")


def homes(link: MissingLink) -> Iterable[str]:
    """The ids that a page may name as its parent while it still lives where this link says."""
    return [link.parent_id, *([link.container_id] if link.container_id else [])]
