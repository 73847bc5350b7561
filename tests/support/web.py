"""A whole daemon with its HTTP server, on a sandbox and a clock that is driven by hand."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from daemon.app import App
from daemon.clock import DrivenClock
from daemon.config import load_settings
from daemon.demo import blocks as b
from daemon.demo.sample import Sample, Table, build
from daemon.demo.sandbox import Sandbox
from daemon.demo.workspace import Workspace
from daemon.sync.cycle import Summary
from daemon.web.server import Server

SECRET = "correct-horse-battery-staple"
TO_SETTLE_SECONDS = 400.0


@dataclass
class Daemon:
    """A daemon that serves. Its schedule does not run: tests say when a cycle is due."""

    app: App
    sandbox: Sandbox
    sample: Sample
    clock: DrivenClock
    url: str
    http: httpx.AsyncClient

    async def cycle(self, *, look: bool = True) -> Summary:
        """One cycle, with what the schedule notes of it."""
        app = self.app
        app.vitals.alive(self.clock.monotonic())
        summary = await app.cycle.run(self.clock.monotonic() + 15.0, look=look)
        await app.cycle.keep(summary)
        app.vitals.cycled(summary, self.clock)
        if await app.cycle.first_sync_done():
            app.vitals.became_ready.set()
        return summary

    async def page_keys(self) -> list[str]:
        """The keys of pages in the store."""
        return [key async for key in self.app.kv.scan("page:*")]

    async def catch_up(self) -> None:
        """Look, then cycle until nothing is left that can be done now."""
        await self.cycle()
        while not await self.app.cycle.is_done():
            await self.cycle(look=False)

    async def settle(self) -> None:
        """Catch up until every read is trusted."""
        await self.catch_up()
        self.clock.advance(TO_SETTLE_SECONDS)
        await self.catch_up()


def a_small_site(workspace: Workspace) -> Sample:
    """Two pages, one above a child page, and ten posts: for tests that need a site, but none in particular."""
    root = workspace.create_page(None, "Small site")
    pages_database, pages = workspace.create_database(root, "Pages", {"slug": "rich_text"})
    posts_database, posts = workspace.create_database(root, "Posts", {"slug": "rich_text"})
    home = workspace.add_row(pages, "Home", {"slug": "/"}, blocks=[b.paragraph("Welcome")])
    about = workspace.add_row(pages, "About", {"slug": "about"}, blocks=[b.paragraph("Us")])
    workspace.create_page(about, "Founders", blocks=[b.paragraph("Two of them")])
    written = {f"post-{n}": workspace.add_row(posts, f"Post {n}", {"slug": f"post-{n}"}) for n in range(10)}
    none = Table("", "")
    return Sample(
        root=root,
        pages_database=pages_database,
        pages_data_source=pages,
        posts_database=posts_database,
        posts_data_source=posts,
        pages={"home": home, "about": about},
        posts=written,
        team=none,
        jobs=none,
        projects=none,
        linked_database="",
        synced_original="",
        synced_pages=(),
        unshared_page="",
    )


@asynccontextmanager
async def a_daemon(
    folder: Path,
    *,
    secret: str | None = SECRET,
    settings: Mapping[str, str] | None = None,
    site: Callable[[Workspace], Sample] = build,
) -> AsyncIterator[Daemon]:
    """The sample site, a daemon that has read nothing of it yet, and a client of the daemon's server."""
    clock = DrivenClock()
    sandbox = Sandbox(clock=clock, seed=7)
    sample = site(sandbox.workspace)
    async with sandbox.serve() as notion_url:
        environment = {
            "NOTION_TOKEN": "ntn_sandbox",
            "NOTION_BASE_URL": notion_url,
            "NOTION_PAGES_DB": sample.pages_database,
            "NOTION_POSTS_DB": sample.posts_database,
            "NOTION_REQUESTS_PER_MINUTE": "100000",
            "EMBEDDED_KV": "1",
            "DATA_DIR": str(folder),
            "HOST": "127.0.0.1",
            "PORT": "0",
            **({} if secret is None else {"CRON_SECRET": secret}),
            **(settings or {}),
        }
        app = App(load_settings(environment), clock)
        try:
            await app.open()
            async with Server(app).serving() as url, httpx.AsyncClient(base_url=url) as http:
                yield Daemon(app, sandbox, sample, clock, url, http)
        finally:
            await app.close()
