"""Does what Notion's events ask for: looks, now, at the things they point at.

An event is never believed: a page of the site is read again from a GET on, so that what it says of edits, trash and
moves is Notion's present word; what is not on the site costs one look. Hints are kept in memory only. To lose one costs
speed and nothing else: polling and the sweep, which ask Notion themselves, remain what finds every change, and an
answer to Notion that had to wait for the ledger would be slow just when many events come.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Protocol

import structlog
from sqlalchemy import Connection

from daemon.clock import Clock, wait_for
from daemon.ledger import links, meta, originals, sources, work
from daemon.ledger.ledger import Ledger, LedgerError
from daemon.ledger.meta import Fact
from daemon.ledger.sources import DatabaseRow, SourceRow
from daemon.notion.api import NotionApi
from daemon.notion.errors import NotionError
from daemon.notion.events import Hint, Subject, event_id, hint_of
from daemon.notion.limiter import Lane
from daemon.sync.cycle import Cycle
from daemon.sync.feeds import STOPS_THE_RUN, is_page
from daemon.sync.inbox import MOST_REMEMBERED, Inbox, Queue
from daemon.sync.plan import Priority
from daemon.sync.reader import FRESH_RESERVE

log = structlog.get_logger(__name__)
OUTSIDE_SECONDS = 600.0
"""So long an edit of a thing outside the site is not looked into; that it was made, moved or restored always is."""
LISTING_RESTS_SECONDS = 10.0
"""For every request that listing a data source takes: a large one is not listed again for each row that changes."""
NOTED_SECONDS = 60.0
"""How often at most it is kept that an event came, where nothing else is kept of it."""
REFUSED_SECONDS = 60.0
"""Notion refused the token: so long nothing is asked because of an event."""


class Wake(Protocol):
    """Tells the schedule that something is due; `look`: that it has to be looked for."""

    def __call__(self, *, look: bool = False) -> None: ...


@dataclass
class _Concerned:
    """What an event about a database or data source concerns."""

    due: int = 0
    sources: list[SourceRow] = field(default_factory=list)
    databases: list[DatabaseRow] = field(default_factory=list)
    listings: set[str] = field(default_factory=set)

    @property
    def is_here(self) -> bool:
        """Whether it has to do with the site."""
        return bool(self.sources or self.databases)


class Hints:
    """Takes events in at any time from the daemon's event loop; `run` looks at what they point at.

    What is on the site becomes due in the ledger at once. What has to be asked for is asked for beside that, and lists
    are made beside both, so that an edit never waits for either.
    """

    def __init__(self, api: NotionApi, ledger: Ledger, cycle: Cycle, clock: Clock, wake: Wake) -> None:
        self._api = api
        self._ledger = ledger
        self._cycle = cycle
        self._clock = clock
        self._wake = wake
        self._inbox = Inbox()
        self._arrived = asyncio.Event()
        self._to_ask = Queue()
        self._to_list: dict[str, None] = {}
        self._asking: asyncio.Task[None] | None = None
        self._listing: asyncio.Task[None] | None = None
        self._outside: OrderedDict[str, float] = OrderedDict()
        self._refused_until = float("-inf")
        self._noted_at = float("-inf")
        self.events = 0
        """How many were taken in since this process began."""
        self.refused = 0
        """How many calls came that Notion did not sign, or signed for another subscription."""
        self.last_event_at: float | None = None
        """When the last one came, in unix seconds; also one that came to an earlier process."""

    async def open(self) -> None:
        """Remember when the last event came. Raises LedgerError."""
        self.last_event_at = await self._ledger.call(meta.get, Fact.WEBHOOK_EVENT_AT)

    def receive(self, event: Any) -> None:
        """An event that Notion signed, of whatever shape. Returns at once."""
        self.events += 1
        self.last_event_at = self._clock.now().timestamp()
        known = event_id(event)
        hint = None if known is not None and self._inbox.is_repeated(known) else hint_of(event)
        if hint is not None:
            self._inbox.add(hint)
        self._arrived.set()

    # The loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Attend to what arrives, and to what has rested, until cancelled."""
        try:
            while True:
                await wait_for(self._clock, self._arrived, self._inbox.ready_at(self._clock.monotonic()))
                self._arrived.clear()
                await self._guarded(self.attend())
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Abandon what is being asked for: polling and the sweep find it."""
        under_way = [task for task in (self._asking, self._listing) if task is not None]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def _guarded(self, doing: Coroutine[Any, Any, None]) -> None:
        """Whatever goes wrong ends this attempt alone: polling goes on."""
        try:
            await doing
        except STOPS_THE_RUN:  # the next cycle meets it too, and says so
            self._refused_until = self._clock.monotonic() + REFUSED_SECONDS
        except LedgerError as error:
            log.error("events cannot be followed", action="hints_failed", cause=error.cause, hint=error.hint)
        except Exception:
            log.exception("events could not be followed", action="hints_crashed")

    async def attend(self) -> None:
        """Have everything looked at that was pointed at and has rested. What Notion has to be asked goes on beside."""
        if self._cycle.on_standby:
            self._inbox.clear()
            self._to_ask.clear()
            return
        hints = self._inbox.take(self._clock.monotonic())
        if hints or (self.last_event_at or 0.0) >= self._noted_at + NOTED_SECONDS:
            await self._sort_out(hints)
        if self._inbox.overflowed or self._to_ask.overflowed:
            self._inbox.overflowed = self._to_ask.overflowed = False
            self._wake(look=True)
        if len(self._to_ask) and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._guarded(self._ask_all()), name="asking")

    async def _sort_out(self, hints: Sequence[Hint]) -> None:
        try:
            due, others = await self._ledger.call(self._sort, hints)
        except LedgerError:
            self._inbox.put_back(hints)
            raise
        self._noted_at = self.last_event_at or 0.0
        if hints:
            log.info("Notion tells of changes", action="hints", things=len(hints), due=due)
        for hint in others:
            self._to_ask.add(hint)
        if due:
            self._go_on()

    def _sort(self, db: Connection, hints: Sequence[Hint]) -> tuple[int, list[Hint]]:
        """Pages of the site become due in this commit. Out: how many, and what has to be asked for."""
        meta.put(db, Fact.WEBHOOK_EVENT_AT, self.last_event_at)
        named = [hint.id for hint in hints if hint.subject is Subject.PAGE]
        known = links.known_parents(db, named)
        here = {page for page in named if known.get(page, ("", ""))[0] == "page"}
        due = work.make_due(db, here, Priority.FRESH, "webhook")
        return due, [hint for hint in hints if hint.subject is not Subject.PAGE or hint.id not in here]

    # Asking ------------------------------------------------------------------------------------------------------

    async def _ask_all(self) -> None:
        """Ask for one thing after the other: many that are not on the site must not crowd out reading."""
        while len(self._to_ask) and not self._cycle.on_standby:
            if self._clock.monotonic() < self._refused_until:
                self._to_ask.clear()
                return
            await self._look_at(self._to_ask.pop())

    async def _look_at(self, hint: Hint) -> None:
        if hint.subject is not Subject.PAGE:
            concerned = await self._ledger.call(_concerned, hint)
            if concerned.is_here:
                await self._follow(hint, concerned)
                return
        is_host = hint.subject is Subject.PAGE and await self._is_host(hint.id)
        if is_host:
            await self._concerns_us(self._cycle.inquiry.look_at_host(hint.id, self._lane()), hint)
        was_outside = self._outside.get(hint.id, float("-inf")) > self._clock.monotonic()
        if hint.in_place and (is_host or was_outside):
            return
        if not await self._concerns_us(self._place(hint), hint) and not is_host:
            self._is_outside(hint.id)

    async def _is_host(self, page_id: str) -> bool:
        return page_id in await self._ledger.call(originals.foreign_hosts)

    async def _concerns_us(self, asking: Coroutine[Any, Any, bool], hint: Hint) -> bool:
        """Out: whether what was asked for has to do with the site: then a cycle goes on with it."""
        try:
            concerns_us = await asking
        except STOPS_THE_RUN:
            raise
        except NotionError as error:
            log.info("pointed at, not looked at", action="hint_unanswered", id=hint.id, error=str(error))
            return False
        if concerns_us:
            self._go_on()
        return concerns_us

    async def _place(self, hint: Hint) -> bool:
        """Ask for what is not on the site, and put it where it says it lives. Out: whether that is here."""
        asks = {
            Subject.PAGE: self._api.page,
            Subject.DATABASE: self._api.database,
            Subject.DATA_SOURCE: self._api.data_source,
        }
        answer = await asks[hint.subject](hint.id, self._lane())
        thing, kind = answer.body, hint.subject.value
        if hint.subject is Subject.PAGE and not is_page(thing):
            return False
        if hint.subject is not Subject.DATA_SOURCE and await self._cycle.whereabouts.take_in(
            thing, kind, answer.date, self._lane()
        ):
            return True
        database_id = (thing.get("parent") or {}).get("database_id")
        if not isinstance(database_id, str):
            return False
        # A row or data source of a database that is on the site, while the data source is not known: it is new.
        owner = await self._ledger.call(_concerned, Hint(Subject.DATABASE, database_id, in_place=True))
        await self._resolve(owner)
        return owner.is_here

    async def _follow(self, hint: Hint, concerned: _Concerned) -> None:
        """A database or data source of the site: its name and parts are asked for again, and its members listed."""
        if hint.subject is Subject.DATABASE or not hint.in_place:
            await self._resolve(concerned)
        now = self._clock.monotonic()
        for data_source in concerned.listings:
            if data_source != hint.id and self._inbox.rests((Subject.DATA_SOURCE, data_source), now):
                self._inbox.add(Hint(Subject.DATA_SOURCE, data_source, in_place=True))
                self._arrived.set()
            else:
                self._to_list[data_source] = None
        if self._to_list and (self._listing is None or self._listing.done()):
            self._listing = asyncio.create_task(self._guarded(self._list_all()), name="listing")
        if concerned.due:
            self._go_on()

    async def _resolve(self, concerned: _Concerned) -> None:
        for source in concerned.sources:
            await self._cycle.feeds.resolve_source(source)
        for database in concerned.databases:
            await self._cycle.feeds.resolve_database(database)
        if concerned.is_here:
            self._cycle.changed = True
            self._go_on()

    async def _list_all(self) -> None:
        """List members one data source after the other, within upkeep's share of the budget."""
        while self._to_list and not self._cycle.on_standby:
            data_source = next(iter(self._to_list))
            del self._to_list[data_source]
            rows = {row.id: row for row in await self._ledger.call(sources.data_sources)}
            if data_source in rows and rows[data_source].listed_date is not None:
                await self._cycle.feeds.sweep_members(rows[data_source], Lane.UPKEEP)
                self._cycle.changed = True
                self._go_on()
            members = (await self._ledger.call(sources.row_counts)).get(data_source, 0)
            rest_seconds = LISTING_RESTS_SECONDS * max(1, ceil(members / 100))
            self._inbox.rest((Subject.DATA_SOURCE, data_source), self._clock.monotonic() + rest_seconds)

    def _lane(self) -> Lane:
        """What is new may use what polling left of its reserve, as fresh edits do: a full sync does not hold it up."""
        return Lane.FEED if self._api.limiter.available(Lane.FEED) > FRESH_RESERVE else Lane.READ

    # Telling -----------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Something is due, or has to be asked for: in the cycle that runs, else in one that does not look."""
        self._cycle.nudge()
        self._wake()

    def _is_outside(self, thing: str) -> None:
        self._outside[thing] = self._clock.monotonic() + OUTSIDE_SECONDS
        self._outside.move_to_end(thing)
        while len(self._outside) > MOST_REMEMBERED:
            self._outside.popitem(last=False)


def _concerned(db: Connection, hint: Hint) -> _Concerned:
    """Which sources, databases and lists of the site a database or data source has to do with.

    One that may be gone, or be elsewhere, has the pages on which it stands read again.
    """
    found = _Concerned()
    named = [row for row in sources.sources(db) if not row.retired]
    found.sources = [row for row in named if row.ref == hint.id or hint.id in row.data_source_ids]
    inside = sources.databases(db)
    found.databases = [row for row in inside if row.id == hint.id or hint.id in (row.data_source_ids or ())]
    parts = {hint.id}
    if hint.subject is Subject.DATABASE:
        parts.update(ds for row in found.sources for ds in row.data_source_ids)
        parts.update(ds for row in found.databases for ds in row.data_source_ids or ())
        if not hint.in_place:
            places = [link.parent_id for link in links.parents_of(db, hint.id)]
            found.due = work.make_due(db, places, Priority.FRESH, "child")
    found.listings = parts.intersection(row.id for row in sources.data_sources(db))
    return found
