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

from daemon.clock import Clock
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
from daemon.sync.inbox import MOST_REMEMBERED, Inbox
from daemon.sync.plan import Priority

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
class _Todo:
    """What is to be asked of Notion. What is on the site is due already."""

    due: int = 0
    strangers: list[Hint] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    sources: list[SourceRow] = field(default_factory=list)
    databases: list[DatabaseRow] = field(default_factory=list)
    listings: set[str] = field(default_factory=set)


class Hints:
    """Takes events in at any time from the daemon's event loop; `run` looks at what they point at."""

    def __init__(self, api: NotionApi, ledger: Ledger, cycle: Cycle, clock: Clock, wake: Wake) -> None:
        self._api = api
        self._ledger = ledger
        self._cycle = cycle
        self._clock = clock
        self._wake = wake
        self._inbox = Inbox()
        self._arrived = asyncio.Event()
        self._outside: OrderedDict[str, float] = OrderedDict()
        self._to_list: dict[str, None] = {}
        self._listing: asyncio.Task[None] | None = None
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
                await self._until_something_is_ready()
                await self._guarded(self.attend())
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Abandon a listing that is under way: the sweep makes it."""
        if self._listing is not None:
            self._listing.cancel()
            await asyncio.gather(self._listing, return_exceptions=True)
            self._listing = None

    async def _until_something_is_ready(self) -> None:
        ready_at = self._inbox.ready_at(self._clock.monotonic())
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self._arrived.wait())]
        if ready_at is not None:
            waits.append(asyncio.ensure_future(self._clock.sleep_until(ready_at)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._arrived.clear()

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
        """Look at everything that was pointed at and has rested. Raises NotionError only when the run must stop."""
        if self._cycle.on_standby:
            self._inbox.clear()
            return
        if self._inbox.overflowed:
            self._inbox.overflowed = False
            self._wake(look=True)
        hints = self._inbox.take(self._clock.monotonic())
        if not hints and (self.last_event_at or 0.0) < self._noted_at + NOTED_SECONDS:
            return
        try:
            todo = await self._ledger.call(self._sort, hints)
        except LedgerError:
            self._inbox.put_back(hints)
            raise
        self._noted_at = self.last_event_at or 0.0
        if hints:
            log.info("Notion tells of changes", action="hints", things=len(hints), due=todo.due)
        if todo.due:
            self._go_on()
        if self._clock.monotonic() >= self._refused_until:
            await self._look_around(hints, todo)

    def _sort(self, db: Connection, hints: Sequence[Hint]) -> _Todo:
        """What is on the site becomes due in this commit; the rest has to be asked for."""
        meta.put(db, Fact.WEBHOOK_EVENT_AT, self.last_event_at)
        todo = _Todo()
        named = [hint for hint in hints if hint.subject is Subject.PAGE]
        known = links.known_parents(db, [hint.id for hint in named])
        here = [hint.id for hint in named if known.get(hint.id, ("", ""))[0] == "page"]
        todo.due = work.make_due(db, here, Priority.FRESH, "webhook")
        todo.strangers = [hint for hint in named if hint.id not in set(here)]
        if todo.strangers:
            todo.hosts = set(originals.foreign_hosts(db))
        if len(named) < len(hints):
            _sort_databases(db, [hint for hint in hints if hint.subject is not Subject.PAGE], todo)
        return todo

    # Asking ------------------------------------------------------------------------------------------------------

    async def _look_around(self, hints: Sequence[Hint], todo: _Todo) -> None:
        for hint in todo.strangers:
            if await self._look_at(hint, is_host=hint.id in todo.hosts):
                self._go_on()
        await self._resolve(todo.sources, todo.databases)
        now = self._clock.monotonic()
        asked = {hint.id for hint in hints if hint.subject is Subject.DATA_SOURCE}
        for data_source in todo.listings:
            if data_source not in asked and self._inbox.rests((Subject.DATA_SOURCE, data_source), now):
                self._inbox.add(Hint(Subject.DATA_SOURCE, data_source, in_place=True))
            else:
                self._to_list[data_source] = None
        if self._to_list and (self._listing is None or self._listing.done()):
            self._listing = asyncio.create_task(self._guarded(self._list()), name="listing")

    async def _look_at(self, hint: Hint, *, is_host: bool) -> bool:
        """One look at what is not on the site. Out: whether something on the site has to do with it."""
        if is_host:
            await self._host(hint.id)
            if hint.in_place:
                return True
        elif hint.in_place and self._outside.get(hint.id, float("-inf")) > self._clock.monotonic():
            return False
        try:
            concerns_us = await self._ask(hint) or is_host
        except STOPS_THE_RUN:
            raise
        except NotionError as error:
            log.info("pointed at, not looked at", action="hint_unanswered", id=hint.id, error=str(error))
            concerns_us = is_host
        if not concerns_us:
            self._is_outside(hint.id)
        return concerns_us

    async def _host(self, page_id: str) -> None:
        try:
            await self._cycle.inquiry.look_at_host(page_id, Lane.READ)
        except STOPS_THE_RUN:
            raise
        except NotionError as error:
            log.info("host not looked at", action="hint_unanswered", id=page_id, error=str(error))

    async def _ask(self, hint: Hint) -> bool:
        """Ask for a page, database or data source, and put it where it says it lives. Out: whether that is here."""
        asks = {
            Subject.PAGE: self._api.page,
            Subject.DATABASE: self._api.database,
            Subject.DATA_SOURCE: self._api.data_source,
        }
        answer = await asks[hint.subject](hint.id, Lane.READ)
        thing, whereabouts = answer.body, self._cycle.whereabouts
        if hint.subject is Subject.PAGE and not is_page(thing):
            return False
        if hint.subject is not Subject.DATA_SOURCE:
            kind = hint.subject.value
            if await whereabouts.take_in(thing, kind, answer.date, Lane.READ):
                return True
        return await self._resolve_owner((thing.get("parent") or {}).get("database_id"))

    async def _resolve_owner(self, database_id: Any) -> bool:
        """A row or data source of a database that is on the site, while the data source is not known: it is new."""
        if not isinstance(database_id, str):
            return False
        named = Hint(Subject.DATABASE, database_id, in_place=True)

        def question(db: Connection) -> _Todo:
            todo = _Todo()
            _sort_databases(db, [named], todo)
            return todo

        todo = await self._ledger.call(question)
        await self._resolve(todo.sources, todo.databases)
        return bool(todo.sources or todo.databases)

    async def _resolve(self, of_settings: Sequence[SourceRow], inside: Sequence[DatabaseRow]) -> None:
        for source in of_settings:
            await self._cycle.feeds.resolve_source(source)
        for database in inside:
            await self._cycle.feeds.resolve_database(database)
        if of_settings or inside:
            self._cycle.changed = True
            self._go_on()

    async def _list(self) -> None:
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


def _sort_databases(db: Connection, hints: Sequence[Hint], todo: _Todo) -> None:
    """Databases and data sources: their names, parts and rows are asked for again, and the pages they stand on read."""
    named = [row for row in sources.sources(db) if not row.retired]
    inside = sources.databases(db)
    known = {row.id for row in sources.data_sources(db)}
    for hint in hints:
        is_whole = hint.subject is Subject.DATABASE
        mine = [row for row in named if row.ref == hint.id or hint.id in row.data_source_ids]
        holding = [row for row in inside if row.id == hint.id or hint.id in (row.data_source_ids or ())]
        if not mine and not holding:
            todo.strangers.append(hint)
            continue
        if is_whole or not hint.in_place:
            todo.sources += [row for row in mine if row not in todo.sources]
            todo.databases += [row for row in holding if row not in todo.databases]
        parts = [ds for row in mine for ds in row.data_source_ids]
        parts += [ds for row in holding for ds in row.data_source_ids or ()]
        todo.listings.update(known.intersection(parts if is_whole else [hint.id]))
        if is_whole and not hint.in_place:
            places = [link.parent_id for link in links.parents_of(db, hint.id)]
            todo.due += work.make_due(db, places, Priority.FRESH, "child")
