"""Builds the parts, starts them, waits, stops them. The order in which things end is visible here and nowhere else."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from daemon import __version__, jsontext, log
from daemon.assets import Files
from daemon.clock import Clock, SystemClock
from daemon.config import Settings
from daemon.kv.base import KV
from daemon.kv.embedded import EmbeddedKV
from daemon.kv.redis import RedisKV
from daemon.kv.upstash import UpstashKV
from daemon.ledger import sources
from daemon.ledger.ledger import Ledger
from daemon.notion.api import NotionApi
from daemon.presence import Presence
from daemon.schedule import Schedule
from daemon.status import brief
from daemon.sync.cycle import Cycle
from daemon.sync.plan import Trust
from daemon.vitals import Vitals
from daemon.web.server import Server

STOP_SECONDS = 8.0
"""How long a stop may take in all; hosts send SIGKILL after about ten seconds."""

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
        daemon_id, beat = self.cycle.publisher.daemon_id, settings.heartbeat_seconds
        self.presence = Presence(self.ledger, self.clock, daemon_id, beat)
        self.presence.is_on_standby = lambda: self.cycle.on_standby
        self._connect_files()
        self.cycle.publisher.status_text = self._status_text
        self.cycle.publisher.may_claim = lambda: self.api.has_answered

    async def open(self) -> None:
        """Open the ledger and look whose store it is. Raises LedgerError."""
        for secret in self.settings.secret_values():
            log.register_secret(secret)
        await self.ledger.open()
        await self.follow_settings()
        await self.files.open()
        await self.cycle.start()

    async def follow_settings(self) -> None:
        """Make the ledger's sources those of the settings."""
        wanted = [(source.name, source.ref) for source in self.settings.sources]
        await self.ledger.call(sources.follow_settings, wanted)

    async def close(self) -> None:
        """Give the store back, then close everything that `open` and the work opened."""
        await self.cycle.stop()
        await self.files.close()
        await self.presence.leave()
        await self.api.close()
        await self.kv.close()
        await self.ledger.close()

    async def run(self, stop: asyncio.Event) -> None:
        """The daemon: serves and works until `stop` is set, then ends cleanly within a bounded time.

        Raises OSError when the port cannot be had, LedgerError, and whatever ends the loop of the schedule.
        """
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
            working = asyncio.create_task(self.schedule.run(), name="schedule")
            stopping = asyncio.create_task(stop.wait(), name="stop")
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            self.schedule.stop()
            await self._finish(working)
        logger.info("stopped", action="stopped")

    async def _finish(self, working: asyncio.Task[None]) -> None:
        """Let the turn that runs end by itself for a while, then abandon it: the ledger has the rest."""
        self.cycle.hurry()
        done, _ = await asyncio.wait({working}, timeout=STOP_SECONDS / 2)
        if not done:
            working.cancel()
        result = (await asyncio.gather(working, return_exceptions=True))[0]
        if isinstance(result, Exception):
            raise result

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
    """The store that the settings name."""
    kv, prefix = settings.kv, settings.kv_key_prefix
    if kv.kind == "embedded":
        return EmbeddedKV(settings.data_dir / "kv.db", prefix=prefix)
    if kv.kind == "redis":
        return RedisKV(kv.url, prefix=prefix)
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
