"""The daemon under measurement: all its parts, turned by hand instead of by its schedule."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from daemon.app import App
from daemon.clock import Clock
from daemon.config import load_settings
from daemon.sync.cycle import Summary

TOKEN = "ntn_sandbox"
POLL_SECONDS = 15.0


def environment(
    url: str, sources: Mapping[str, str], folder: Path, requests_per_minute: int
) -> dict[str, str]:
    """The settings of a daemon on the sandbox, as it would find them."""
    return {
        "NOTION_TOKEN": TOKEN,
        "NOTION_BASE_URL": url,
        "NOTION_PAGES_DB": sources["pages"],
        "NOTION_POSTS_DB": sources["posts"],
        "NOTION_REQUESTS_PER_MINUTE": str(requests_per_minute),
        "EMBEDDED_KV": "1",
        "DATA_DIR": str(folder),
        "HOST": "127.0.0.1",
        "PORT": "0",
    }


class Ours:
    """Looks, reads and writes when told to. `clock` is the one its parts go by."""

    def __init__(self, app: App, clock: Clock) -> None:
        self.app = app
        self.clock = clock
        self._looked_at = float("-inf")

    async def cycle(self, *, look: bool) -> Summary:
        """One cycle of at most a poll interval."""
        return await self.app.cycle.run(self.clock.monotonic() + POLL_SECONDS, look=look)

    async def first_sync(self) -> int:
        """Cycle after cycle, looking once an interval, until nothing is left. Out: how often it looked."""
        looked = 0
        while True:
            look = self.clock.monotonic() - self._looked_at >= POLL_SECONDS
            if look:
                self._looked_at, looked = self.clock.monotonic(), looked + 1
            await self.cycle(look=look)
            if await self.app.cycle.is_done():
                return looked

    async def catch_up(self) -> None:
        """Look once, then work until nothing is left."""
        await self.cycle(look=True)
        while not await self.app.cycle.is_done():
            await self.cycle(look=False)


@asynccontextmanager
async def ours(
    url: str,
    sources: Mapping[str, str],
    folder: Path,
    clock: Clock,
    requests_per_minute: int = 1_000_000,
    more: Mapping[str, str] | None = None,
) -> AsyncIterator[Ours]:
    """A daemon with an empty ledger and an embedded store in `folder`. `more`: further settings."""
    settings = load_settings({**environment(url, sources, folder, requests_per_minute), **(more or {})})
    app = App(settings, clock)
    await app.open()
    try:
        yield Ours(app, clock)
    finally:
        await app.close()
