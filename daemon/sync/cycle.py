"""One cycle: look for changes, read what is due for at most one poll interval, work out the keys, write them.

Every step is decided from the ledger and may be repeated, so a kill, an outage or a second trigger at any moment only
means that the next cycle has more to do. What is not read in time stays in the ledger; a full sync is a backlog that
many cycles work off, and an edit never waits for it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from sqlalchemy import Connection

from daemon.clock import Clock
from daemon.kv.base import KV
from daemon.ledger import cycles, meta, publishing, records, sources, work
from daemon.ledger.ledger import Ledger
from daemon.ledger.meta import Fact
from daemon.notion.api import NotionApi
from daemon.notion.errors import NotionError
from daemon.site.files import FileLinks
from daemon.sync.compose import Composition, compose, held_pages
from daemon.sync.evidence import Inquiry
from daemon.sync.feeds import STOPS_THE_RUN, Feeds
from daemon.sync.groups import writable
from daemon.sync.lease import Lease, Standing
from daemon.sync.plan import Trust
from daemon.sync.publish import Published, Publisher
from daemon.sync.reader import Reader, Tally
from daemon.sync.rulebook import Rulebook
from daemon.sync.sweep import Sweep
from daemon.sync.verify import NotionCheck, StoreCheck
from daemon.sync.whereabouts import Whereabouts

log = structlog.get_logger(__name__)
OUTAGE_SECONDS = 60.0
"""Looking for changes failed for longer: that was Notion, not the pages and listings that failed meanwhile."""
_SUMMED = (
    *("duration_seconds", "found", "read", "failed", "removed", "written", "deleted", "refused", "batches"),
    *("notion_requests", "kv_commands"),
)


@dataclass
class Summary:
    """What one cycle did. Durations in seconds; `pages`: the type of each page whose key was written, by its id."""

    started_at: float
    looked: bool
    look_failed: bool = False
    duration_seconds: float = 0.0
    found: int = 0
    read: int = 0
    failed: int = 0
    removed: int = 0
    written: Counter[str] = field(default_factory=Counter)
    pages: dict[str, str] = field(default_factory=dict)
    deleted: int = 0
    refused: int = 0
    batches: int = 0
    notion_requests: int = 0
    kv_commands: int = 0
    due: int = 0
    pending: int = 0
    problem: str | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing at all was done but looking."""
        return not (self.read or self.failed or self.written or self.deleted or self.removed or self.problem)

    def __add__(self, later: "Summary") -> "Summary":
        """Both together: what is left is the later one's, and what was wrong that of the last that looked."""
        sums: dict[str, Any] = {name: getattr(self, name) + getattr(later, name) for name in _SUMMED}
        problem = later.problem if later.looked else self.problem
        looked, pages = self.looked or later.looked, self.pages | later.pages
        return replace(later, started_at=self.started_at, looked=looked, problem=problem, pages=pages, **sums)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the ledger, the log and people."""
        values = {name: value for name, value in self.__dict__.items() if name != "look_failed"}
        return {
            **values,
            "written": dict(self.written),
            "pages": dict(Counter(self.pages.values())),
            "duration_seconds": round(self.duration_seconds, 3),
        }


class Cycle:
    """The parts of the daemon that do the work, in the order in which they do it."""

    def __init__(
        self, api: NotionApi, ledger: Ledger, kv: KV, trust: Trust, clock: Clock, heartbeat_seconds: float
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._kv = kv
        self._clock = clock
        self.feeds = Feeds(api, ledger, trust, clock)
        self.whereabouts = whereabouts = Whereabouts(api, ledger, trust)
        self.reader = Reader(api, ledger, trust, clock, whereabouts)
        self.inquiry = Inquiry(api, ledger, trust, clock, self.feeds, whereabouts)
        self.lease = Lease(kv, ledger, clock, heartbeat_seconds)
        self.publisher = Publisher(kv, ledger, clock, self.lease)
        self.site: Composition | None = None
        self.rulebook = Rulebook(api, ledger, self.feeds)
        self.sweep = Sweep(api, ledger, trust, self.feeds, self.inquiry, whereabouts, self.rulebook)
        self.links = FileLinks()
        """Which addresses bundles hold for the files that Notion hosts."""
        self.on_files: Callable[[], None] = lambda: None
        """Called when there may be files to copy."""
        self.store_check = StoreCheck(kv, ledger, self.lease, self.publisher, clock)
        self.notion_check = NotionCheck(api, ledger, trust, self.feeds, whereabouts)
        self.changed = True
        """Whether the ledger may say something new about the site since it was last worked out."""
        self._inquiring: asyncio.Task[int] | None = None
        self._hurrying = asyncio.Event()
        self._nudged: asyncio.Future[None] | None = None
        self._away_since: float | None = None

    async def run(self, deadline: float, *, look: bool = True, only: str | None = None) -> Summary:
        """One cycle; reading ends at the (monotonic) deadline. Raises NotionError only when the run must stop, and
        LedgerError when the ledger cannot be used. RuleError: a setting asks for what a source does not have.

        The time that looking takes is not taken from reading: with a slow Notion nothing would ever be read.
        `only` restricts looking and reading to one source, or to `children`: what is below the sources.
        """
        summary = Summary(self._clock.now().timestamp(), look)
        began, requests, commands = self._clock.monotonic(), self._api.requests, self._kv.commands
        self.reader.stopped_by = None
        if look:
            with suppress(*STOPS_THE_RUN):  # looking for changes meets it too
                await self.rulebook.begin()
        try:
            if look:
                summary.found = await self._look(summary, only)
                deadline += self._clock.monotonic() - began
            await self._read_until(deadline, only)
        finally:
            await self._settle(summary)
            summary.duration_seconds = self._clock.monotonic() - began
            summary.notion_requests = self._api.requests - requests
            summary.kv_commands = self._kv.commands - commands
        if self.reader.stopped_by is not None:
            raise self.reader.stopped_by
        return summary

    async def _look(self, summary: Summary, only: str | None) -> int:
        try:
            found = await self.feeds.poll(only)
        except STOPS_THE_RUN:
            raise
        except NotionError as error:
            summary.problem, summary.look_failed = f"{error} {error.hint}", True
            log.warning("looking for changes failed", action="poll_failed", error=str(error), hint=error.hint)
            if self._away_since is None:
                self._away_since = self._clock.monotonic()
            return 0
        if only in (None, "children"):  # else nothing was asked for that tells
            await self._is_back()
        return found

    async def _is_back(self) -> None:
        """Looking for changes works. If it did not for long, what failed meanwhile does not wait out its back-off."""
        since, self._away_since = self._away_since, None
        if since is not None and self._clock.monotonic() - since > OUTAGE_SECONDS:
            log.info("Notion is back: what failed is tried again now", action="outage_over")
            await self._ledger.call(work.retry_now, self._api.notion_now())

    async def _read_until(self, deadline: float, only: str | None) -> None:
        """Read what is due, and ask what came up beside it, until nothing is left or the deadline."""
        self.reader.begin(only)
        self.reader.wants_inquiry = True
        hurry = asyncio.ensure_future(self._hurrying.wait())
        try:
            await self._read_beside(deadline, hurry)
        finally:
            hurry.cancel()

    def hurry(self) -> None:
        """The daemon is to stop: end reading now, write what is there."""
        self._hurrying.set()

    def nudge(self) -> None:
        """Something has become due: a cycle that is reading takes it up now, and not when the next page is done."""
        self.reader.wants_inquiry = True
        if self._nudged is not None and not self._nudged.done():
            self._nudged.set_result(None)

    async def _read_beside(self, deadline: float, hurry: asyncio.Future[Any]) -> None:
        while self._clock.monotonic() < deadline and self.reader.stopped_by is None and not hurry.done():
            self._nudged = nudged = asyncio.get_running_loop().create_future()
            await self.reader.top_up()
            if self.reader.found_files:
                self.reader.found_files = False
                self.on_files()
            self._inquire()
            tasks: set[asyncio.Task[Any]] = {
                *self.reader.tasks,
                *([self._inquiring] if self._inquiring else []),
            }
            if not tasks:
                return
            left = deadline - self._clock.monotonic()
            await asyncio.wait({*tasks, hurry, nudged}, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    def _inquire(self) -> None:
        """Have what only a question can tell looked into: new databases, absences, homes of synced blocks."""
        if self._inquiring is not None and self._inquiring.done():
            task, self._inquiring = self._inquiring, None
            error = task.exception()
            if isinstance(error, STOPS_THE_RUN):
                self.reader.stopped_by = error
            elif isinstance(error, NotionError):
                log.warning("questions left open", action="inquiry_failed", error=str(error), hint=error.hint)
            elif error is not None:
                raise error
        if self._inquiring is None and self.reader.wants_inquiry and self.reader.stopped_by is None:
            self.reader.wants_inquiry = False
            self._inquiring = asyncio.create_task(self._ask_around(), name="inquiry")

    async def _ask_around(self) -> int:
        asked = await self.feeds.discover()
        removed = await self.inquiry.explain_absences()
        await self.inquiry.place_originals()
        self.changed = self.changed or bool(asked or removed)
        return asked + removed

    async def _settle(self, summary: Summary) -> None:
        """From what is in the ledger to what is in the store."""
        tally, self.reader.tally = self.reader.tally, Tally()
        summary.read, summary.failed = tally.read, tally.failed
        now = self._api.notion_now()
        site = self.site
        is_old = site is None or bool(site.held) or not site.is_of(now)
        if site is None or is_old or self.changed or summary.found or tally.is_news:
            site, summary.removed = await self._work_out(self._not_before(site, now))
        self._note(summary, await self.publisher.publish(site))
        if self.lease.is_unsearched and await self._is_all_there():
            # What is to go is deleted by the next cycle, together with what tells where it went.
            found = await self.publisher.find_leftovers(site)
            self.changed = self.changed or bool(found) or not self.lease.is_unsearched
        self.on_files()
        left = await self._ledger.call(work.backlog, now)
        summary.due = left.due
        summary.pending = await self._ledger.call(records.pending_count)
        summary.problem = summary.problem or self.publisher.problem

    async def _work_out(self, notion_now: float) -> tuple[Composition, int]:
        """The site as the ledger says it should be; what changes meanwhile is for the next time."""
        self.changed = False
        try:
            site, removed = await self._ledger.call(self.compose, notion_now)
        except BaseException:
            self.changed = True  # else the news would be forgotten, and not published before the next
            raise
        self.site = site
        return site, removed

    def compose(self, db: Connection, notion_now: float, *, hold: bool = True) -> tuple[Composition, int]:
        """Work out the site from the ledger and keep what should be; forget pages that have no place any more.

        `hold`: pages wait for copies of their new files.
        """
        facts = records.load_site(db)
        held = held_pages(facts, self.links, notion_now) if hold else {}
        unborn = held.keys() - records.published_pages(db, held)
        was_met = meta.get(db, Fact.CONTENT_ID) is not None
        is_unsure = not was_met or bool(meta.get(db, Fact.STORE_UNSEARCHED))
        written = records.written_keys(db)
        site = compose(facts, written, notion_now, self.links, held, frozenset(unborn), is_unsure=is_unsure)
        places, hidden = site.layout.places, site.layout.hidden
        publishing.keep_shown(db, places, hidden)
        publishing.keep_refused(db, site.visibility.refused)
        publishing.keep_former(db, site.former)
        settled = {page: (place.slug, place.source) for page, place in places.items() if place.settled}
        records.store_places(db, settled, facts.pages)
        records.store_wanted(db, site.wanted)
        gone = [page for page in facts.pages if page not in places and page not in hidden]
        removed = records.forget_pages(db, gone, notion_now)
        sources.forget_unused(db)
        return site, removed

    def note_change(self) -> None:
        """The ledger says something new about the site."""
        self.changed = True

    def _note(self, summary: Summary, published: Published) -> None:
        self.changed = self.changed or published.is_outdated
        summary.written += published.written
        summary.pages |= published.pages
        summary.deleted += published.deleted
        summary.refused += published.refused
        summary.batches += published.batches

    @staticmethod
    def _not_before(site: Composition | None, now: float) -> float:
        """A moment that is not a second before the last one: what a date has put online does not flicker."""
        return now if site is None or not site.is_of(now) else max(now, site.made_at)

    def compose_only(self, db: Connection) -> Composition:
        """The site as the ledger has it, for looking at: nothing is changed."""
        now = self._api.notion_now()
        return compose(records.load_site(db), records.written_keys(db), now, self.links)

    async def start(self) -> None:
        """Before the first cycle: find out whether the store is the one that the ledger wrote."""
        await self.publisher.meet_store()

    async def abandon(self) -> None:
        """Drop what is in flight: none of it is stored, all of it is still due."""
        await self.reader.stop()
        if self._inquiring is not None:
            self._inquiring.cancel()
            await asyncio.gather(self._inquiring, return_exceptions=True)
            self._inquiring = None

    async def stop(self) -> None:
        """Abandon what is in flight and give the store back."""
        await self.abandon()
        await self.lease.release()

    async def begin_force(self, only: str | None = None) -> None:
        """Have everything read again and every key rewritten; one that is under way goes on instead.

        `only`: the pages and the lists of that part.
        """

        def question(db: Connection) -> bool:
            if only is not None:
                work.force_all(db, only)
                records.rewrite(db, kinds=("index",), owner_id=only)
                return True
            if meta.get(db, Fact.FORCE_STARTED_AT) is not None:
                return False
            meta.put(db, Fact.FORCE_STARTED_AT, self._clock.now().timestamp())
            work.force_all(db)
            return True

        began = await self._ledger.call(question)
        log.info("full sync " + ("begins" if began else "goes on"), action="force")

    async def end_force(self) -> None:
        """When every page was read again, have the lists rewritten too: then the full sync is over."""

        def question(db: Connection) -> bool:
            if meta.get(db, Fact.FORCE_STARTED_AT) is None or work.forced_left(db):
                return False
            records.rewrite(db, kinds=("index", "database"))
            meta.put(db, Fact.FORCE_STARTED_AT, None)
            return True

        if await self._ledger.call(question):
            log.info("full sync is over", action="force_done")

    def can_go_on(self) -> bool:
        """Whether another cycle right away could do something: nobody told us to wait."""
        paused = self.publisher.is_paused or not self.lease.is_entitled
        return not self.reader.gave_up and self.reader.stopped_by is None and not paused

    async def is_read(self, only: str | None = None) -> bool:
        """Whether nothing is left (in one part of the site) that could be read now."""
        left = await self._ledger.call(work.due, self._api.notion_now(), 1, only=only)
        return not left and not self.reader.in_flight and self._inquiring is None

    async def is_done(self, only: str | None = None) -> bool:
        """Whether nothing is left (in one part of the site) that could be done now."""

        def question(db: Connection) -> bool:
            left = work.due(db, self._api.notion_now(), 1, only=only)
            return not left and not self._writable(db)

        return not self.reader.in_flight and self._inquiring is None and await self._ledger.call(question)

    async def republish(self, *, everything: bool = True) -> int:
        """Write what the ledger holds, without a request to Notion. Out: how many keys. Raises KVError."""
        self.lease.may_claim = lambda: True
        # Nothing is copied meanwhile, so there is nothing to wait for.
        site, _ = await self._ledger.call(self.compose, self._api.notion_now(), hold=False)
        if everything:
            await self._ledger.call(records.rewrite)
        count = 0
        while True:
            # Taking the store may show that it is another one, and that there is more to write.
            done = await self.publisher.publish(site)
            if self.publisher.error is not None:
                raise self.publisher.error
            if not done.batches:
                return count
            count += done.written.total()

    async def is_published(self) -> bool:
        """Whether the store holds what the ledger says it should, but for what the store refuses."""
        is_old = self.changed or self.waits_for_files
        return not is_old and not await self._ledger.call(self._writable)

    def _writable(self, db: Connection) -> bool:
        """Whether there is a key to write now: some wait for the copies of their files."""
        rows = records.pending(db, self._clock.now().timestamp())
        return bool(rows if self.site is None else writable(self.site, rows))

    @property
    def waits_for_files(self) -> bool:
        """Whether pages wait to be published until their new files are copied."""
        return self.site is not None and bool(self.site.held)

    async def shortfall(self, *, reading: bool = True) -> str | None:
        """Why the site is not in step although nothing more can be done now, for people; None: it is.

        `reading`: what could not be read counts too.
        """
        if self.on_standby:
            return "Another daemon has taken the key-value store over: it writes now."
        if self.publisher.problem:
            return self.publisher.problem
        unread = await self._ledger.call(self._unread) if reading else None
        waiting = await self._ledger.call(records.pending_count)
        return unread or (f"{waiting} keys could not be written; `status` says more." if waiting else None)

    def _unread(self, db: Connection) -> str | None:
        for source in sources.sources(db):
            if source.problem and not source.retired:
                return f"Source {source.name}: {source.problem}"
        for row in sources.data_sources(db):
            if row.problem and row.configured:
                return f"Data source {row.id}: {row.problem}"
        if failing := work.backlog(db, self._api.notion_now()).failing:
            return f"{failing} pages could not be read; `status` says which and why."
        return None

    async def keep(self, summary: Summary) -> None:
        """Log a cycle in one line and keep it for people. Idle ones are not worth a row."""
        log.info("cycle", action="cycle", **summary.as_dict())
        if not summary.is_idle:
            await self._ledger.call(cycles.keep, summary.started_at, summary.as_dict())

    @property
    def on_standby(self) -> bool:
        return self.lease.standing is Standing.STANDBY

    async def _is_all_there(self) -> bool:
        """Whether the whole site has been read and written."""
        waiting = await self._ledger.call(records.pending_count, refused=False)
        return not (waiting or self.waits_for_files) and await self.first_sync_done()

    async def first_sync_done(self) -> bool:
        """Whether everything was read once since this ledger began; remembered when it is."""

        def question(db: Connection) -> bool:
            if meta.get(db, Fact.FIRST_SYNC_AT) is not None:
                return True
            if self.waits_for_files:
                return False
            listed = all(row.listed_date is not None or row.attempts for row in sources.data_sources(db))
            configured = [row for row in sources.sources(db) if not row.retired]
            known = bool(configured) and all(row.kind is not None or row.attempts for row in configured)
            resolved = all(
                row.data_source_ids is not None or row.skipped or row.attempts
                for row in sources.databases(db)
            )
            left = work.backlog(db, self._api.notion_now())
            if not (listed and known and resolved) or left.unread:
                return False
            if records.pending_count(db, refused=False):
                return False
            meta.put(db, Fact.FIRST_SYNC_AT, self._clock.now().timestamp())
            return True

        return await self._ledger.call(question)
