"""A whole daemon core against the sandbox over real HTTP, in one process, with a clock that is driven by hand."""

import json
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.clock import DrivenClock
from daemon.demo.habits import Habits
from daemon.demo.sandbox import RequestRecord, Sandbox
from daemon.demo.workspace import Workspace
from daemon.kv.base import KV
from daemon.kv.embedded import EmbeddedKV
from daemon.ledger import publishing, sources
from daemon.ledger.ledger import Ledger
from daemon.notion.api import NotionApi
from daemon.site.rules import Rule
from daemon.sync.cycle import Cycle, Summary
from daemon.sync.plan import Trust

REAL = Trust(granularity_seconds=60.0, slack_seconds=10.0, lag_seconds=300.0)
POLL_SECONDS = 15.0
OLD = 3600.0
"""How far tests move time on to make what they have built old news."""


@dataclass
class World:
    """The parts, and what tests do with them."""

    clock: DrivenClock
    sandbox: Sandbox
    folder: Path
    url: str
    trust: Trust
    requests_per_minute: int
    kv: KV
    sources: list[tuple[str, str]] = field(default_factory=list)
    site_paths: Mapping[str, str] | None = None
    rules: dict[str, Rule] = field(default_factory=dict)
    cycle: Cycle = field(init=False)
    api: NotionApi = field(init=False)
    ledger: Ledger = field(init=False)

    @property
    def workspace(self) -> Workspace:
        return self.sandbox.workspace

    async def start(self) -> None:
        """A daemon starts: from the ledger that is there, or an empty one."""
        self.ledger = Ledger(f"sqlite:///{self.folder / 'ledger.db'}")
        await self.ledger.open()
        await self.ledger.call(sources.follow_settings, self.sources)
        await self.ledger.call(publishing.follow_rules, self.rules)
        await self.ledger.call(publishing.renew_cards)
        self.api = NotionApi(
            token="ntn_sandbox",
            base_url=self.url,
            version="2026-03-11",
            requests_per_minute=self.requests_per_minute,
            clock=self.clock,
            rng=random.Random(1),
        )
        self.cycle = Cycle(self.api, self.ledger, self.kv, self.trust, self.clock, heartbeat_seconds=300.0)
        self.cycle.publisher.site_paths = self.site_paths
        await self.cycle.start()

    async def stop(self) -> None:
        """It ends cleanly."""
        await self.cycle.stop()
        await self.api.close()
        await self.ledger.close()

    async def kill(self) -> None:
        """The process dies: nothing under way is finished, nothing is given back. `start` is the next process."""
        await self.cycle.abandon()
        await self.api.close()
        await self.ledger.close()
        del self.cycle

    def add_source(self, name: str = "pages", schema: dict[str, Any] | None = None) -> str:
        """A configured database, on a page outside the site. Out: its data source."""
        home = self.workspace.create_page(None, f"Home of {name}")
        database, source = self.workspace.create_database(home, name.title(), schema or {"slug": "rich_text"})
        self.sources.append((name, database))
        return source

    async def run(self, *, look: bool = True, only: str | None = None) -> Summary:
        """One cycle, as the schedule runs it."""
        return await self.cycle.run(self.clock.monotonic() + POLL_SECONDS, look=look, only=only)

    async def poll(self, seconds: float = POLL_SECONDS) -> Summary:
        """Let a poll interval pass, then run a cycle."""
        self.clock.advance(seconds)
        return await self.run()

    async def catch_up(self, rounds: int = 200) -> None:
        """Look once, then cycle until nothing is left that could be done now."""
        await self.run()
        for _ in range(rounds):
            if await self.cycle.is_done():
                return
            await self.run(look=False)
        raise AssertionError("the daemon does not come to rest")

    async def settle(self) -> None:
        """Catch up, wait until every read can be trusted, and read again what was too young."""
        await self.catch_up()
        self.clock.advance(self.trust.settles_at(0.0) + 1.0)
        await self.catch_up()

    async def sweep(self) -> None:
        """One whole sweep, a moment later, and what it found."""
        self.clock.advance(2.0)
        await self.cycle.sweep.run()
        self.cycle.changed = True
        await self.catch_up()

    async def value(self, key: str) -> Any:
        """What a reader of the store gets."""
        text = await self.kv.get(key)
        return None if text is None else json.loads(text)

    async def keys(self) -> set[str]:
        """Every key that shows something of the site."""
        aside = ("sync:", "redirect:")
        return {key async for key in self.kv.scan("*") if not key.startswith(aside)}

    async def redirects(self) -> dict[str, str]:
        """Where each former slug leads."""
        keys = [key async for key in self.kv.scan("redirect:*")]
        return {key.removeprefix("redirect:"): (await self.value(key))["to"] for key in keys}

    async def slugs(self) -> set[str]:
        return {key.removeprefix("page:") for key in await self.keys() if key.startswith("page:")}

    @asynccontextmanager
    async def counted(self) -> AsyncIterator[list[RequestRecord]]:
        """The requests that Notion gets while the block runs."""
        before = len(self.sandbox.requests)
        seen: list[RequestRecord] = []
        yield seen
        seen.extend(self.sandbox.requests[before:])


@asynccontextmanager
async def a_world(
    folder: Path,
    *,
    habits: Habits | None = None,
    trust: Trust = REAL,
    requests_per_minute: int = 100_000,
    kv: KV | None = None,
) -> AsyncIterator[World]:
    """A sandbox that serves, and everything of the daemon but its schedule; `start` is the test's to call."""
    clock = DrivenClock()
    sandbox = Sandbox(clock=clock, seed=7, habits=habits or Habits())
    async with sandbox.serve() as url:
        store = kv or EmbeddedKV(folder / "kv.db")
        world = World(clock, sandbox, folder, url, trust, requests_per_minute, store)
        try:
            yield world
        finally:
            if hasattr(world, "cycle"):
                await world.stop()
            await store.close()


def texts(blocks: list[dict[str, Any]]) -> Iterator[str]:
    """The plain text of every block of a bundle, in reading order."""
    for block in blocks:
        content = block.get(block["type"]) or {}
        yield "".join(part["plain_text"] for part in content.get("rich_text") or [])
        yield from texts(block.get("__children") or [])
