"""Keeps up to eight pages in flight: takes what is due from the ledger, most urgent first, reads each page whole.

A read that is slow, or that waits for the request budget, does not hold up the cycle: it goes on beside the next one
and commits when it is whole. What fails is kept in the ledger with its reason and tried again later.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import floor
from typing import Any

import structlog

from daemon import jsontext
from daemon.clock import Clock
from daemon.ledger import links, pages, publishing, work
from daemon.ledger.absences import LOST
from daemon.ledger.ledger import Ledger, LedgerError
from daemon.ledger.pages import StoredRead
from daemon.ledger.work import DuePage
from daemon.notion.api import NotionApi
from daemon.notion.errors import (
    NotionBlocked,
    NotionError,
    NotionNotFound,
    NotionUnauthorized,
    NotionUnavailable,
)
from daemon.notion.limiter import Lane
from daemon.notion.tree import Tree, read_tree
from daemon.notion.values import complete_property, is_full_page, truncated_properties
from daemon.site.indexes import card
from daemon.sync.plan import Evidence, Priority, Trust, instant, listed_body_will_do, rests_until
from daemon.sync.reading import stored_read
from daemon.sync.whereabouts import Whereabouts

log = structlog.get_logger(__name__)
MOST_IN_FLIGHT = 8
FAILURES_IN_A_ROW = 8
"""So many pages in a row that Notion did not answer: reading pauses until the next cycle."""
FRESH_RESERVE = 4
"""Requests left to polling when a fresh edit is read from the reserve."""


class PageGoneError(Exception):
    """A GET says that a page is in the trash or lives elsewhere now."""


class PageEmptyError(Exception):
    """A page that had content shows none: that is believed when a second read says so too."""


@dataclass
class Tally:
    """What was done since the last cycle's summary."""

    read: int = 0
    failed: int = 0
    gone: int = 0

    @property
    def is_news(self) -> bool:
        """Whether anything happened that may change the site."""
        return bool(self.read or self.failed or self.gone)


class Reader:
    """Reads due pages. `tally` counts, `last_progress` is the monotonic second of the last page that was stored."""

    def __init__(
        self, api: NotionApi, ledger: Ledger, trust: Trust, clock: Clock, whereabouts: Whereabouts
    ) -> None:
        self._api = api
        self._whereabouts = whereabouts
        self._ledger = ledger
        self._trust = trust
        self._clock = clock
        self._in_flight: dict[str, asyncio.Task[None]] = {}
        self._emptied: dict[str, float] = {}
        self._unanswered = 0
        self._only: str | None = None
        self.tally = Tally()
        self.last_progress = clock.monotonic()
        self.stopped_by: NotionError | LedgerError | None = None
        self.wants_inquiry = False
        """Whether something was found that only `Inquiry` or `Feeds` can look into."""
        self.found_files = False
        """Whether a page was read that shows files which Notion hosts."""
        self.on_progress: Callable[[], None] = lambda: None

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The reads under way."""
        return set(self._in_flight.values())

    @property
    def gave_up(self) -> bool:
        """Whether Notion left so many pages in a row unanswered that reading waits for the next cycle."""
        return self._unanswered >= FAILURES_IN_A_ROW

    def begin(self, only: str | None = None) -> None:
        """A new cycle: Notion may have come back. `only`: read that part of the site and no other."""
        self._unanswered = 0
        self._only = only

    async def stop(self) -> None:
        """Abandon what is in flight: nothing of it is stored, all of it is still due."""
        for task in self._in_flight.values():
            task.cancel()
        await asyncio.gather(*self._in_flight.values(), return_exceptions=True)

    async def drain(self, timeout_seconds: float) -> None:
        """Let what is in flight finish, for a bounded time."""
        if self._in_flight:
            await asyncio.wait(self._in_flight.values(), timeout=timeout_seconds)

    async def top_up(self) -> None:
        """Start reading what is due, as far as there is room."""
        room = MOST_IN_FLIGHT - len(self._in_flight)
        if room <= 0 or self.gave_up or self.stopped_by is not None:
            return
        now = self._api.notion_now()
        for due in await self._ledger.call(work.due, now, room, list(self._in_flight), self._only):
            task = asyncio.create_task(self._read(due), name=f"read {due.id}")
            self._in_flight[due.id] = task
            task.add_done_callback(partial(self._landed, due.id))

    def _landed(self, page_id: str, _: asyncio.Task[None]) -> None:
        self._in_flight.pop(page_id, None)

    async def _read(self, due: DuePage) -> None:
        """One page: stored whole, or failed with its reason. Only a cancellation gets out of here."""
        try:
            await self._try(due)
        except LedgerError as error:  # no fault of the page's: it stays due, and so does every other
            self.stopped_by = error
        self.on_progress()

    async def _try(self, due: DuePage) -> None:
        try:
            await self._store(due, await self._fetch(due))
        except PageGoneError:
            self.tally.gone += 1
        except PageEmptyError:
            log.info("page shows nothing where it had content: read again", action="page_empty", page=due.id)
        except (NotionUnauthorized, NotionBlocked) as error:
            self.stopped_by = error
        except NotionNotFound as error:
            await self._not_found(due, error)
        except NotionError as error:
            self._unanswered += isinstance(error, NotionUnavailable)
            await self._failed(due, f"{error} {error.hint}")
        except LedgerError:
            raise
        except Exception as error:
            log.exception("page could not be read", action="page_crashed", page=due.id)
            await self._failed(
                due, f"{type(error).__name__} while reading this page; please report it with the log."
            )

    async def _fetch(self, due: DuePage) -> StoredRead:
        lane = self._lane(due)
        page, date, by_get = await self._page_object(due, lane)
        blocks_date = self._api.notion_now()
        tree = await self._tree(due, page, lane)
        if tree.blocks:
            self._emptied.pop(due.id, None)
        elif not await self._is_really_empty(due, page["last_edited_time"], blocks_date):
            raise PageEmptyError(due.id)
        for name, property_id, _ in truncated_properties(page):
            items = await self._api.property_items(due.id, property_id, lane)
            tree.requests += max(1, -(-len(items) // 100))
            page = complete_property(page, name, items)
        return stored_read(page, tree, date=date, blocks_date=blocks_date, by_get=by_get, trust=self._trust)

    async def _tree(self, due: DuePage, page: dict[str, Any], lane: Lane) -> Tree:
        """The blocks. When they cannot be read the last good version stays, but not of a row that became a draft."""
        try:
            return await read_tree(self._api, due.id, lane)
        except NotionError:
            await self._ledger.call(publishing.withdraw, due.id, card(page), self._api.notion_now())
            raise

    async def _is_really_empty(self, due: DuePage, stamp: str, date: float) -> bool:
        """Whether a page without blocks had none before, or is found so again when its stamp has settled."""
        if due.stamp is None or not await self._ledger.call(pages.has_blocks, due.id):
            return True
        settled_at = min(self._trust.settles_at(instant(stamp)), self._trust.settles_at(date))
        # In whole seconds, as Notion tells the time: the read that is due then is not too early.
        again_at = self._emptied.setdefault(due.id, floor(max(settled_at, date + self._trust.slack_seconds)))
        if date >= again_at:
            del self._emptied[due.id]
            return True
        await self._ledger.call(work.put_off_until, due, again_at, "empty")
        return False

    def _lane(self, due: DuePage) -> Lane:
        """A fresh edit may use what polling left of its reserve, so that a full sync never makes it wait."""
        if due.priority == Priority.FRESH and self._api.limiter.available(Lane.FEED) > FRESH_RESERVE:
            return Lane.FEED
        return Lane.READ

    async def _page_object(self, due: DuePage, lane: Lane) -> tuple[dict[str, Any], float, bool]:
        """The page object, the date of the answer it came with, and whether that was a GET."""
        if due.seen_body is not None and due.seen_stamp is not None and due.seen_date is not None:
            now = self._api.notion_now()
            if listed_body_will_do(due.seen_stamp, due.seen_date, now, self._trust):
                return jsontext.unpack(due.seen_body), due.seen_date, False
        answer = await self._api.page(due.id, lane)
        page = answer.body
        page.pop("request_id", None)
        if not is_full_page(page):
            raise NotionUnavailable(
                f"Notion shows only a part of page {due.id}: the integration may lack access."
            )
        gone, news = await self._whereabouts.is_gone(page, answer.date, lane)
        self.wants_inquiry = self.wants_inquiry or news
        if gone:
            raise PageGoneError(due.id)
        return page, answer.date, True

    async def _store(self, due: DuePage, read: StoredRead) -> None:
        rest_until = rests_until(read.date, read.cost_requests, self._api.limiter.budget)
        if rest_until is not None:
            log.info("page is costly to read", action="page_costly", page=due.id, requests=read.cost_requests)
        changed = await self._ledger.call(
            pages.store_read, read, self._trust, asked=due.asked, rest_until=rest_until
        )
        self.wants_inquiry = self.wants_inquiry or changed
        self._unanswered = 0
        self.found_files = self.found_files or bool(read.files)
        self.tally.read += 1
        self.last_progress = self._clock.monotonic()

    async def _not_found(self, due: DuePage, error: NotionNotFound) -> None:
        """404: the parent is read once more; a child page that stays away although its parent is there disappeared."""
        attempts = await self._failed(due, f"{error} {error.hint}", LOST)
        for link in await self._ledger.call(links.parents_of, due.id):
            if link.kind == "row":
                await self._ledger.call(work.list_again, link.parent_id)
            elif link.parent_id.startswith("source:"):
                continue  # a source that answers 404 removes nothing
            elif attempts == 1:
                await self._ledger.call(work.make_due, [link.parent_id], Priority.SETTLE, "child")
            elif not await self._ledger.call(work.is_failing, link.parent_id):
                answers = [(link, Evidence.DISAPPEARED)]
                await self._ledger.call(links.answer_missing, answers, self._api.notion_now())
                self.wants_inquiry = True

    async def _failed(self, due: DuePage, problem: str, reason: str | None = None) -> int:
        self.tally.failed += 1
        attempts = await self._ledger.call(work.fail_page, due.id, problem, self._api.notion_now(), reason)
        log.warning("page failed", action="page_failed", page=due.id, attempts=attempts, reason=problem)
        return attempts
