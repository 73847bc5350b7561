"""Builds the parts, starts them, waits, stops them. The order in which things end is visible here and nowhere else."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy import Connection

from daemon import __version__, jsontext, log
from daemon.alarm import Alarm
from daemon.assets import Files
from daemon.clock import Clock, SystemClock
from daemon.config import Settings
from daemon.errand import Errand
from daemon.handshakes import Handshakes
from daemon.kv.base import KV
from daemon.kv.embedded import EmbeddedKV
from daemon.ledger import publishing, sources
from daemon.ledger.ledger import Ledger
from daemon.notion.api import NotionApi
from daemon.outgoing import Outgoing
from daemon.presence import Presence
from daemon.revalidate import Revalidation
from daemon.schedule import Schedule
from daemon.status import brief
from daemon.sync.cycle import Cycle
from daemon.sync.edit_lag import EditLag
from daemon.sync.hints import Hints
from daemon.sync.plan import Trust
from daemon.vitals import Vitals
from daemon.web.server import Server

SWITCH_SECONDS = 0.001
"""How long the ledger's thread may compute while the event loop wants its turn, which it asks for several times a
request. At Python's own five milliseconds, working out a large site would hold up every answer many times over."""
STOP_SECONDS = 8.0
"""How long a stop may take in all; hosts send SIGKILL after about ten seconds."""
TELL_SECONDS = 30.0
"""How long a command tells the site what it changed; what is left, the next daemon or command tells."""

logger = structlog.get_logger(__name__)


class App:
    """All parts of one daemon. `open` before use, `close` after; `run` is the daemon itself."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.ledger = Ledger(settings.ledger_database_url.get_secret_value())
        self.kv = open_kv(settings)
        self.api = NotionApi(
            token=settings.notion_token.get_secret_value(),
            base_url=settings.notion_base_url,
            version=settings.notion_version,
            requests_per_minute=settings.notion_requests_per_minute,
            clock=self.clock,
        )
        trust = Trust(
            settings.edit_granularity_seconds, settings.settle_slack_seconds, settings.feed_lag_seconds
        )
        self.cycle = Cycle(self.api, self.ledger, self.kv, trust, self.clock, settings.heartbeat_seconds)
        self.files = Files(settings, self.api, self.ledger, self.clock)
        self.vitals = Vitals(
            self.clock.monotonic(), settings.poll_interval_seconds, settings.sweep_interval_seconds
        )
        self.schedule = Schedule(self.cycle, self.api, self.ledger, settings, self.clock, self.vitals)
        self.jobs = self.schedule.jobs
        self.hints = Hints(self.api, self.ledger, self.cycle, self.clock, self.schedule.wake)
        self.handshakes = Handshakes(self.ledger, self.clock, settings.notion_webhook_verification_token)
        daemon_id, beat = self.cycle.lease.daemon_id, settings.heartbeat_seconds
        self.presence = Presence(self.ledger, self.clock, daemon_id, beat)
        self.presence.is_on_standby = lambda: self.cycle.on_standby
        self.cycle.lease.on_standing = self.presence.tell
        self.outgoing = Outgoing()
        self.revalidation = self._revalidation()
        self.alarm = self._alarm()
        self.errands = self._errands()
        self._connect_files()
        self.cycle.lease.status_text = self._status_text
        self.cycle.lease.may_claim = lambda: self.api.has_answered
        self.edit_lag = EditLag()
        self.cycle.publisher.on_publish = self.edit_lag.follow
        self.cycle.publisher.on_written.append(self._measure_lag)

    async def open(self) -> None:
        """Open the ledger and look whose store it is. Raises LedgerError."""
        for secret in self.settings.secret_values():
            log.register_secret(secret)
        await self.ledger.open()
        await self.hints.open()
        await self.handshakes.open()
        await self.follow_settings()
        await self.ledger.call(publishing.renew_cards)
        await self.files.open()
        await self.cycle.start()

    async def follow_settings(self) -> None:
        """Make the ledger's sources those of the settings."""
        wanted = [(source.name, source.ref) for source in self.settings.sources]

        def follow(db: Connection) -> None:
            sources.follow_settings(db, wanted)
            publishing.follow_rules(db, self.settings.publish_rules)

        await self.ledger.call(follow)

    async def tell_site(self) -> None:
        """For who runs no errands: tell the site what it is owed, for a bounded time."""
        if self.revalidation is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(TELL_SECONDS):
                    await self.revalidation.turn()

    async def close(self) -> None:
        """Give the store back and end the errands, then close everything that `open` and the work opened."""
        await asyncio.gather(self.cycle.stop(), *(errand.stop() for errand in self.errands))
        await self.files.close()
        await self.outgoing.close()
        await self.presence.leave()
        await self.api.close()
        await self.kv.close()
        await self.ledger.close()

    async def run(self, stop: asyncio.Event) -> None:
        """The daemon: serves and works until `stop` is set, then ends cleanly within a bounded time.

        Raises OSError when the port cannot be had, LedgerError, and whatever ends the loop of the schedule.
        """
        sys.setswitchinterval(SWITCH_SECONDS)
        async with Server(self).serving() as address:
            await self.presence.arrive()
            logger.info(
                "started",
                action="started",
                version=__version__,
                address=address,
                store=self.kv.name,
                sources=[source.name for source in self.settings.sources],
                warnings=list(self.settings.all_warnings),
            )
            for errand in self.errands:
                errand.start()
            working = asyncio.create_task(self.schedule.run(), name="schedule")
            attending = asyncio.create_task(self.hints.run(), name="hints")
            stopping = asyncio.create_task(stop.wait(), name="stop")
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            attending.cancel()
            self.schedule.stop()
            await self._finish(working)
            await asyncio.gather(attending, return_exceptions=True)
        logger.info("stopped", action="stopped")

    async def _finish(self, working: asyncio.Task[None]) -> None:
        """Let the turn that runs end by itself for a while, then abandon it: the ledger has the rest."""
        self.cycle.hurry()
        await asyncio.wait({working}, timeout=STOP_SECONDS / 2)
        while not working.done():
            working.cancel()  # and again: what it does in the end, such as to write what is there, may hang as well
            await asyncio.wait({working}, timeout=STOP_SECONDS / 8)
        result = (await asyncio.gather(working, return_exceptions=True))[0]
        if isinstance(result, Exception):
            raise result

    def _measure_lag(self, written: Sequence[str]) -> None:
        """Of edits made since the start (or taking over); what a first sync brings is old, however new it is."""
        now = self.api.notion_now()
        looking_since = max(self.vitals.started_at, self.cycle.lease.took_over_at)
        since = now - (self.clock.monotonic() - looking_since)
        lags = self.edit_lag.written(written, now, since)
        for lag in lags if self.vitals.ready else ():
            self.vitals.meters.edit_seconds.observe(lag)

    def _revalidation(self) -> Revalidation | None:
        """What tells the site; None where no site is named."""
        settings, publisher = self.settings, self.cycle.publisher
        if settings.revalidate_url is None:
            return None
        publisher.site_paths = settings.revalidate_paths
        teller = Revalidation(
            self.ledger, self.clock, self.outgoing, settings.revalidate_url, settings.revalidate_secret
        )
        teller.may_tell = lambda: not self.cycle.on_standby
        return teller

    def _alarm(self) -> Alarm | None:
        """What tells the operator; None where nobody is to be told."""
        url = self.settings.sync_failure_webhook
        return Alarm(self, self.ledger, self.outgoing, url) if url else None

    def _errands(self) -> list[Errand]:
        """What is done beside the cycles while the daemon runs."""
        errands = [Errand("alarm", self.alarm.turn, self.clock)] if self.alarm else []
        if self.revalidation is not None:
            telling = Errand("revalidation", self.revalidation.turn, self.clock)
            self.cycle.publisher.on_written.append(lambda _: telling.wake())
            errands.append(telling)
        return errands

    def _connect_files(self) -> None:
        """Copying runs beside the cycles: they tell it what was read, it tells them what was copied."""
        cycle, copier = self.cycle, self.files.copier
        cycle.links = self.files.links
        cycle.on_files = self.files.poke
        copier.may_work = lambda: not (cycle.on_standby or self.files.are_off)
        copier.on_news = cycle.note_change
        copier.on_pause = self.schedule.wake

    def _status_text(self) -> str:
        return jsontext.dumps(brief(self))


def open_kv(settings: Settings) -> KV:
    """The store that the settings name. Only its own client is loaded: importing one takes longer than opening it."""
    kv, prefix = settings.kv, settings.kv_key_prefix
    if kv.kind == "embedded":
        return EmbeddedKV(settings.data_dir / "kv.db", prefix=prefix)
    if kv.kind == "redis":
        from daemon.kv.redis import RedisKV  # noqa: PLC0415

        return RedisKV(kv.url, prefix=prefix)
    from daemon.kv.upstash import UpstashKV  # noqa: PLC0415

    return UpstashKV(kv.url, kv.token.get_secret_value() if kv.token else "", prefix=prefix)


@asynccontextmanager
async def stop_signals(stop: asyncio.Event) -> AsyncIterator[None]:
    """SIGTERM and SIGINT set `stop`; a second one ends the process at once."""
    loop = asyncio.get_running_loop()

    def first() -> None:
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, first)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
