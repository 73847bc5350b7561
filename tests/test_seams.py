"""Where two parts meet: files that are waited for and pages that move, drafts and lost ledgers, jobs and what fails."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from daemon.demo import blocks as b
from daemon.kv.base import KVUnavailable, Owner, Write
from daemon.ledger import links, meta, records, tasks
from daemon.ledger.ledger import LedgerError
from daemon.ledger.meta import Fact
from daemon.ledger.tasks import Kind, State
from daemon.site.rules import Condition, Rule
from tests.support.gallery import HOUR, Gallery, a_gallery
from tests.support.web import a_daemon
from tests.support.world import OLD, World, a_world
from tests.test_schedule import turning

PUBLISHED = Rule((Condition("Status", ("Published",)),))
SCHEMA: dict[str, Any] = {
    "slug": "rich_text",
    "Status": {"status": {"options": ["Draft", "Published", "Live"]}},
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Nothing read yet."""
    async with a_world(tmp_path) as made:
        yield made


# The ledger fails ----------------------------------------------------------------------------------------------------


async def test_an_edit_is_published_although_the_ledger_failed_when_the_site_was_worked_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page was read and is not due any more; the disk was full one moment later. The next cycle publishes it.

    Fails when a cycle counts the news as worked out before it is.
    """
    row = world.workspace.add_row(world.add_source(), "Old", {"slug": "row"})
    world.clock.advance(OLD)
    await world.start()
    await world.settle()
    world.workspace.set_title(row, "New")
    with monkeypatch.context() as patch:
        patch.setattr(records, "store_wanted", _full)
        with pytest.raises(LedgerError):
            await world.poll(400.0)
    await world.poll()
    assert (await world.value("page:row"))["meta"]["title"] == "New"


def _full(*_: object) -> int:
    raise LedgerError("the ledger cannot be used: database or disk is full", "Free some space.")


# Files that are waited for -------------------------------------------------------------------------------------------


async def test_a_page_that_moves_does_not_wait_for_its_files(tmp_path: Path) -> None:
    """Lists name it where it is from now on, so it has to be there: its new image follows.

    Fails when its key waits while the index does not.
    """
    async with a_gallery(tmp_path) as gallery:
        page = gallery.add("One")
        await gallery.settle()
        gallery.app.files.copier.may_work = lambda: False
        gallery.put_image(page, "new.png")
        gallery.workspace.set_properties(page, {"slug": "moved"})
        gallery.clock.advance(1.0)
        await gallery.cycle()
        (listed,) = (await gallery.value("pages:index"))["items"]
        assert await gallery.text(f"page:{listed['slug']}")


async def test_a_page_that_could_not_move_yet_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    """It moves while the store is away, another page takes its place there, then it gets an image.

    Fails when a page counts as published by the keys it wants and not by those that show it.
    """
    async with a_gallery(tmp_path) as gallery:
        page = gallery.add("One")
        await gallery.settle()
        app = gallery.app
        app.files.copier.may_work = lambda: False
        app.cycle.publisher.paused_until = float("inf")
        gallery.workspace.set_properties(page, {"slug": "moved"})
        gallery.workspace.add_row(gallery.source, "Two", {"slug": "one"})
        gallery.clock.advance(1.0)
        await gallery.cycle()
        gallery.clock.advance(60.0)
        gallery.put_image(page, "new.png")
        gallery.clock.advance(1.0)
        await gallery.cycle()
        assert app.cycle.site is not None and app.cycle.site.held
        assert app.cycle.site.is_published(page)


async def test_republishing_does_not_wait_for_files(tmp_path: Path) -> None:
    """The command copies nothing, so waiting would leave pages out.

    Fails when it holds pages back as a cycle does.
    """
    async with a_gallery(tmp_path) as gallery:
        page = gallery.add("One")
        await gallery.settle()
        gallery.app.files.copier.may_work = lambda: False
        gallery.put_image(page, "new.png")
        gallery.put_image(gallery.add("Two"), "other.png")
        gallery.clock.advance(1.0)
        await gallery.cycle()
        assert not await gallery.text("page:two")
        await gallery.app.cycle.republish()
        assert await gallery.app.cycle.shortfall(reading=False) is None
        assert await gallery.text("page:two") and "image" in await gallery.text("page:one")


async def test_work_that_was_asked_for_ends_when_its_pages_have_their_files(tmp_path: Path) -> None:
    """A page that waits for a slow file is no failure: `republish` beside a daemon is done once it is published.

    Fails when such work is over while keys still wait, which is said to have gone wrong.
    """
    async with a_gallery(tmp_path) as gallery:
        page, app = gallery.add("One"), gallery.app
        await gallery.settle()
        app.files.copier.may_work = lambda: False
        gallery.put_image(page, "new.png")
        gallery.clock.advance(1.0)
        job_id = await app.ledger.call(tasks.add, Kind.REPUBLISH, {}, gallery.clock.now().timestamp())
        await app.schedule._turn(app.schedule._take())
        assert (job := await app.ledger.call(tasks.find, job_id)) is not None and not job.is_over
        app.files.copier.may_work = lambda: True
        await app.files.copier.drain()
        await app.schedule._turn(app.schedule._take())
        job = await app.ledger.call(tasks.find, job_id)
        assert job is not None and (job.state, job.problem) == (State.DONE, None)
        assert "image" in await gallery.text("page:one")


async def test_the_loop_wakes_when_a_page_has_waited_long_enough(tmp_path: Path) -> None:
    """With events from Notion people poll seldom: the page is there after ten seconds all the same.

    Fails when nothing wakes the loop before the next poll, or the end of a copy that may take minutes.
    """
    async with a_gallery(tmp_path, settings={"POLL_INTERVAL_SECONDS": "3600"}) as gallery:
        gallery.add("One")
        await gallery.settle()
        gallery.put_image(gallery.add("Two"), "slow.png")
        gallery.sandbox.faults.add(path="slow", slow=True)
        gallery.clock.advance(1.0)
        written = asyncio.Event()
        schedule, publisher = gallery.app.schedule, gallery.app.cycle.publisher
        publisher.on_written.append(lambda pages: written.set() if pages else None)
        async with turning(schedule):
            await written.wait()
        site = gallery.app.cycle.site
        assert site is not None and await gallery.text("page:two")
        assert not any(file.settled for files in site.facts.files.values() for file in files)


async def test_a_store_is_searched_when_every_page_has_its_key(tmp_path: Path) -> None:
    """One that waits for its files is ours, too: its key under a former slug is found.

    Fails when the search does not wait: nobody would look again.
    """
    async with a_gallery(tmp_path) as gallery:
        gallery.add("One")
        await gallery.settle()
        app = gallery.app
        app.files.copier.may_work = lambda: False
        page = gallery.add("Two")
        gallery.put_image(page, "new.png")
        owner = await app.kv.read_owner()
        assert owner is not None
        await app.kv.apply([Write("page:former", f'{{"meta": {{"notionId": "{page}"}}}}')], owner)
        await app.ledger.call(meta.put, Fact.STORE_UNSEARCHED, True)
        app.cycle.lease.is_unsearched = True
        gallery.clock.advance(1.0)
        await gallery.cycle()
        app.files.copier.may_work = lambda: True
        await gallery.settle()
        await gallery.cycle()
        assert await gallery.text("page:two") and not await gallery.text("page:former")


# Drafts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["an option that is not there", "an option that no row has"])
async def test_a_filter_that_nothing_passes_empties_no_store_whose_ledger_is_lost(
    world: World, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every deploy without a volume loses the ledger; a wrong word in the settings must not cost the site.

    What is there counts as published until now, so that it is judged as by a daemon that remembers.
    Fails when pages that a filter holds back are taken for drafts that somebody left in the store, and when an empty
    index is written before that is known.
    """
    rows = world.add_source("pages", SCHEMA)
    for n in range(4):
        world.workspace.add_row(rows, f"R{n}", {"slug": f"r{n}", "Status": "Published"})
    world.clock.advance(OLD)
    await world.start()
    await world.settle()
    await world.poll()
    there = await world.slugs()
    await world.stop()
    (world.folder / "ledger.db").unlink()
    indexes: list[int] = []
    apply = world.kv.apply

    async def watched(writes: Sequence[Write], owner: Owner) -> bool:
        values = [json.loads(one.value or "{}") for one in writes if one.key == "pages:index"]
        indexes.extend(len(value["items"]) for value in values)
        return await apply(writes, owner)

    monkeypatch.setattr(world.kv, "apply", watched)
    word = "Publishd" if "not there" in rule else "Live"
    world.rules = {"pages": Rule((Condition("Status", (word,)),))}
    with monkeypatch.context() as patch:
        patch.setattr(world.kv, "read_owner", _away)  # it does not answer yet when the daemon starts
        await world.start()
    await world.settle()
    world.clock.advance(OLD)
    await world.cycle.publisher.heartbeat()
    for _ in range(3):
        await world.poll()
    await world.settle()
    assert await world.slugs() == there
    assert set(indexes) == {4}
    held = await world.ledger.call(links.held_links)
    assert len(held) == (0 if word == "Publishd" else 4)


async def _away() -> Owner | None:
    raise KVUnavailable("the store does not answer")


async def test_files_of_a_draft_stay_its_own_when_it_shows_them_no_more(tmp_path: Path) -> None:
    """An image that a draft showed, and one of a page that was withdrawn and then trashed: nobody gets them.

    What a published page showed is given out for its days of grace. Fails when a copy that nothing shows is
    everybody's, whoever showed it.
    """

    def build(gallery: Gallery) -> None:
        gallery.workspace.add_property(gallery.source, "Live", "checkbox")

    async with a_gallery(tmp_path, settings={"PUBLISH_FILTER": "pages:Live=true"}, build=build) as gallery:
        workspace, app = gallery.workspace, gallery.app
        pages = [gallery.add(name) for name in ("Public", "Withdrawn", "Draft")]
        shown = [gallery.put_image(page, f"{name}.png") for name, page in enumerate(pages)]
        for page in pages[:2]:
            workspace.set_properties(page, {"Live": True})
        await gallery.settle()
        assert app.cycle.site is not None
        files = app.cycle.site.facts.files
        addresses = [f"{gallery.url}/assets/{files[page][0].id}" for page in pages]

        async def given_out() -> list[int]:
            return [(await gallery.http.get(address)).status_code for address in addresses]

        assert len(gallery.copies()) == 3 and await given_out() == [200, 200, 404]
        gallery.clock.advance(HOUR)
        workspace.set_properties(pages[1], {"Live": False})
        await gallery.settle()
        assert await given_out() == [200, 404, 404]
        gallery.clock.advance(HOUR)
        for page in pages[:2]:
            workspace.trash(page)
        gallery.replace_file(shown[2], "other.png")
        gallery.clock.advance(HOUR)
        await app.cycle.sweep.run()
        app.cycle.changed = True
        await gallery.settle()
        assert not await gallery.text("page:public")
        assert await given_out() == [200, 404, 404]
        await app.files.tidy()
        assert len(gallery.copies()) == 2


async def test_a_row_that_became_a_draft_leaves_the_index_although_others_wait_for_files(
    tmp_path: Path,
) -> None:
    """Its page is gone: the index must not name it for as long as people put images into other pages.

    Fails when a list waits for files with the pages that it shows, whatever else changed in it.
    """

    def build(gallery: Gallery) -> None:
        gallery.workspace.add_property(gallery.source, "Live", "checkbox")

    async with a_gallery(tmp_path, settings={"PUBLISH_FILTER": "pages:Live=true"}, build=build) as gallery:
        pages = [gallery.add(name) for name in ("Withdrawn", "Busy")]
        for page in pages:
            gallery.workspace.set_properties(page, {"Live": True})
        await gallery.settle()
        gallery.app.files.copier.may_work = lambda: False
        gallery.clock.advance(HOUR)
        gallery.workspace.set_properties(pages[0], {"Live": False})
        gallery.put_image(pages[1], "new.png")
        gallery.clock.advance(1.0)
        await gallery.cycle()
        assert gallery.app.cycle.waits_for_files and not await gallery.text("page:withdrawn")
        assert [item["slug"] for item in (await gallery.value("pages:index"))["items"]] == ["busy"]
        assert "new.png" not in await gallery.text("page:busy") and "/assets/" not in await gallery.text(
            "page:busy"
        )


# The end -------------------------------------------------------------------------------------------------------------


async def test_the_end_does_not_wait_for_a_store_that_hangs_after_a_notion_that_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Abandoned while it looks for changes, a cycle still writes what is there; that has to have an end, too.

    Fails when what hangs at the end of a cycle is waited for: hosts kill after ten seconds.
    """
    monkeypatch.setattr("daemon.app.STOP_SECONDS", 0.4)
    async with a_daemon(tmp_path) as daemon:
        await daemon.settle()
        app, looking, writing = daemon.app, asyncio.Event(), asyncio.Event()
        apply = app.kv.apply

        async def hang(event: asyncio.Event, *_: object) -> bool:
            event.set()
            return await asyncio.Event().wait()

        await app.ledger.call(records.rewrite)
        monkeypatch.setattr(app.cycle.feeds, "poll", partial(hang, looking))
        monkeypatch.setattr(app.kv, "apply", partial(hang, writing))
        async with asyncio.timeout(10):
            working = asyncio.create_task(app.schedule.run())
            await looking.wait()
            app.schedule.stop()
            await app._finish(working)
        assert writing.is_set()
        monkeypatch.setattr(app.kv, "apply", apply)


# Full syncs ----------------------------------------------------------------------------------------------------------


async def test_a_page_that_cannot_be_read_keeps_no_full_sync_open(world: World) -> None:
    """Whoever asks for the next one gets it; the page is rewritten when it can be read.

    Fails when a full sync that everything but that page has left is still under way: the next would do nothing.
    """
    rows = world.add_source()
    world.workspace.add_row(rows, "One", {"slug": "one"})
    bad = world.workspace.add_row(rows, "Bad", {"slug": "bad"}, blocks=[b.paragraph("x")])
    world.clock.advance(OLD)
    await world.start()
    await world.settle()
    world.sandbox.faults.add(500, path=f"/blocks/{bad}/children", times=1000)

    async def full_sync() -> int:
        await world.cycle.begin_force()
        batches = 0
        for _ in range(3):
            batches += (await world.poll()).written["page"]
            await world.cycle.end_force()
        return batches

    assert await full_sync() == 1
    assert await full_sync() == 1
    world.sandbox.faults.clear()
    world.clock.advance(2 * OLD)
    assert (await world.run()).written["page"] == 1
