"""A daemon that is subscribed to the sandbox's webhooks: events travel over HTTP, and time is driven by hand."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from daemon import jsontext
from daemon.clock import DrivenClock
from daemon.demo import blocks as b
from daemon.demo.habits import Habits
from daemon.demo.sandbox import RequestRecord
from daemon.demo.webhooks import Subscription
from daemon.demo.workspace import Workspace
from daemon.sync.hints import Hints
from daemon.sync.inbox import LOOK_AGAIN_SECONDS
from tests.support.web import Daemon, a_daemon
from tests.support.world import OLD, texts

PATIENCE_SECONDS = 30.0
TOKEN = "secret_0123456789abcdefghijABCDEFGHIJ0123456789abc"
BLIND = Habits(search_forgets=1.0, query_lag_seconds=10_000.0)
"""Search forgets everything and queries lag for hours: only an event can tell in time."""


DATABASE = "0ef104cd-477e-80e1-8571-cfd10e92339a"
SCHEMA = {"slug": "rich_text"}
SETTINGS = {
    "NOTION_WEBHOOK_VERIFICATION_TOKEN": TOKEN,
    "POLL_INTERVAL_SECONDS": "3600",
    "NOTION_PAGES_DB": DATABASE,
    "NOTION_POSTS_DB": "",
}


class Small:
    """A small site: rows, a page with a child and a grandchild, and a database with two rows inside a page."""

    def __init__(self, workspace: Workspace, rows: int) -> None:
        home = workspace.create_page(None, "Home of pages")
        _, self.source = workspace.create_database(home, "Pages", SCHEMA, database_id=DATABASE)
        text = [b.paragraph("one")]
        self.rows = [workspace.add_row(self.source, f"Row {n}", blocks=text) for n in range(rows)]
        self.parent = workspace.add_row(self.source, "Parent", {"slug": "parent"}, blocks=text)
        self.child = workspace.create_page(self.parent, "Child", blocks=text)
        self.grandchild = workspace.create_page(self.child, "Grandchild", blocks=text)
        self.jobs, self.job_rows = workspace.create_database(self.parent, "Jobs", SCHEMA)
        self.job_pages = [workspace.add_row(self.job_rows, f"Job {n}", blocks=text) for n in range(2)]
        self.pages = [*self.rows, self.parent, self.child, self.grandchild, *self.job_pages]


@dataclass
class Subscribed:
    """A daemon in step with a small site, and the subscription that tells it of edits from now on."""

    daemon: Daemon
    small: Small
    subscription: Subscription

    @property
    def workspace(self) -> Workspace:
        return self.daemon.sandbox.workspace

    async def tell(self) -> list[int]:
        """Notion delivers what it has to tell, and the daemon looks at it. Out: the statuses of the answers."""
        statuses = await self.subscription.deliver()
        await self.look()
        return statuses

    async def look(self) -> None:
        """What was pointed at is looked at, and what is due is read, without looking for changes."""
        hints, cycle = self.daemon.app.hints, self.daemon.app.cycle
        await hints.attend()
        await settled(hints)
        await self.daemon.cycle(look=False)
        while not await cycle.is_done():
            await self.daemon.cycle(look=False)

    def later(self) -> None:
        """Time passes until everything may be looked at again."""
        self.daemon.clock.advance(LOOK_AGAIN_SECONDS + 0.1)

    async def published(self, key: str) -> dict[str, Any] | None:
        """What a reader of the store gets."""
        text = await self.daemon.app.kv.get(key)
        return None if text is None else jsontext.loads(text)

    async def said(self, page: str) -> list[str]:
        """The texts of a page's key, wherever it stands; nothing when it has none."""
        for key in await self.daemon.page_keys():
            bundle = await self.published(key)
            if bundle is not None and bundle["meta"]["notionId"] == page:
                return [str(bundle["meta"]["title"]), *(text for text in texts(bundle["blocks"]) if text)]
        return []

    @asynccontextmanager
    async def counted(self) -> AsyncIterator[list[RequestRecord]]:
        """The requests that Notion gets while the block runs."""
        before, seen = len(self.daemon.sandbox.requests), list[RequestRecord]()
        yield seen
        seen.extend(self.daemon.sandbox.requests[before:])

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """The daemon's loops run beside the block, and have nothing to do when it begins."""
        app, turned = self.daemon.app, asyncio.Event()
        app.schedule.on_cycle = lambda _: turned.set()
        loops = [asyncio.create_task(app.schedule.run()), asyncio.create_task(app.hints.run())]
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await turned.wait()
                await until(app.cycle.is_done)
                yield
        finally:
            for loop in loops:
                loop.cancel()
            await asyncio.gather(*loops, return_exceptions=True)


@asynccontextmanager
async def subscribed(folder: Path, rows: int = 3) -> AsyncIterator[Subscribed]:
    """Everything is read and settled."""
    async with a_daemon(folder, settings=SETTINGS) as daemon:
        small = Small(daemon.sandbox.workspace, rows)
        daemon.clock.advance(OLD)
        await daemon.catch_up()
        subscription = daemon.sandbox.subscribe(f"{daemon.url}/webhooks/notion")
        subscription.token = TOKEN
        yield Subscribed(daemon, small, subscription)


async def settled(hints: Hints) -> None:
    """What had to be asked for has been."""
    for task in (hints._asking, hints._listing):
        if task is not None:
            await task
    if hints._listing is not None:
        await hints._listing  # asking may have begun it


class HeldClock:
    """The time of a clock that is driven by hand; whoever sleeps waits until somebody drives it so far."""

    def __init__(self, clock: DrivenClock) -> None:
        self._clock = clock

    def now(self) -> datetime:
        return self._clock.now()

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def sleep_until(self, monotonic_seconds: float) -> None:
        while self._clock.monotonic() < monotonic_seconds:
            await asyncio.sleep(0.005)


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Look again in small steps until it has come true, for a bounded time."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await is_so():
            await asyncio.sleep(0.005)
