"""Addresses that lead to Notion's own of the hour: fresh, remembered, asked for once, of published pages only."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from daemon.assets import fresh as fresh_module
from daemon.demo import blocks as b
from daemon.status import full
from tests.support.gallery import HOUR, Gallery, a_gallery

PROXY = {"ASSETS": "proxy"}


async def follow(gallery: Gallery, url: str) -> int:
    """What a reader gets who goes where the address leads, now."""
    led = await gallery.http.get(url)
    assert led.status_code == 302, led.text
    return (await gallery.http.get(led.headers["location"])).status_code


async def test_an_address_leads_to_a_fresh_one(tmp_path: Path) -> None:
    """Nothing is copied. The address in the bundle works hours later, when Notion's of that time is long dead.

    Fails when an address is given out after its `expires_at`.
    """
    async with a_gallery(tmp_path, settings=PROXY) as gallery:
        page = gallery.add("One", cover=b.hosted_file("cover.png"))
        gallery.put_image(page, "photo.png")
        gallery.workspace.set_properties(page, {"Files": [{"name": "form.pdf", "hosted": True}]})
        await gallery.publish()
        assert "X-Amz" not in await gallery.all_texts() and not gallery.folder.exists()
        meta = (await gallery.value("page:one"))["meta"]
        urls = [await gallery.image_url("one"), meta["cover"], meta["properties"]["Files"][0]["url"]]
        dead = (await gallery.http.get(urls[0])).headers["location"]
        assert (await gallery.http.get(dead)).status_code == 200
        for _ in range(3):
            gallery.clock.advance(5 * HOUR)
            assert [await follow(gallery, url) for url in urls] == [200, 200, 200]
        assert (await gallery.http.get(dead)).status_code == 403


async def test_pictures_are_measured_although_nothing_is_copied(tmp_path: Path) -> None:
    """Their first bytes are fetched, once; the page waits for that and is written once."""
    async with a_gallery(tmp_path, settings=PROXY) as gallery:
        gallery.add("One", b.image(hosted="photo.png"), b.video(hosted="film.mp4"))
        assert await gallery.settle() == 1
        assert (await gallery.image("one"))["__image_meta"] == {"width": 64, "height": 48}
        gallery.clock.advance(HOUR)
        await gallery.settle()
        assert [record.path.rpartition("/")[2] for record in gallery.downloads] == ["photo.png"]


async def test_many_readers_cost_one_request(tmp_path: Path) -> None:
    """Thirty at once, and everybody until shortly before it dies: Notion is asked once.

    Fails without `FreshAddresses._asking` (thirty requests), when what was told is not kept (one a reader), or when a
    browser may remember an address for longer than it lives.
    """
    async with a_gallery(tmp_path, settings=PROXY) as gallery:
        gallery.put_image(gallery.add("One"), "photo.png")
        await gallery.settle()
        url = await gallery.image_url("one")
        gallery.clock.advance(2 * HOUR)
        before = gallery.sandbox.count()
        answers = await asyncio.gather(*(gallery.http.get(url) for _ in range(30)))
        assert len({answer.headers["location"] for answer in answers}) == 1
        assert gallery.sandbox.count() == before + 1
        gallery.clock.advance(HOUR - fresh_module.MARGIN_SECONDS - 60)
        assert await follow(gallery, url) == 200 and gallery.sandbox.count() == before + 1
        kept = (await gallery.http.get(url)).headers["cache-control"]
        assert kept.startswith("private, max-age=") and int(kept.rpartition("=")[2]) <= 90
        gallery.clock.advance(120)
        assert await follow(gallery, url) == 200 and gallery.sandbox.count() == before + 2


async def test_only_files_of_published_pages(tmp_path: Path) -> None:
    """A page that left the site, or a file that left its page, leads nowhere.

    Fails when `Assets._lead` does not look whether a written key names the file.
    """
    async with a_gallery(tmp_path, settings=PROXY) as gallery:
        page, other = gallery.add("One"), gallery.add("Two")
        gallery.put_image(page, "photo.png")
        block = gallery.put_image(other, "draft.png")
        await gallery.settle()
        urls = [await gallery.image_url("one"), await gallery.image_url("two")]
        gallery.workspace.trash(page)
        gallery.workspace.delete_block(block)
        gallery.clock.advance(HOUR)
        await gallery.settle()
        await gallery.app.cycle.sweep.run()
        gallery.app.cycle.changed = True
        await gallery.publish()
        before = gallery.sandbox.count()
        for url in urls:
            assert (await gallery.http.get(url)).status_code == 404
        assert gallery.sandbox.count() == before


async def test_readers_cannot_starve_polling(tmp_path: Path) -> None:
    """They ask in the lane of reading: of forty a minute polling needs thirty-four, so twelve take two minutes.

    Fails with `Lane.FEED` in `FreshAddresses`: nobody waits, and the reserve is gone.
    """
    async with a_gallery(tmp_path, settings={**PROXY, "NOTION_REQUESTS_PER_MINUTE": "40"}) as gallery:
        page = gallery.add("One")
        for number in range(12):
            gallery.put_image(page, f"{number}.png")
        await gallery.settle()
        urls = [await gallery.image_url("one", number) for number in range(12)]
        gallery.clock.advance(2 * HOUR)
        gallery.app.api.limiter.reserve = 34
        began, before = gallery.clock.monotonic(), gallery.sandbox.count()
        answers = await asyncio.gather(*(gallery.http.get(url) for url in urls))
        assert [answer.status_code for answer in answers] == [302] * 12
        assert gallery.sandbox.count() == before + 12
        assert gallery.clock.monotonic() - began >= 60.0


async def test_a_notion_that_is_away_is_said_so(tmp_path: Path) -> None:
    """503 with Retry-After, not an error of ours; mended, it leads again."""
    async with a_gallery(tmp_path, settings=PROXY) as gallery:
        gallery.put_image(gallery.add("One"), "photo.png")
        await gallery.settle()
        url = await gallery.image_url("one")
        gallery.clock.advance(2 * HOUR)
        gallery.sandbox.faults.add(500, path="/blocks/", times=5)
        answer = await gallery.http.get(url)
        assert answer.status_code == 503 and answer.headers["retry-after"]
        assert await follow(gallery, url) == 200


async def test_off_keeps_notions_addresses_and_says_what_breaks(tmp_path: Path) -> None:
    """ASSETS=off: signed addresses as they are, nothing fetched, nothing served, and a warning."""
    async with a_gallery(tmp_path, settings={"ASSETS": "off"}) as gallery:
        gallery.put_image(gallery.add("One"), "photo.png")
        await gallery.settle()
        url = await gallery.image_url("one")
        assert "X-Amz-Signature" in url and gallery.downloads == []
        assert any("die after an hour" in line for line in (await full(gallery.app))["warnings"])
        assert (await gallery.http.get(f"{gallery.url}/assets/{'0' * 32}")).status_code == 404


@pytest.mark.parametrize("first", ["off", "proxy"])
async def test_another_mode_rewrites_what_it_concerns(tmp_path: Path, first: str) -> None:
    """Copied from now on: pages with files are written again, the others are not."""
    async with a_gallery(tmp_path, settings={"ASSETS": first}) as gallery:
        gallery.put_image(gallery.add("One"), "photo.png")
        gallery.add("Two")
        await gallery.settle()
        untouched = await gallery.text("page:two")
        await gallery.kill()
        gallery.settings["ASSETS"] = "mirror"
        await gallery.start()
        await gallery.publish()
        assert urlsplit(await gallery.image_url("one")).path.startswith("/assets/")
        assert len(gallery.copies()) == 1 and await gallery.text("page:two") == untouched
