"""Files that Notion hosts, copied once and addressed for as long as they are shown."""

import asyncio
import re
from pathlib import Path

from sqlalchemy import Connection, text

from daemon.demo import blocks as b
from daemon.demo.files import PUBLIC_URL
from daemon.demo.normal import FILES_URL
from daemon.kv.embedded import EmbeddedKV
from daemon.oneshot import sync_until_done
from tests.support.flaky_kv import FlakyKV
from tests.support.gallery import DAY, HOUR, Gallery, a_gallery, until

EMOJI = {
    "id": "3839ce7b-60a4-804c-bdcd-007ad3034fba",
    "name": "moon",
    "url": f"{FILES_URL}/emoji/moon.png?s=1",
}


def everything(gallery: Gallery) -> None:
    """One page that shows a file in every way there is, and one that lists it."""
    url = f"{PUBLIC_URL}/some-id/moon.png"
    moon = {"id": "3839ce7b-60a4-804c-bdcd-007ad3034fba", "name": "moon", "url": url}
    emoji = {"type": "mention", "mention": {"type": "custom_emoji", "custom_emoji": moon}}
    page = gallery.add(
        "Everything",
        b.image(hosted="a photo.png"),
        b.toggle("More", [b.video(hosted="film.mp4"), b.audio(hosted="song.mp3")]),
        b.pdf(hosted="paper.pdf"),
        b.file(hosted="archive.zip"),
        {"type": "callout", "callout": {"rich_text": [], "icon": b.hosted_file("callout.png")}},
        {"type": "paragraph", "paragraph": {"rich_text": [emoji]}},
        b.image("https://elsewhere.example/picture.png"),
        icon=b.hosted_file("icon.png"),
        cover=b.hosted_file("cover.jpg"),
    )
    gallery.workspace.set_properties(page, {"Files": [{"name": "form.pdf", "hosted": True}]})
    database, rows = gallery.workspace.create_database(page, "Inner", {"slug": "rich_text"})
    gallery.workspace.add_row(rows, "Row", {"slug": "row"}, cover=b.hosted_file("row.png"))
    gallery.inner = database


async def test_every_hosted_file_gets_an_address_that_stays(tmp_path: Path) -> None:
    """In blocks at any depth, icon, cover, property, emoji, index and database bundle; an hour later they all work.

    Fails when one of these places is left out of `daemon.notion.files`: then a signed address is in the store.
    """
    async with a_gallery(tmp_path, build=everything) as gallery:
        await gallery.publish()
        stored = await gallery.all_texts()
        assert "X-Amz" not in stored and "expiry_time" not in stored and "moon.png" not in stored
        urls = set(re.findall(rf'"({re.escape(gallery.url)}/assets/[^"]+)"', stored))
        names = {url.rpartition(".")[2] for url in urls}
        assert names == {"png", "mp4", "mp3", "pdf", "zip", "jpg"} and len(urls) == 11
        meta = (await gallery.value("page:everything"))["meta"]
        listed = (await gallery.value("pages:index"))["items"]
        assert {meta["icon"], meta["cover"], meta["properties"]["Files"][0]["url"]} <= urls
        assert meta["cover"] in {item["cover"] for item in listed}
        assert (await gallery.value(f"db:{gallery.inner}:cursor:_"))["bundle"]["items"][0]["cover"] in urls
        assert "https://elsewhere.example/picture.png" in stored
        gallery.clock.advance(3 * HOUR)
        for url in urls:
            answer = await gallery.http.get(url)
            assert answer.status_code == 200, url
        assert all("/files/" in record.path for record in gallery.downloads)


async def test_images_carry_their_measures_and_one_write_is_enough(tmp_path: Path) -> None:
    """`__image_meta` from the bytes; a new page waits for its copies and is written once, with all of it.

    Fails when a page with new files is not held back (`Composition.held`): it is written twice then.
    """
    async with a_gallery(tmp_path) as gallery:
        gallery.add("One", b.image(hosted="one.png"), b.image("https://elsewhere.example/two.png"))
        assert await gallery.publish() == 1
        assert (await gallery.image("one"))["__image_meta"] == {"width": 64, "height": 48}
        assert "__image_meta" not in await gallery.image("one", 1)


async def test_copies_wake_the_schedule_and_nothing_else_does(tmp_path: Path) -> None:
    """What was copied is published at once, not at the next poll; looking in vain wakes nobody.

    Fails when `Copier._pause` does not tell, or tells although there is no news.
    """
    async with a_gallery(tmp_path) as gallery:
        gallery.put_image(gallery.add("One"), "one.png")
        woken: list[bool] = []
        gallery.app.files.copier.on_pause = lambda: woken.append(True)
        await gallery.cycle()
        await gallery.app.files.copier.drain()
        assert woken
        await gallery.publish()
        woken.clear()
        for _ in range(3):
            await gallery.cycle(look=False)
            await gallery.app.files.copier.drain()
        assert not woken


async def test_what_did_not_change_costs_nothing(tmp_path: Path) -> None:
    """G7: read again an hour later, with addresses signed anew, and forced: no download, no copy, no write.

    Fails when the identity of a file takes in the query of its address (`HostedFile.path`).
    """
    async with a_gallery(tmp_path, build=everything) as gallery:
        await gallery.settle()
        before, copies, first = (
            len(gallery.downloads),
            gallery.copies(),
            await gallery.text("page:everything"),
        )
        gallery.clock.advance(2 * HOUR)
        await gallery.app.cycle.begin_force()
        assert await gallery.publish() > 0
        await gallery.app.cycle.end_force()
        assert len(gallery.downloads) == before and gallery.copies() == copies
        again = await gallery.text("page:everything")
        assert again.partition('"syncedAt"')[0] == first.partition('"syncedAt"')[0]
        assert await gallery.publish() <= 1  # the lists that a forced sync rewrites at its end
        page = next(iter(gallery.app.cycle.site.facts.files))  # type: ignore[union-attr]
        gallery.workspace.set_properties(page, {"slug": "everything"})
        gallery.clock.advance(HOUR)
        assert await gallery.settle() == 1 and len(gallery.downloads) == before


async def test_one_file_used_twice_is_stored_once(tmp_path: Path) -> None:
    """The same file on two pages is fetched once; the same bytes under two addresses are stored once.

    Fails when copies are kept by place instead of by their digest.
    """
    async with a_gallery(tmp_path) as gallery:
        shared = {"type": "image", "image": {"type": "file", "file": {"url": f"{FILES_URL}/x/shared.png"}}}
        gallery.add("One", shared, b.image(hosted="first.png"))
        gallery.add("Two", shared, b.image(hosted="second.png"))
        await gallery.publish()
        names = [record.path.rpartition("/")[2] for record in gallery.downloads]
        assert sorted(names) == ["first.png", "second.png", "shared.png"]
        gallery.add("Three", shared)
        gallery.clock.advance(HOUR)
        await gallery.publish()
        assert len(gallery.downloads) == 3
        answer = await gallery.http.get(await gallery.image_url("three"))
        assert answer.status_code == 200
        same = gallery.add("Four")
        for name in ("twin-a.bin", "twin-b.bin"):
            block = gallery.workspace.append_blocks(same, [b.file(hosted=name)])[0]
            url = gallery.workspace.blocks[block].content.decode().split('"url":"')[1].split('"')[0]
            gallery.sandbox.files.store(url, b"the same bytes")
        before = len(gallery.copies())
        await gallery.publish()
        assert len(gallery.copies()) == before + 1


async def test_a_replaced_file_shows_at_once_and_the_old_one_leaves_after_its_grace(tmp_path: Path) -> None:
    """Another path in the same block is another file: one download, one write; the old copy stays for days.

    Fails when `forget_unused` counts no days, or when nothing is ever removed.
    """
    async with a_gallery(tmp_path, settings={"ASSETS_GRACE_DAYS": "2"}) as gallery:
        block = gallery.put_image(gallery.add("One"), "old.png")
        await gallery.settle()
        old = await gallery.image_url("one")
        gallery.replace_file(block, "new.png")
        written: list[str] = []
        gallery.app.cycle.publisher.on_written.append(written.extend)
        await gallery.settle()
        assert (
            len(written) == 1
        )  # the page: the index, which tells when it was edited, need not wait for the copy
        new = await gallery.image_url("one")
        assert new != old and len(gallery.downloads) == 2 and len(gallery.copies()) == 2
        await gallery.app.files.tidy()
        gallery.clock.advance(1.9 * DAY)
        assert await gallery.app.files.tidy() == 0
        assert (await gallery.http.get(old)).status_code == 200
        gallery.clock.advance(0.2 * DAY)
        assert await gallery.app.files.tidy() == 1
        assert (await gallery.http.get(old)).status_code == 404
        assert (await gallery.http.get(new)).status_code == 200 and len(gallery.copies()) == 1


async def test_nothing_leaves_that_a_live_key_names(tmp_path: Path) -> None:
    """The store is away for a month: its keys still name the old file, so that one stays, and goes when they do not.

    Fails when `forget_unused` asks only what pages show (`AssetUse`) and not what written keys name (`AssetHold`).
    """
    async with a_gallery(tmp_path) as gallery:
        block = gallery.put_image(gallery.add("One"), "old.png")
        await gallery.settle()
        old = await gallery.image_url("one")
        await gallery.app.kv.close()
        assert isinstance(gallery.app.kv, EmbeddedKV)
        flaky = FlakyKV(gallery.app.kv.path)
        gallery.app.cycle.publisher._kv = gallery.app.cycle.lease._kv = gallery.app.kv = flaky
        flaky.is_down = True
        gallery.replace_file(block, "new.png")
        for _ in range(3):
            await gallery.cycle()
            await gallery.app.files.copier.drain()
        for _ in range(3):
            gallery.clock.advance(30 * DAY)
            assert await gallery.app.files.tidy() == 0
        assert (await gallery.http.get(old)).status_code == 200
        flaky.heal()
        gallery.clock.advance(HOUR)
        await gallery.settle()
        await gallery.app.files.tidy()
        gallery.clock.advance(30 * DAY)
        assert await gallery.app.files.tidy() == 1
        assert (await gallery.http.get(await gallery.image_url("one"))).status_code == 200


async def test_a_trashed_page_takes_its_files_along(tmp_path: Path) -> None:
    """Its keys leave within a sweep, its copies after the days of grace; another page's stay."""
    async with a_gallery(tmp_path) as gallery:
        page = gallery.add("One")
        gallery.put_image(gallery.add("Two"), "stays.png")
        gallery.put_image(page, "goes.png")
        await gallery.settle()
        gallery.workspace.trash(page)
        gallery.clock.advance(2.0)
        await gallery.app.cycle.sweep.run()
        gallery.app.cycle.changed = True
        await gallery.publish()
        assert not await gallery.text("page:one")
        for _ in range(2):
            await gallery.app.files.tidy()
            gallery.clock.advance(8 * DAY)
        assert len(gallery.copies()) == 1


async def test_a_kill_in_the_middle_of_a_copy_loses_nothing(tmp_path: Path) -> None:
    """Killed with one file half arrived: the next process copies it whole; what is done is not done again.

    Fails when a file is marked as copied before its bytes are in the store, or is spooled into the store's folder.
    """
    async with a_gallery(tmp_path) as gallery:
        page = gallery.add("One")
        gallery.put_image(page, "quick.png")
        gallery.put_image(page, "slow.png")
        gallery.sandbox.faults.add(path="slow", slow=True)
        await gallery.cycle()
        await until(lambda: len(gallery.downloads) == 2 and len(gallery.copies()) == 1)
        await gallery.kill()
        await gallery.start()
        assert len(gallery.copies()) == 1
        await gallery.publish()
        assert len(gallery.copies()) == 2
        names = [record.path.rpartition("/")[2] for record in gallery.downloads]
        assert sorted(names) == ["quick.png", "slow.png", "slow.png"]
        counts = await gallery.counts()
        assert (counts["copied"], counts["waiting"], counts["failed"]) == (2, 0, 0)


async def test_a_ledger_of_an_older_version_learns_its_files(tmp_path: Path) -> None:
    """What was read before files were looked at is looked through at the start, without a request for any page.

    Fails without `find_files_of_old_reads`: the addresses of such pages go on dying.
    """
    async with a_gallery(tmp_path, settings={"ASSETS": "off"}, build=everything) as gallery:
        await gallery.settle()
        assert "X-Amz-Signature" in await gallery.text("page:everything")
        await gallery.app.ledger.call(_forget_files)
        await gallery.kill()
        del gallery.settings["ASSETS"]
        await gallery.start()
        requests = len(gallery.sandbox.requests)
        await gallery.app.files.copier.drain()
        gallery.app.api.has_answered = True  # without a question to Notion it may not take the store
        await gallery.cycle(look=False)
        assert len(gallery.sandbox.requests) == requests
        assert "X-Amz-Signature" not in await gallery.all_texts()


def _forget_files(db: Connection) -> None:
    for table in ("assets", "asset_uses", "asset_holds"):
        db.execute(text(f"DELETE FROM {table}"))
    db.execute(text("DELETE FROM meta WHERE name = 'files_known'"))


async def test_a_stop_does_not_wait_for_a_copy(tmp_path: Path) -> None:
    """Closing with a file on its way ends at once, and leaves nothing half."""
    async with a_gallery(tmp_path) as gallery:
        gallery.put_image(gallery.add("One"), "slow.png")
        gallery.sandbox.faults.add(path="slow", slow=True)
        await gallery.cycle()
        await until(lambda: len(gallery.downloads) == 1)
        async with asyncio.timeout(5.0):
            await gallery.kill()
        spool = Path(gallery.settings["DATA_DIR"]) / "assets" / "spool"
        assert list(spool.iterdir()) == [] and gallery.copies() == []
        await gallery.start()


async def test_a_sync_that_ends_waits_for_its_copies(tmp_path: Path) -> None:
    """`sync` with a file host that is slower than everything else: it ends when the copy is there and published.

    Fails without `_wait_for_files`: it ends with a page that waits, or that has no measures of its picture.
    """
    async with a_gallery(tmp_path) as gallery:
        gallery.put_image(gallery.add("One"), "slow.png")
        may_come, copier = asyncio.Event(), gallery.app.files.copier
        drain = copier.drain

        async def waited_for() -> None:
            may_come.set()
            await drain()

        copier.drain = waited_for  # type: ignore[method-assign]
        gallery.sandbox.watchers.append(lambda _, path: may_come.wait() if "slow.png" in path else None)  # type: ignore[arg-type,return-value]
        assert await sync_until_done(gallery.app, asyncio.Event()) is None
        assert "__image_meta" in await gallery.image("one")
