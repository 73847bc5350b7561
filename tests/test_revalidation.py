"""The site is told what changed: everything, in order, in few calls, until it has said yes; nobody waits for it."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert

from daemon.app import App
from daemon.config import load_settings
from daemon.demo import blocks as b
from daemon.doctor import Doctor, Finding, Level
from daemon.env import SecretStr
from daemon.ledger import owed
from daemon.ledger.owed import Debt
from daemon.ledger.tables import Record
from daemon.outgoing import Outgoing
from daemon.revalidate import MOST_IN_A_CALL, Revalidation, signature, within
from daemon.site.addresses import path_of, tag_of
from daemon.sync.lease import Standing
from tests.support.flaky_kv import FlakyKV
from tests.support.process import command
from tests.support.receiver import Receiver, a_receiver
from tests.support.web import SECRET, a_daemon
from tests.support.world import World, a_world

TEMPLATES = {"pages": "/{slug}", "posts": "/blog/{slug}"}
KEY = "shared-with-the-site-only"


@pytest.fixture
def site() -> Iterator[Receiver]:
    """The site's route."""
    with a_receiver() as receiver:
        yield receiver


class Blog:
    """A world with the sources pages and posts, and what tells its site."""

    def __init__(self, world: World, site: Receiver) -> None:
        self.world, self.site = world, site
        world.site_paths = TEMPLATES
        self.workspace = world.workspace
        self.outgoing = Outgoing(deadline_seconds=5.0)
        pages, posts = world.add_source("pages"), world.add_source("posts")
        self.pages, self.posts = pages, posts
        self.about = self.workspace.add_row(pages, "About", {"slug": "about"}, blocks=[b.paragraph("one")])
        self.post = self.workspace.add_row(posts, "Post", {"slug": "post"}, blocks=[b.paragraph("one")])
        world.clock.advance(3600.0)

    async def start(self) -> None:
        """A process starts that knows of the site."""
        await self.world.start()
        self.teller = Revalidation(
            self.world.ledger, self.world.clock, self.outgoing, self.site.url, SecretStr(KEY)
        )

    async def heard(self) -> None:
        """Everything so far is old news to the site."""
        await self.world.settle()
        await self.teller.turn()
        self.site.calls.clear()

    async def owed(self) -> list[str]:
        """What the site is still to be told, in order."""
        return [debt.value for debt in await self.world.ledger.call(owed.first, 1_000)]

    async def edit(self, page: str, words: str) -> None:
        """Somebody writes, and it reaches the store."""
        self.workspace.append_blocks(page, [b.paragraph(words)])
        self.world.clock.advance(120.0)
        await self.world.catch_up()


@asynccontextmanager
async def a_blog(folder: Path, site: Receiver) -> AsyncIterator[Blog]:
    """A blog whose site has heard of everything."""
    async with a_world(folder, kv=FlakyKV(folder / "kv.db")) as world:
        blog = Blog(world, site)
        await blog.start()
        await blog.heard()
        try:
            yield blog
        finally:
            await blog.outgoing.close()


def values(site: Receiver, name: str) -> list[str]:
    """All tags, or paths, that the site was told of, in order."""
    return [value for told in site.told for value in told[name]]


# What is told ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "slug", "path"),
    [
        ("pages", "about", "/about"),
        ("pages", "index", "/"),
        ("posts", "index", "/blog"),
        ("posts", "a/b", "/blog/a/b"),
        ("pages", "한국어/café", "/%ED%95%9C%EA%B5%AD%EC%96%B4/caf%C3%A9"),
        ("pages", "100% what? #1", "/100%25%20what%3F%20%231"),
        ("docs", "x", "/d%C3%B6cs/x/%41"),
        ("all", "x", "/one-page"),
        ("hubs", "x", None),
        (None, "x", None),
        ("pages", "x" * 3_000, None),
    ],
)
def test_where_a_page_is_on_the_site(source: str | None, slug: str, path: str | None) -> None:
    """Encoded as in a URL, once; the page at the root adds nothing; without a template, or too long, it has no path."""
    templates = {**TEMPLATES, "docs": "/döcs/{slug}/%41", "all": "/one-page"}
    assert path_of(templates, source, slug) == path


def test_the_tag_of_a_key_is_what_the_site_reads() -> None:
    """The key itself; of a database inside a page without its cursor, also where a slug looks like one."""
    assert tag_of("page:a/b:cursor:_") == "page:a/b:cursor:_"
    assert tag_of("posts:index") == "posts:index"
    assert tag_of("db:1b2c:cursor:_") == "db:1b2c"


def test_a_call_is_signed_over_its_body_and_its_moment() -> None:
    """Reckoned by hand. Fails when the moment, or the last byte of the body, is not signed."""
    moment, body = datetime(2026, 1, 5, 9, 0, 0, 700_000, UTC), '{"tags":["page:ü"]}'.encode()
    right = hmac.new(KEY.encode(), b"1767603600." + body, hashlib.sha256).hexdigest()
    assert signature(SecretStr(KEY), body, moment) == f"t=1767603600,v1={right}"


async def test_everything_that_is_written_is_told_with_its_place(tmp_path: Path, site: Receiver) -> None:
    """Rows, child pages below a post, rows of a database inside one: their paths follow from the source above them.

    Fails when the path follows from the type of the page, and when the page that shows a database is not told of it.
    """
    async with a_blog(tmp_path, site) as blog:
        workspace, world = blog.workspace, blog.world
        child = workspace.create_page(blog.post, "Child", blocks=[b.paragraph("x")])
        workspace.create_page(child, "Grandchild")
        database, rows = workspace.create_database(child, "Jobs", {"slug": "rich_text"})
        workspace.add_row(rows, "Printer")
        world.clock.advance(3600.0)
        await world.settle()
        assert await blog.teller.turn() is None
        assert site.calls and set(values(site, "tags")) == {
            *("page:post", "page:post/child", "page:post/child/grandchild", "page:post/child/printer"),
            *("posts:index", f"db:{database}"),
        }
        paths = ("post", "post/child", "post/child/grandchild", "post/child/printer")
        assert set(values(site, "paths")) == {f"/blog/{path}" for path in paths}
        site.calls.clear()
        workspace.add_row(rows, "Cook")
        world.clock.advance(3600.0)
        await world.settle()
        await blog.teller.turn()
        assert f"db:{database}" in values(site, "tags") and "/blog/post/child" in values(site, "paths")
        for call in site.calls:
            seconds, digest = (
                part.partition("=")[2] for part in call.headers["x-revalidate-signature"].split(",")
            )
            signed = hmac.new(KEY.encode(), f"{seconds}.".encode() + call.body, hashlib.sha256)
            assert signed.hexdigest() == digest and call.headers["content-type"] == "application/json"


async def test_a_page_that_moves_owes_both_places_and_one_that_leaves_its_own(
    tmp_path: Path, site: Receiver
) -> None:
    """A new slug, another source under the same slug (with what is below it), and the trash.

    Fails when only what is written owes anything, when a record knows only its present source, and when a removed
    page's source is asked for after the page has left the ledger.
    """
    async with a_blog(tmp_path, site) as blog:
        workspace, world = blog.workspace, blog.world
        child = workspace.create_page(blog.about, "Child")
        world.clock.advance(3600.0)
        await blog.heard()
        workspace.set_properties(blog.post, {"slug": "renamed"})
        world.clock.advance(120.0)
        await world.catch_up()
        await blog.teller.turn()
        assert {"page:post", "page:renamed", "posts:index", "redirect:post"} == set(values(site, "tags"))
        assert {"/blog/post", "/blog/renamed"} == set(values(site, "paths"))
        await blog.heard()
        workspace.move(blog.about, blog.posts)
        world.clock.advance(3600.0)
        await world.sweep()
        await blog.teller.turn()
        assert {"/about", "/blog/about", "/about/child", "/blog/about/child"} == set(values(site, "paths"))
        assert {"pages:index", "posts:index", "page:about", "page:about/child"} == set(values(site, "tags"))
        await blog.heard()
        workspace.trash(child)
        world.clock.advance(3600.0)
        await world.sweep()
        await blog.teller.turn()
        assert await world.value("page:about/child") is None
        assert "page:about/child" in values(site, "tags") and "/blog/about/child" in values(site, "paths")


async def test_without_a_site_nothing_is_owed(tmp_path: Path, site: Receiver) -> None:
    """No rows that nobody would ever take away. Fails when owing does not ask whether a site is configured."""
    async with a_world(tmp_path) as world:
        blog = Blog(world, site)
        world.site_paths = None
        await blog.start()
        await world.settle()
        assert await world.value("page:post") is not None
        assert await blog.owed() == [] and await blog.teller.turn() is None and site.calls == []


async def test_a_flushed_store_owes_everything_and_what_it_lost_before_it_was_deleted(
    tmp_path: Path, site: Receiver
) -> None:
    """Fails when forgetting what a store held forgets deletions that no batch has made yet."""
    async with a_blog(tmp_path, site) as blog:
        world, kv = blog.world, blog.world.kv
        assert isinstance(kv, FlakyKV)
        kv.is_down = True
        blog.workspace.trash(blog.post)
        world.clock.advance(3600.0)
        await world.cycle.sweep.run()
        await world.run()
        kv.heal()
        await kv.flush()
        await world.stop()
        await blog.start()
        await world.settle()
        await blog.teller.turn()
        assert set(values(site, "tags")) == {"page:about", "page:post", "pages:index", "posts:index"}
        assert "/blog/post" in values(site, "paths")


# Until it has said yes -------------------------------------------------------------------------------------------


async def test_what_is_owed_stays_owed_until_the_site_says_yes(tmp_path: Path, site: Receiver) -> None:
    """500, 429, a redirect, 404 and 401, each with Retry-After, and only then 200: the same call again and again.

    Fails when any answer but a 2xx settles a debt, when redirects are followed, and when Retry-After is not heard.
    """
    async with a_blog(tmp_path, site) as blog:
        clock = blog.world.clock
        await blog.edit(blog.about, "two")
        before = await blog.owed()
        site.headers = [(b"retry-after", b"90"), (b"location", b"/elsewhere")]
        waits = []
        for status in (500, 429, 308, 404, 401):
            site.answers = [status]
            again_at = await blog.teller.turn()
            assert again_at is not None and await blog.owed() == before
            assert await blog.teller.turn() == again_at, "called again before its time"
            waits.append(again_at - clock.monotonic())
            clock.advance(waits[-1])
        site.headers = []
        assert waits == [90.0, 90.0, 90.0, 90.0, 90.0]
        assert await blog.teller.turn() is None
        assert await blog.owed() == []
        assert len(site.calls) == 6 and {call.path for call in site.calls} == {"/api/revalidate"}
        assert all(told == site.told[0] for told in site.told)


async def test_a_site_that_is_away_for_an_hour_holds_up_nobody_and_hears_the_newest_once(
    tmp_path: Path, site: Receiver
) -> None:
    """Editing goes on; a page that was edited again and again is owed once and keeps its turn; few calls go nowhere.

    Fails when each change is a row of its own, when one that is owed again goes to the end, and when tries follow
    each other without growing pauses.
    """
    async with a_blog(tmp_path, site) as blog:
        clock = blog.world.clock
        site.always = 503
        began = clock.monotonic()
        await blog.edit(blog.post, "first")
        while clock.monotonic() - began < 3600.0:
            words = f"written at {clock.monotonic()}"
            await blog.edit(blog.about, words)
            await blog.edit(blog.post, words)
            assert words in str(await blog.world.value("page:post"))
            for _ in range(20):
                clock.advance(15.0)
                await blog.teller.turn()
        assert 5 <= len(site.calls) <= 20
        expected = ["page:post", "/blog/post", "posts:index", "page:about", "/about", "pages:index"]
        assert await blog.owed() == expected
        site.always = 204
        site.calls.clear()
        clock.advance(300.0)
        assert await blog.teller.turn() is None
        assert site.told == [
            {
                "tags": ["page:post", "posts:index", "page:about", "pages:index"],
                "paths": ["/blog/post", "/about"],
            }
        ]


async def test_what_changes_while_the_site_is_being_told_is_told_again(
    tmp_path: Path, site: Receiver
) -> None:
    """The site may have read the old version just before. Fails when a 2xx settles by name whatever is owed by then."""
    async with a_blog(tmp_path, site) as blog:
        await blog.edit(blog.about, "two")
        site.is_open.clear()
        telling = asyncio.create_task(blog.teller.turn())
        while not site.calls:
            await asyncio.sleep(0)
        await blog.edit(blog.about, "three")
        site.is_open.set()
        await telling
        assert await blog.owed() == []
        assert [told["paths"] for told in site.told] == [["/about"], ["/about"]]


async def test_a_whole_site_is_told_in_few_calls_one_after_the_other(tmp_path: Path, site: Receiver) -> None:
    """5,000 pages: two hundred tags and paths a call, each once, in order. Fails with no bound, or with one a call."""

    def write(db: Connection) -> list[str]:
        keys = [f"page:p/{number}" for number in range(5_000)]
        rows = [{"key": key, "kind": "page", "owner_id": key, "source": "posts", "level": 0} for key in keys]
        db.execute(insert(Record), [{**row, "attempts": 0} for row in rows])
        owed.owe(db, keys, TEMPLATES)
        return keys

    async with a_world(tmp_path) as world:
        blog = Blog(world, site)
        await blog.start()
        keys = await world.ledger.call(write)
        assert await blog.teller.turn() is None
        assert values(site, "tags") == keys
        assert values(site, "paths") == [f"/blog/{key.removeprefix('page:')}" for key in keys]
        assert len(site.calls) == 10_000 / MOST_IN_A_CALL
        await blog.outgoing.close()


def test_a_call_is_bounded_in_bytes_too() -> None:
    """Slugs may be long; one that is too long for any call goes alone. Fails when only the number counts."""
    long = [Debt("tag", "x" * 100_000, number) for number in range(5)]
    assert list(within(long)) == long[:2]
    assert list(within([Debt("tag", "x" * 1_000_000, 1)] * 2)) == [Debt("tag", "x" * 1_000_000, 1)]


async def test_a_site_that_is_too_slow_for_a_call_gets_smaller_ones(tmp_path: Path, site: Receiver) -> None:
    """No answer before the deadline, or 413: half as much the next time. Fails when the same call is made for ever."""
    async with a_blog(tmp_path, site) as blog:
        await blog.edit(blog.about, "two")
        assert len(await blog.owed()) == 3
        blog.outgoing._deadline_seconds = 0.05
        site.is_open.clear()
        assert await blog.teller.turn() is not None
        site.is_open.set()
        blog.outgoing._deadline_seconds = 5.0
        for status in (413, 200):
            site.answers = [status]
            blog.world.clock.advance(600.0)
            await blog.teller.turn()
        sizes = [len(told["tags"]) + len(told["paths"]) for told in site.told]
        assert sizes[:3] == [3, 1, 1] and sum(sizes[2:]) == 3


# Killed at any moment --------------------------------------------------------------------------------------------


async def test_killed_between_the_store_and_the_ledger_the_next_process_tells(
    tmp_path: Path, site: Receiver
) -> None:
    """The store has taken the batch, the ledger has not marked it: it is written again, and told.

    Fails when a debt is written down by itself before the batch is sent and settled without it, or after it only.
    """
    async with a_blog(tmp_path, site) as blog:
        kv, world = blog.world.kv, blog.world
        assert isinstance(kv, FlakyKV)
        reached = asyncio.Event()

        async def stop_here(point: str) -> None:
            if point == "after batch":
                reached.set()
                await asyncio.Event().wait()

        blog.workspace.set_properties(blog.post, {"slug": "renamed"})
        world.clock.advance(120.0)
        kv.gate = stop_here
        dying = asyncio.create_task(world.run())
        await reached.wait()
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        assert await world.value("page:renamed") is not None and await blog.owed() == []
        del kv.gate
        kv.gate = _pass
        await world.kill()
        await blog.start()
        await world.settle()
        await blog.teller.turn()
        assert {"page:post", "page:renamed"} <= set(values(site, "tags"))
        assert {"/blog/post", "/blog/renamed"} <= set(values(site, "paths"))


async def _pass(_: str) -> None:
    pass


async def test_killed_before_the_call_or_before_it_is_marked_the_next_process_tells(
    tmp_path: Path, site: Receiver
) -> None:
    """Told twice in the second case, lost in none. Fails when a debt leaves the ledger before the site's answer."""
    async with a_blog(tmp_path, site) as blog:
        world = blog.world
        await blog.edit(blog.about, "two")
        await world.kill()
        await blog.start()
        site.is_open.clear()
        dying = asyncio.create_task(blog.teller.turn())
        while not site.calls:
            await asyncio.sleep(0)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        site.is_open.set()
        await world.kill()
        await blog.start()
        assert await blog.teller.turn() is None
        assert len(site.calls) == 2 and site.told[0] == site.told[1]
        assert "/about" in values(site, "paths") and await blog.owed() == []


# The daemon ------------------------------------------------------------------------------------------------------


async def test_a_daemon_that_stands_by_tells_nothing(tmp_path: Path, site: Receiver) -> None:
    """It shares the ledger with the one that writes, and that one tells. Fails when standing is not asked for."""
    async with a_daemon(tmp_path, settings={"REVALIDATE_URL": site.url}) as daemon:
        await daemon.catch_up()
        lease, teller = daemon.app.cycle.lease, daemon.app.revalidation
        assert teller is not None
        lease.standing = Standing.STANDBY
        again_at = await teller.turn()
        assert again_at is not None and again_at > daemon.clock.monotonic() and site.calls == []
        lease.standing = Standing.OWNER
        assert await teller.turn() is None and site.calls
        assert "x-revalidate-signature" not in site.calls[0].headers
        assert any(warning.startswith("REVALIDATE_SECRET:") for warning in daemon.app.settings.warnings)


async def test_status_shows_how_it_stands_to_who_has_the_secret(tmp_path: Path, site: Receiver) -> None:
    """What is owed, the last success, the last answer with what to do, the next try; the brief form has none of it."""
    settings = {"REVALIDATE_URL": f"{site.url}?key=hidden-in-the-query", "REVALIDATE_SECRET": KEY}
    async with a_daemon(tmp_path, settings=settings) as daemon:
        await daemon.catch_up()
        teller, secret = daemon.app.revalidation, {"x-sync-secret": SECRET}
        assert teller is not None
        site.answers = [401]
        await teller.turn()
        answer = await daemon.http.get("/status", headers=secret)
        shown = answer.json()["revalidation"]
        assert shown["owed"] > 10 and shown["lastSuccess"] is None and "401" in shown["problem"]
        assert "REVALIDATE_SECRET" in shown["hint"] and shown["nextTry"] > shown["failedAt"]
        page = await daemon.http.get("/", headers=secret)
        assert "answered 401" in page.text
        for text in (answer.text, page.text):
            assert "hidden-in-the-query" not in text and KEY not in text
        assert "revalidation" not in (await daemon.http.get("/status")).json()
        daemon.clock.advance(60.0)
        await teller.turn()
        shown = (await daemon.http.get("/status", headers=secret)).json()["revalidation"]
        assert shown == {
            "owed": 0,
            "lastSuccess": "2026-01-05T09:01:00.000Z",
            "problem": None,
            "hint": None,
            "failedAt": None,
            "nextTry": None,
        }
        assert "Last told what changed" in (await daemon.http.get("/", headers=secret)).text


async def test_doctor_says_what_the_site_last_answered(tmp_path: Path, site: Receiver) -> None:
    """From the ledger, without a call. Fails when only the daemon's own process knows."""
    async with a_daemon(tmp_path, settings={"REVALIDATE_URL": site.url, "REVALIDATE_SECRET": KEY}) as daemon:
        app, teller = daemon.app, daemon.app.revalidation
        assert teller is not None

        async def finding() -> Finding:
            async for found in Doctor(app.settings, (), daemon.clock).findings():
                if found.about == "site":
                    return found
            raise AssertionError("nothing is said of the site")

        never = await finding()
        assert never.level is Level.OK and "never been told" in never.what
        await daemon.catch_up()
        site.answers = [404]
        await teller.turn()
        daemon.clock.advance(300.0)
        bad = await finding()
        assert bad.level is Level.PROBLEM and "answered 404" in bad.what and "5 minutes ago" in bad.what
        assert "docs/revalidation.md" in bad.todo and "are owed" in bad.what
        await teller.turn()
        good, calls = await finding(), len(site.calls)
        assert good.level is Level.OK and "last told 0 s ago" in good.what and len(site.calls) == calls


def settings_of(folder: Path, site: Receiver, notion_url: str, database: str) -> dict[str, str]:
    """A daemon on a small site, by the machine's own clock."""
    return {
        "NOTION_TOKEN": "ntn_sandbox",
        "NOTION_BASE_URL": notion_url,
        "NOTION_POSTS_DB": database,
        "EMBEDDED_KV": "1",
        "DATA_DIR": str(folder / "data"),
        "EDIT_GRANULARITY_SECONDS": "0",
        "SETTLE_SLACK_SECONDS": "0",
        "FEED_LAG_SECONDS": "0",
        "POLL_INTERVAL_SECONDS": "0.1",
        "HOST": "127.0.0.1",
        "PORT": "0",
        "REVALIDATE_URL": site.url,
        "REVALIDATE_SECRET": KEY,
    }


async def test_a_running_daemon_tells_by_itself_and_once_more_before_it_ends(
    tmp_path: Path, site: Receiver
) -> None:
    """An edit is told at once; what is owed when the daemon is stopped is tried a last time, though not for long.

    Fails when nothing wakes the telling, and when the end waits for a site that does not answer.
    """
    async with a_world(tmp_path) as world:
        source = world.add_source("posts")
        world.workspace.add_row(source, "Post", {"slug": "post"})
        app = App(load_settings(settings_of(tmp_path, site, world.url, world.sources[0][1])))
        stop = asyncio.Event()
        await app.open()
        running = asyncio.create_task(app.run(stop))
        async with asyncio.timeout(20.0):
            while "/blog/post" not in values(site, "paths"):
                await asyncio.sleep(0.01)
            site.is_open.clear()
            calls = len(site.calls)
            world.workspace.add_row(source, "Second", {"slug": "second"})
            while len(site.calls) == calls:
                await asyncio.sleep(0.01)
            stop.set()
            await running
            ending = asyncio.create_task(app.close())
            began = app.clock.monotonic()
            await ending
            assert app.clock.monotonic() - began < 4.0
        site.is_open.set()
        site.calls.clear()
        again = App(load_settings(settings_of(tmp_path, site, world.url, world.sources[0][1])))
        await again.open()
        await again.tell_site()
        await again.close()
        assert "/blog/second" in values(site, "paths")


async def test_a_command_tells_the_site_what_it_wrote(tmp_path: Path, site: Receiver) -> None:
    """`sync` alone, without a daemon. Fails when only the daemon tells."""
    async with a_world(tmp_path) as world:
        world.workspace.add_row(world.add_source("posts"), "Post", {"slug": "post"})
        done = await command(tmp_path, settings_of(tmp_path, site, world.url, world.sources[0][1]), "sync")
        assert done.code == 0, done.err
        assert values(site, "tags") == ["page:post", "posts:index"] and values(site, "paths") == [
            "/blog/post"
        ]
