"""Back-off by page and by listing: kept in the ledger, named in the status, cleared by success, in nobody's way."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.assets import Files
from daemon.clock import Clock
from daemon.config import Settings, load_settings
from daemon.demo import blocks as b
from daemon.demo.habits import Habits
from daemon.kv.base import KV
from daemon.ledger import sources, work
from daemon.ledger.ledger import Ledger
from daemon.notion.api import NotionApi
from daemon.notion.retry import RetryPolicy
from daemon.status import full
from daemon.sync.cycle import Cycle
from daemon.sync.hints import Hints
from daemon.vitals import Vitals
from tests.support.world import OLD, World, a_world, texts

DAY_SECONDS = 86_400.0
SWEEP_SECONDS = 900.0
REQUESTS_A_TRY = RetryPolicy().attempts
FOR_EVER = 1_000_000


@dataclass
class Parts:
    """What the status is read from."""

    settings: Settings
    clock: Clock
    ledger: Ledger
    kv: KV
    api: NotionApi
    cycle: Cycle
    vitals: Vitals
    hints: Hints
    files: Files


async def status(world: World) -> Mapping[str, Any]:
    """What `/status` says to somebody who has the secret."""
    environment = {
        "NOTION_TOKEN": "ntn_sandbox",
        "NOTION_PAGES_DB": world.sources[0][1],
        "EMBEDDED_KV": "1",
        "DATA_DIR": str(world.folder),
    }
    vitals = Vitals(world.clock.monotonic(), 15.0, SWEEP_SECONDS)
    hints = Hints(world.api, world.ledger, world.cycle, world.clock, lambda *, look=False: None)
    settings, clock, ledger = load_settings(environment), world.clock, world.ledger
    files = Files(settings, world.api, ledger, clock)
    parts = Parts(settings, clock, ledger, world.kv, world.api, world.cycle, vitals, hints, files)
    return await full(parts)


def seconds_ahead(world: World, moment: str) -> float:
    """How far a time in the status lies in the future."""
    return (datetime.fromisoformat(moment) - world.clock.now()) / timedelta(seconds=1)


async def said(world: World, slug: str) -> set[str]:
    """The texts of a published page."""
    bundle = await world.value(f"page:{slug}")
    return set(texts(bundle["blocks"]))


class Site:
    """Two rows, one of them with a toggle and a child page; everything is old."""

    def __init__(self, world: World, schema: dict[str, Any] | None = None) -> None:
        self.workspace = world.workspace
        self.rows = world.add_source("pages", schema)
        content = [b.paragraph("one"), b.toggle("more", [b.paragraph("inside")])]
        self.broken = self.workspace.add_row(self.rows, "Broken", {"slug": "broken"}, blocks=content)
        self.below = self.workspace.create_page(self.broken, "Below")
        self.other = self.workspace.add_row(self.rows, "Other", {"slug": "other"})
        world.clock.advance(OLD)

    @property
    def toggle(self) -> str:
        """The listing that `breaks` lets fail."""
        return f"blocks/{self.workspace.children(self.broken)[1]}/children"

    def breaks(self, world: World) -> None:
        """From now on Notion never answers for the inside of the toggle."""
        world.sandbox.faults.add(500, path=self.toggle, times=FOR_EVER)


async def synced(world: World) -> Site:
    """The site, in the store."""
    site = Site(world)
    await world.start()
    await world.settle()
    return site


async def test_a_page_that_fails_for_a_day_is_in_nobodys_way(tmp_path: Path) -> None:
    """Some thirty tries in a day, other edits within a poll, the watermark at the present, the old version whole.

    Fails when a sweep, which sees a new child in vain each time, has the page read again at once, and without the
    back-off.
    """
    async with a_world(tmp_path) as world:
        site = await synced(world)
        good = await world.value("page:broken")
        site.breaks(world)
        site.workspace.append_blocks(site.broken, [b.paragraph("two")])
        site.workspace.create_page(site.broken, "One more")
        for number in range(int(DAY_SECONDS / 600.0)):
            if number % 12 == 0:
                site.workspace.append_blocks(site.other, [b.paragraph(f"edit {number}")])
                await world.poll()
                assert f"edit {number}" in await said(world, "other")
            await world.poll(600.0)
            if number % 3 == 0:
                await world.cycle.sweep.run()
        (row,) = await world.ledger.call(work.troubled)
        assert 24 <= row["attempts"] <= 33
        assert world.sandbox.count("GET", site.toggle) <= (row["attempts"] + 3) * REQUESTS_A_TRY
        assert await world.value("page:broken") == good
        (listed,) = await world.ledger.call(sources.data_sources)
        assert listed.watermark is not None and world.api.notion_now() - listed.watermark < 600.0


async def test_computed_values_do_not_cut_the_back_off_short(tmp_path: Path) -> None:
    """A value that moves without a stamp is seen by every sweep: a page that fails is not read each time.

    Fails when such a sighting has the page read at once.
    """
    async with a_world(tmp_path) as world:
        site = Site(world, {"slug": "rich_text", "total": "number"})
        await world.start()
        await world.settle()
        site.breaks(world)
        for number in range(24):
            site.workspace.set_computed(site.broken, "total", number)
            world.clock.advance(SWEEP_SECONDS)
            await world.cycle.sweep.run()
            await world.run()
        (row,) = await world.ledger.call(work.troubled)
        assert row["attempts"] <= 12


async def test_a_failing_page_is_named_and_success_clears_it(tmp_path: Path) -> None:
    """Slug, title, reason and next try in the status; an edit is tried at once; the next success forgets it all.

    Fails when a success leaves `attempts` as they were.
    """
    async with a_world(tmp_path) as world:
        site = await synced(world)
        site.breaks(world)
        site.workspace.append_blocks(site.broken, [b.paragraph("two")])
        await world.poll()
        await world.poll(31.0)
        told = await status(world)
        assert told["pages"]["failing"] == 1
        (named,) = told["failed"]
        assert (named["id"], named["slug"], named["title"]) == (site.broken, "broken", "Broken")
        assert named["attempts"] == 2 and "500" in named["reason"]
        assert 30.0 < seconds_ahead(world, named["nextTryAt"]) <= 60.0
        world.sandbox.faults.clear()
        world.clock.advance(70.0)
        site.workspace.append_blocks(site.broken, [b.paragraph("three")])
        await world.settle()
        assert {"two", "three"} <= await said(world, "broken")
        told = await status(world)
        assert told["failed"] == [] and told["pages"]["failing"] == 0


async def test_an_edit_of_a_failing_page_is_tried_at_once(tmp_path: Path) -> None:
    """Whoever mends the page need not wait for an hour. Fails when the back-off holds back a new stamp too."""
    async with a_world(tmp_path) as world:
        site = await synced(world)
        site.breaks(world)
        site.workspace.append_blocks(site.broken, [b.paragraph("two")])
        for _ in range(12):
            await world.poll(3600.0)
        (named,) = (await status(world))["failed"]
        assert seconds_ahead(world, named["nextTryAt"]) > 3000.0
        site.workspace.delete_block(site.workspace.children(site.broken)[1])
        await world.poll()
        assert "two" in await said(world, "broken")
        assert (await status(world))["failed"] == []


async def test_attempts_survive_a_restart(tmp_path: Path) -> None:
    """The daemon dies and starts: the page waits for its next try, and the one after that comes later still.

    Fails when a start forgets what failed.
    """
    async with a_world(tmp_path) as world:
        site = await synced(world)
        site.breaks(world)
        site.workspace.append_blocks(site.broken, [b.paragraph("two")])
        for _ in range(4):
            await world.poll(1000.0)
        before = (await status(world))["failed"]
        await world.kill()
        await world.start()
        asked = world.sandbox.count("GET", site.toggle)
        await world.poll()
        assert (await status(world))["failed"] == before
        assert world.sandbox.count("GET", site.toggle) == asked
        await world.poll(1000.0)
        (named,) = (await status(world))["failed"]
        assert named["attempts"] == before[0]["attempts"] + 1


async def test_eight_failing_pages_do_not_hold_up_the_backlog(tmp_path: Path) -> None:
    """A first sync in which more pages than there are places in flight never answer: the rest is there soon.

    Fails when a page that failed keeps its place in the queue.
    """
    async with a_world(tmp_path) as world:
        source = world.add_source("pages")
        rows = [
            world.workspace.add_row(source, f"Row {n}", {"slug": f"row-{n}"}, blocks=[b.paragraph("words")])
            for n in range(60)
        ]
        world.clock.advance(OLD)
        for row in rows[:10]:
            world.sandbox.faults.add(502, path=f"blocks/{row}/children", times=FOR_EVER)
        await world.start()
        for _ in range(12):
            await world.poll()
        assert await world.slugs() == {f"row-{n}" for n in range(10, 60)}
        assert (await status(world))["pages"]["failing"] == 10


async def test_a_failing_source_is_not_waited_for(tmp_path: Path) -> None:
    """A source that never answers: the others are published, it is named, tried some thirty times a day, and comes.

    Fails when the slugs of a level wait for every listing of it.
    """
    async with a_world(tmp_path) as world:
        site = Site(world)
        posts = world.add_source("posts")
        world.workspace.add_row(posts, "Post", {"slug": "post"})
        world.clock.advance(OLD)
        world.sandbox.faults.add(500, path=f"data_sources/{posts}/query", times=FOR_EVER)
        await world.start()
        for _ in range(4):
            await world.poll(31.0)
        assert {"broken", "other"} <= await world.slugs()
        for number in range(64):
            world.workspace.set_title(site.other, f"Title {number}")
            await world.poll(1350.0)
            assert (await world.value("page:other"))["meta"]["title"] == f"Title {number}"
        (named,) = (await status(world))["failedListings"]
        assert (named["kind"], named["id"]) == ("data_source", posts) and "500" in named["reason"]
        assert 24 <= named["attempts"] <= 33 and 0.0 < seconds_ahead(world, named["nextTryAt"]) <= 3600.0
        world.sandbox.faults.clear()
        await world.poll(3600.0)
        await world.settle()
        assert "post" in await world.slugs() and (await status(world))["failedListings"] == []


async def test_a_failing_query_keeps_its_own_watermark_only(tmp_path: Path) -> None:
    """One source stops answering: the other's watermark moves on, and what was edited meanwhile comes afterwards.

    Fails when a failed query moves its watermark.
    """
    async with a_world(tmp_path, habits=Habits(search_forgets=1.0)) as world:
        site = Site(world)
        posts = world.add_source("posts")
        post = world.workspace.add_row(posts, "Post", {"slug": "post"})
        world.clock.advance(OLD)
        await world.start()
        await world.settle()
        world.sandbox.faults.add(500, path=f"data_sources/{posts}/query", times=FOR_EVER)
        world.workspace.append_blocks(post, [b.paragraph("missed")])
        for _ in range(40):
            await world.poll(180.0)
        marks = {row.id: row.watermark or 0.0 for row in await world.ledger.call(sources.data_sources)}
        assert world.api.notion_now() - marks[site.rows] < 60.0
        assert world.api.notion_now() - marks[posts] > 7000.0
        assert "post" in await world.slugs() and "missed" not in await said(world, "post")
        world.sandbox.faults.clear()
        await world.poll(3600.0)
        await world.settle()
        assert "missed" in await said(world, "post")


@pytest.mark.parametrize("part", ["database", "rows"])
async def test_a_failing_database_inside_a_page_is_not_waited_for(tmp_path: Path, part: str) -> None:
    """It, or the listing of its rows, never answers: what lies beside it is published, and it is named.

    Fails when the slugs of a level wait for every listing of it.
    """
    async with a_world(tmp_path) as world:
        site = Site(world)
        jobs, rows = world.workspace.create_database(site.other, "Jobs", {"slug": "rich_text"})
        world.workspace.add_row(rows, "Printer", {"slug": "printer"})
        world.workspace.create_page(site.other, "Beside")
        world.clock.advance(OLD)
        path = f"databases/{jobs}" if part == "database" else f"data_sources/{rows}/query"
        world.sandbox.faults.add(500, path=path, times=FOR_EVER)
        await world.start()
        for _ in range(6):
            await world.poll(61.0)
        assert "other/beside" in await world.slugs()
        (named,) = (await status(world))["failedListings"]
        assert named["id"] == (jobs if part == "database" else rows) and named["attempts"] >= 2
        world.sandbox.faults.clear()
        await world.poll(3600.0)
        await world.settle()
        assert "other/printer" in await world.slugs() and (await status(world))["failedListings"] == []


async def test_after_an_outage_nothing_waits_out_its_back_off(tmp_path: Path) -> None:
    """Three hours without any answer: what was edited before and since is there with the second poll afterwards.

    Fails when a listing, or a page, that failed during the outage waits for its next try.
    """
    async with a_world(tmp_path, habits=Habits(search_forgets=1.0)) as world:
        site = await synced(world)
        site.workspace.append_blocks(site.other, [b.paragraph("before")])
        world.sandbox.faults.add(500, path="children", times=FOR_EVER)
        await world.poll()
        world.sandbox.faults.add(500, times=FOR_EVER)
        for _ in range(36):
            await world.poll(300.0)
        world.sandbox.faults.clear()
        site.workspace.append_blocks(site.broken, [b.paragraph("since")])
        await world.poll()
        await world.poll()
        assert "before" in await said(world, "other") and "since" in await said(world, "broken")
        assert (await status(world))["failed"] == (await status(world))["failedListings"] == []
