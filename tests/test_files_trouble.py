"""Files that cannot be copied: the page is published all the same, the reason is told, and it is tried again."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from daemon.assets.copier import MOST_AT_ONCE
from daemon.status import full
from daemon.web.assets import LED_FOR_SECONDS
from tests.support.gallery import HOUR, Gallery, a_gallery, until
from tests.support.liar import Liar, a_liar


async def troubled(gallery: Gallery) -> list[dict[str, Any]]:
    """What the status says of files that could not be copied."""
    found: list[dict[str, Any]] = (await full(gallery.app))["files"]["troubled"]
    return found


async def test_a_failed_copy_does_not_fail_the_page(tmp_path: Path) -> None:
    """The bundle holds the daemon's address, which leads to Notion's; told in the status, tried again, mended.

    Fails when `Copier._failed` sets no next try, or when a page waits for files that have failed.
    """
    async with a_gallery(tmp_path) as gallery:
        gallery.put_image(gallery.add("One"), "bad.png")
        gallery.sandbox.faults.add(500, path="bad", times=2)
        await gallery.publish()
        url = await gallery.image_url("one")
        (told,) = await troubled(gallery)
        assert told["name"] == "bad.png" and "500" in told["reason"]
        wait_seconds = _moment(told["nextTryAt"]) - gallery.clock.now().timestamp()
        assert 0 < wait_seconds <= 60
        answer = await gallery.http.get(url)
        assert answer.status_code == 302 and "X-Amz-Signature" in answer.headers["location"]
        assert answer.headers["cache-control"] == f"private, max-age={LED_FOR_SECONDS}"
        gallery.clock.advance(wait_seconds + 1)
        await gallery.publish()
        (told,) = await troubled(gallery)
        longer = _moment(told["nextTryAt"]) - gallery.clock.now().timestamp()
        assert longer > wait_seconds
        gallery.clock.advance(longer + 1)
        await gallery.publish()
        assert await troubled(gallery) == []
        assert await gallery.image_url("one") == url
        assert (await gallery.http.get(url)).status_code == 200
        assert (await gallery.image("one"))["__image_meta"] == {"width": 64, "height": 48}


async def test_while_a_copy_fails_the_previous_one_is_shown(tmp_path: Path) -> None:
    """A replaced file that cannot be had: the bundle keeps the address of the copy that works, until there is one.

    Fails when `FileLinks.shown` does not look at the previous file of the same place.
    """
    async with a_gallery(tmp_path) as gallery:
        block = gallery.put_image(gallery.add("One"), "old.png")
        await gallery.settle()
        old = await gallery.image_url("one")
        gallery.sandbox.faults.add(500, path="new", times=1)
        gallery.replace_file(block, "new.png")
        await gallery.publish()
        assert await gallery.image_url("one") == old
        assert (await gallery.image("one"))["__image_meta"] == {"width": 64, "height": 48}
        assert (await gallery.http.get(old)).status_code == 200
        gallery.clock.advance(HOUR)
        await gallery.publish()
        assert await gallery.image_url("one") != old
        assert (await gallery.http.get(await gallery.image_url("one"))).status_code == 200


@pytest.mark.parametrize("how", ["cut", "reset", "slow"])
async def test_what_breaks_off_is_not_kept(tmp_path: Path, how: str) -> None:
    """A connection cut in the middle, reset, or gone silent: nothing half is stored or left in the spool.

    Fails when a connection that breaks is taken for the end of the file; without a time limit it hangs.
    """
    async with a_gallery(tmp_path) as gallery:
        gallery.app.files.fetcher.quiet_seconds = 0.2
        gallery.put_image(gallery.add("One"), "bad.png")
        gallery.sandbox.faults.add(path="bad", cut=how == "cut", reset=how == "reset", slow=how == "slow")
        await gallery.publish()
        assert gallery.copies() == [] and len(await troubled(gallery)) == 1
        spool = Path(gallery.settings["DATA_DIR"]) / "assets" / "spool"
        assert not spool.exists() or list(spool.iterdir()) == []
        gallery.clock.advance(HOUR)
        await gallery.publish()
        assert len(gallery.copies()) == 1


@pytest.mark.parametrize("path", ["/big.bin", "/claims.bin", "/endless.bin"])
async def test_what_is_too_large_is_not_copied(tmp_path: Path, path: str) -> None:
    """ASSETS_MAX_BYTES holds whatever the host says of the length; the page leads to Notion's address instead.

    Fails when only Content-Length is looked at (the endless answer), or only what arrives (the one that claims much).
    """
    async with a_liar() as liar, a_gallery(tmp_path, settings={"ASSETS_MAX_BYTES": "50000"}) as gallery:
        gallery.app.files.fetcher.quiet_seconds = 1.0
        gallery.add("One", _lying(liar, path))
        await gallery.publish()
        assert gallery.copies() == [] and (await gallery.counts())["refused"] == 1
        (reason,) = await troubled(gallery)
        assert "ASSETS_MAX_BYTES" in reason["reason"] and reason["nextTryAt"] is None
        assert liar.sent_bytes < 10_000_000
        url = (await gallery.value("page:one"))["blocks"][0]["file"]["file"]["url"]
        assert (await gallery.http.get(url)).status_code == 302
        asked = liar.requests
        gallery.clock.advance(30 * HOUR)
        await gallery.publish()
        assert liar.requests == asked
        await gallery.kill()
        gallery.settings["ASSETS_MAX_BYTES"] = "5000000"
        await gallery.start()
        await gallery.publish()
        assert liar.requests == asked + 1
        assert len(gallery.copies()) == (path == "/big.bin")


async def test_a_page_of_errors_is_no_picture(tmp_path: Path) -> None:
    """A host that answers 200 with HTML where a picture is meant: not copied, tried again.

    Fails without the check of the type in `fetch`.
    """
    async with a_liar() as liar, a_gallery(tmp_path) as gallery:
        gallery.add(
            "One", {"type": "image", "image": {"type": "file", "file": {"url": f"{liar.url}/page.html"}}}
        )
        await gallery.publish()
        (told,) = await troubled(gallery)
        assert "text/html" in told["reason"] and gallery.copies() == []


async def test_a_slow_host_holds_nobody_up(tmp_path: Path) -> None:
    """A page whose file does not come is published after ten seconds, and written once more when it came.

    Fails when a page waits for its files without end.
    """
    async with a_gallery(tmp_path) as gallery:
        gallery.put_image(gallery.add("One"), "slow.png")
        gallery.add("Two")
        gallery.sandbox.faults.add(path="slow", slow=True)
        assert await gallery.cycle() == 1
        assert await gallery.text("page:two") and not await gallery.text("page:one")
        assert gallery.app.cycle.waits_for_files and not await gallery.app.cycle.first_sync_done()
        gallery.clock.advance(11.0)
        assert await gallery.cycle(look=False) == 1
        answer = await gallery.http.get(await gallery.image_url("one"))
        assert answer.status_code == 302
        await gallery.kill()
        await gallery.start()
        assert await gallery.publish() == 1
        assert "__image_meta" in await gallery.image("one")


def _lying(liar: Liar, path: str) -> dict[str, Any]:
    return {"type": "file", "file": {"type": "file", "file": {"url": f"{liar.url}{path}"}, "name": "x"}}


def _moment(text: str) -> float:

    return datetime.fromisoformat(text).timestamp()


async def test_a_few_at_once(tmp_path: Path) -> None:
    """Ten files whose host hangs: four are asked for, the others wait for a place.

    Fails without `MOST_AT_ONCE`.
    """
    async with a_gallery(tmp_path) as gallery:
        page = gallery.add("One")
        for number in range(10):
            gallery.put_image(page, f"{number}.png")
        gallery.sandbox.faults.add(path="/files/", hang=True, times=10)
        await gallery.cycle()
        await until(lambda: len(gallery.downloads) == MOST_AT_ONCE)
        for _ in range(5):
            await gallery.cycle(look=False)
        assert len(gallery.downloads) == MOST_AT_ONCE
        gallery.sandbox.faults.clear()
        await gallery.kill()
        await gallery.start()
        await gallery.publish()
        assert (await gallery.counts())["copied"] == 10
