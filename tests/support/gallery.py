"""A whole daemon with its HTTP server on a small site full of files, with a clock that is driven by hand."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from daemon.app import App
from daemon.clock import DrivenClock
from daemon.config import load_settings
from daemon.demo import blocks as b
from daemon.demo.sandbox import RequestRecord, Sandbox
from daemon.demo.workspace import Workspace
from daemon.ledger import assets
from daemon.notion.connections import ssl_context
from daemon.web.server import Server
from tests.support.redis_server import free_port

SECRET = "correct-horse-battery-staple"
HOUR = 3600.0
DAY = 86_400.0
TO_SETTLE_SECONDS = 400.0


@dataclass
class Gallery:
    """The parts. The schedule does not run: tests say when a cycle is due, and wait until files are copied."""

    settings: dict[str, str]
    sandbox: Sandbox
    clock: DrivenClock
    source: str
    url: str
    http: httpx.AsyncClient
    app: App = field(init=False)
    inner: str = ""
    """A database inside a page, where a test made one."""

    @property
    def workspace(self) -> Workspace:
        return self.sandbox.workspace

    @property
    def folder(self) -> Path:
        """Where copies lie."""
        return Path(self.settings["DATA_DIR"]) / "assets" / "files"

    async def start(self) -> None:
        """A daemon starts, from the ledger that is there."""
        self.app = App(load_settings(self.settings), self.clock)
        await self.app.open()

    async def kill(self) -> None:
        """The process dies: what is under way is neither finished nor given back."""
        await self.app.cycle.abandon()
        await self.app.files.close()
        await self.app.api.close()
        await self.app.kv.close()
        await self.app.ledger.close()

    async def cycle(self, *, look: bool = True) -> int:
        """One cycle. Out: how many batches were written."""
        return (await self.app.cycle.run(self.clock.monotonic() + 15.0, look=look)).batches

    async def publish(self) -> int:
        """Look, copy and write until nothing is left to do. Out: how many batches were written."""
        app, batches = self.app, await self.cycle()
        for _ in range(50):
            await app.files.copier.drain()
            batches += await self.cycle(look=False)
            quiet = app.files.copier.is_idle and not app.cycle.changed and not app.cycle.waits_for_files
            if quiet and await app.cycle.is_done():
                return batches
        raise AssertionError("the daemon does not come to rest")

    async def settle(self) -> int:
        """Publish, wait until every read can be trusted, read again."""
        batches = await self.publish()
        self.clock.advance(TO_SETTLE_SECONDS)
        return batches + await self.publish()

    def add(self, title: str, *blocks: dict[str, Any], **more: Any) -> str:
        """A page. Out: its id."""
        slug = title.lower().replace(" ", "-")
        return self.workspace.add_row(self.source, title, {"slug": slug}, blocks=list(blocks), **more)

    def put_image(self, page: str, name: str) -> str:
        """Another image at the end of a page. Out: its block."""
        return self.workspace.append_blocks(page, [b.image(hosted=name)])[0]

    def replace_file(self, block: str, name: str) -> None:
        """Somebody drops another file onto an image: its address has another path."""
        self.clock.advance(HOUR)
        self.workspace.update_block(block, {"type": "file", "file": {"name": name}})

    async def text(self, key: str) -> str:
        """What a reader of the store gets."""
        return await self.app.kv.get(key) or ""

    async def value(self, key: str) -> Any:
        return json.loads(await self.text(key))

    async def image(self, slug: str, position: int = 0) -> dict[str, Any]:
        """An image block of a published page."""
        blocks = (await self.value(f"page:{slug}"))["blocks"]
        found: dict[str, Any] = [block for block in blocks if block["type"] == "image"][position]
        return found

    async def image_url(self, slug: str, position: int = 0) -> str:
        url: str = (await self.image(slug, position))["image"]["file"]["url"]
        return url

    async def all_texts(self) -> str:
        """Everything in the store."""
        keys = [key async for key in self.app.kv.scan("*")]
        return "\n".join([await self.text(key) for key in keys])

    @property
    def downloads(self) -> list[RequestRecord]:
        """The requests for files that Notion's file host got."""
        return self.sandbox.downloads

    def copies(self) -> list[Path]:
        """The files in the local store."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    async def counts(self) -> dict[str, int]:
        """How many files are copied, waiting, failed, refused."""
        store = self.app.files.store
        return await self.app.ledger.call(assets.counts, store.id if store else None)


@asynccontextmanager
async def a_gallery(
    folder: Path,
    *,
    settings: Mapping[str, str] | None = None,
    build: Callable[[Gallery], None] = lambda _: None,
) -> AsyncIterator[Gallery]:
    """A site with one source, and a daemon that serves and has read nothing yet. It is reachable from outside."""
    clock = DrivenClock()
    sandbox = Sandbox(clock=clock, seed=11)
    home = sandbox.workspace.create_page(None, "Home")
    database, source = sandbox.workspace.create_database(
        home, "Pages", {"slug": "rich_text", "Files": "files"}
    )
    port = free_port()
    async with sandbox.serve() as notion_url:
        environment = {
            "NOTION_TOKEN": "ntn_sandbox",
            "NOTION_BASE_URL": notion_url,
            "NOTION_PAGES_DB": database,
            "NOTION_REQUESTS_PER_MINUTE": "100000",
            "EMBEDDED_KV": "1",
            "DATA_DIR": str(folder / "data"),
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "PUBLIC_URL": f"http://127.0.0.1:{port}",
            "CRON_SECRET": SECRET,
            **(settings or {}),
        }
        environment = {name: value for name, value in environment.items() if value}
        async with httpx.AsyncClient(timeout=20.0, verify=ssl_context()) as http:
            gallery = Gallery(environment, sandbox, clock, source, f"http://127.0.0.1:{port}", http)
            build(gallery)
            clock.advance(HOUR)
            await gallery.start()
            try:
                async with Server(gallery.app).serving():
                    yield gallery
            finally:
                await gallery.app.close()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something to come true."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def path_of(url: str) -> str:
    """The path of an address."""
    return urlsplit(url).path
