"""What the daemon measures, in Prometheus' text format: numbers alone, no titles, no slugs, no ids.

Most of it is read from the parts at the moment of the scrape, so that nothing is counted twice.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from daemon import __version__
from daemon.ledger import links, meta, records, work
from daemon.ledger.ledger import LedgerError
from daemon.ledger.meta import Fact
from daemon.ledger.work import Backlog
from daemon.meters import PREFIX, Outcome
from daemon.status import NOT_TYPES, Parts, brief
from daemon.sync.lease import Standing

FRESH_SECONDS = 1.0
"""Scrapes within this time share one answer: whoever scrapes all the time holds up neither ledger nor loop."""

Labels = Mapping[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """What only the ledger knows. `swept_at`: on Notion's clock, None before the first whole sweep."""

    pages: Backlog
    waiting: int
    refused: int
    held: int
    swept_at: float | None


def ledger_facts(db: Connection, notion_now: float) -> LedgerFacts:
    """Counts, in one transaction; nothing is written."""
    waiting = records.pending_count(db)
    return LedgerFacts(
        pages=work.backlog(db, notion_now),
        waiting=waiting,
        refused=waiting - records.pending_count(db, refused=False),
        held=len(links.held_links(db)),
        swept_at=meta.get(db, Fact.SWEPT_AT),
    )


class Metrics:
    """The text of one daemon, on a registry of its own."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._collector = _Collector(parts)
        self._registry = CollectorRegistry()
        self._registry.register(self._collector)
        ProcessCollector(registry=self._registry)
        self._scrape: asyncio.Task[bytes] | None = None
        self._scraped_at = float("-inf")

    async def text(self) -> bytes:
        """A scrape, at most a second old."""
        now = self._parts.clock.monotonic()
        if self._scrape is None or (self._scrape.done() and now - self._scraped_at >= FRESH_SECONDS):
            self._scraped_at = now
            self._scrape = asyncio.create_task(self._measure(), name="scrape")
        return await asyncio.shield(self._scrape)

    async def _measure(self) -> bytes:
        parts = self._parts
        try:
            self._collector.facts = await parts.ledger.call(ledger_facts, parts.api.notion_now())
        except LedgerError:
            self._collector.facts = None
        return generate_latest(self._registry)


class _Collector(Collector):
    """Reads the parts. `facts`: what the ledger said; None when it cannot be read, then its numbers are left out."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.facts: LedgerFacts | None = None

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing is asked for before the first scrape

    def collect(self) -> Iterator[Metric]:
        yield _gauge("build_info", "The running version; always 1.", {(__version__,): 1}, "version")
        yield from self._state()
        yield from self._cycles()
        yield from self._notion()
        yield from self._store()
        yield from self._site()
        yield _gauge("ledger_readable", "Whether the ledger answered this scrape.", self.facts is not None)
        if self.facts is not None:
            yield from self._ledger(self.facts)

    def _state(self) -> Iterator[Metric]:
        known, vitals = brief(self._parts), self._parts.vitals
        now = self._parts.clock.monotonic()
        success = vitals.started_at if vitals.last_success is None else vitals.last_success
        yield _gauge("healthy", "Whether /health answers 200.", known["healthy"])
        yield _gauge("ready", "Whether the first sync has completed.", known["ready"])
        yield _gauge(
            "last_success_age_seconds",
            "Time since a cycle succeeded; since the start where none has.",
            now - success,
        )
        yield _gauge("poll_interval_seconds", "How often changes are looked for now.", vitals.poll_seconds)
        yield _gauge("sweep_interval_seconds", "How often everything is compared now.", vitals.sweep_seconds)

    def _cycles(self) -> Iterator[Metric]:
        meters = self._parts.vitals.meters
        outcomes: Labels = {(outcome.value,): float(meters.cycles[outcome]) for outcome in Outcome}
        yield _counter("cycles", "Cycles by how they ended.", outcomes, "outcome")
        yield from _histogram(meters.cycle_seconds)
        yield from _histogram(meters.edit_seconds)

    def _notion(self) -> Iterator[Metric]:
        api = self._parts.api
        asked: Labels = {key: float(count) for key, count in api.requests_by_endpoint.items()}
        yield _counter(
            "notion_requests",
            "Requests to Notion by endpoint and class of the answer's status (none: no answer).",
            asked,
            "endpoint",
            "status",
        )
        limiter = api.limiter
        yield _gauge("notion_budget_requests", "Requests a minute by the settings.", limiter.budget)
        yield _gauge(
            "notion_budget_effective_requests",
            "Requests a minute as repeated refusals have left them.",
            limiter.effective_budget,
        )
        yield _gauge("notion_budget_left_requests", "Of these, not spent at present.", limiter.budget_left)
        yield _counter("notion_refusals", "Answers 429 and 529.", limiter.refusals)
        yield _counter(
            "notion_paused_seconds", "Time in which Notion was not asked for it.", limiter.paused_seconds
        )

    def _store(self) -> Iterator[Metric]:
        kv, standing = self._parts.kv, self._parts.cycle.lease.standing
        yield _counter("kv_commands", "Commands to the key-value store.", kv.commands)
        yield _counter("kv_sent_bytes", "Bytes of keys and values sent to be written.", kv.bytes_written)
        standings: Labels = {(one.value,): float(one is standing) for one in Standing}
        yield _gauge("kv_standing", "1 at what this daemon is to the store.", standings, "standing")

    def _site(self) -> Iterator[Metric]:
        counted = self._parts.cycle.site.counts if self._parts.cycle.site is not None else {}
        types: Labels = {(name,): float(count) for name, count in counted.items() if name not in NOT_TYPES}
        yield _gauge("site_pages", "Published pages by type.", types, "type")
        yield _gauge("site_keys", "Keys that the site should have.", counted.get("keys", 0))

    def _ledger(self, facts: LedgerFacts) -> Iterator[Metric]:
        pages = facts.pages
        yield _gauge("pages_known", "Pages the ledger knows.", pages.total)
        yield _gauge("pages_unread", "Of these, never read and never tried.", pages.unread)
        yield _gauge("pages_due", "Of these, to be read now.", pages.due)
        yield _gauge(
            "pages_to_settle", "Of these, to be read again when their stamp can be trusted.", pages.later
        )
        yield _gauge("pages_failing", "Of these, whose last reading failed.", pages.failing)
        yield _gauge("keys_waiting", "Keys that differ from what they should hold.", facts.waiting)
        yield _gauge("keys_refused", "Of these, refused by the store.", facts.refused)
        yield _gauge("removals_held", "Removals that wait for confirm-removals.", facts.held)
        if facts.swept_at is not None:
            age = max(0.0, self._parts.api.notion_now() - facts.swept_at)
            yield _gauge("last_sweep_age_seconds", "Time since the last whole sweep began.", age)


def _gauge(name: str, told: str, value: float | Labels, *labels: str) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", told, labels=labels)
    return _filled(family, value)


def _counter(name: str, told: str, value: float | Labels, *labels: str) -> Metric:
    family = CounterMetricFamily(f"{PREFIX}_{name}", told, labels=labels)
    return _filled(family, value)


def _filled(family: GaugeMetricFamily | CounterMetricFamily, value: float | Labels) -> Metric:
    values = {(): float(value)} if isinstance(value, int | float) else value
    for labels, number in sorted(values.items()):
        family.add_metric(list(labels), number)
    return family


def _histogram(histogram: Histogram) -> Iterator[Metric]:
    """Without the moment of its making, which the library adds and nobody here needs."""
    for family in histogram.collect():
        family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
        yield family
