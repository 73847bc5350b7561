"""All that one daemon does about the files that Notion hosts, as its parts and settings make it."""

import asyncio
from pathlib import Path

from sqlalchemy import Connection

from daemon import jsontext
from daemon.assets.copier import Copier, clear_leftovers
from daemon.assets.fetch import Fetcher
from daemon.assets.fresh import FreshAddresses
from daemon.assets.hosts import FileHosts
from daemon.assets.remote import BlobStore
from daemon.assets.room import Room
from daemon.assets.store import LocalStore, Store
from daemon.clock import Clock
from daemon.config import Settings
from daemon.ledger import assets, meta
from daemon.ledger.ledger import Ledger
from daemon.ledger.meta import Fact
from daemon.notion.api import NotionApi
from daemon.notion.files import hosted_files
from daemon.site.files import FileLinks

LEAST_ROOM_BYTES = 256 * 1024 * 1024
"""So many bytes may lie in the data folder on their way to a store; one file may be larger."""
DAY_SECONDS = 86_400.0
TIDY_SECONDS = 3600.0


class Files:
    """`links`: the addresses that bundles hold; `fresh`, `store`: what readers are led to; `copier`: the work."""

    def __init__(self, settings: Settings, api: NotionApi, ledger: Ledger, clock: Clock) -> None:
        setting = settings.assets
        self._setting = setting
        self._ledger = ledger
        self._clock = clock
        self._spool = settings.data_dir / "assets" / "spool"
        self._tidied_at = float("-inf")
        self._tidying: asyncio.Task[int] | None = None
        self.links = FileLinks(setting.mode, settings.public_url)
        self.store: Store | None = open_store(settings) if setting.mode == "mirror" else None
        self.fresh = FreshAddresses(api, ledger)
        room = Room(max(setting.max_bytes, LEAST_ROOM_BYTES))
        fetcher = Fetcher(FileHosts(settings.notion_base_url), self._spool, setting.max_bytes, room)
        self.fetcher = fetcher
        self.copier = Copier(ledger, self.fresh, fetcher, self.store, clock)

    @property
    def are_off(self) -> bool:
        """Whether bundles hold Notion's own addresses."""
        return self._setting.mode == "off"

    async def open(self) -> None:
        """Bring what the ledger knows up to date with the settings. Raises LedgerError."""
        await self._ledger.call(find_files_of_old_reads)
        if not self.are_off:
            await self._ledger.call(assets.try_refused_again)
            await asyncio.to_thread(clear_leftovers, self._spool, self._clock)

    def poke(self) -> None:
        """A page was read, or time went by: there may be something to copy, or to remove."""
        if self.are_off or not self.copier.may_work():
            return
        self.copier.poke()
        now = self._clock.monotonic()
        if now - self._tidied_at >= TIDY_SECONDS and (self._tidying is None or self._tidying.done()):
            self._tidied_at = now
            self._tidying = asyncio.create_task(self.tidy(), name="tidy files")

    async def tidy(self) -> int:
        """Remove what nothing has shown for the days of grace. Out: how many copies."""
        return await self.copier.tidy(self._setting.grace_days * DAY_SECONDS)

    async def close(self) -> None:
        """Abandon what is under way and close everything."""
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.gather(self._tidying, return_exceptions=True)
        await self.copier.stop()


def open_store(settings: Settings) -> Store:
    """The store that the settings name."""
    setting = settings.assets
    if setting.store == "local":
        return LocalStore(local_folder(settings.data_dir))
    if setting.store == "blob":
        return BlobStore(setting)
    from daemon.assets.bucket import BucketStore  # noqa: PLC0415 - it needs memory that most daemons do not

    return BucketStore(setting)


def local_folder(data_dir: Path) -> Path:
    """Where the local store keeps its files."""
    return data_dir / "assets" / "files"


def find_files_of_old_reads(db: Connection) -> None:
    """Once, in a ledger that an older version wrote: look through what it read for the files that pages show."""
    if meta.get(db, Fact.FILES_KNOWN):
        return
    for page_id, read_date, content in assets.old_reads(db):
        snapshot = jsontext.unpack(content)
        files = hosted_files(snapshot["page"], snapshot["blocks"])
        if files:
            assets.store_uses(db, page_id, files, read_date)
    meta.put(db, Fact.FILES_KNOWN, True)
