"""`/assets/{id}`: what browsers and caches are told, and what they can never be given."""

from pathlib import Path
from typing import Any

from daemon.demo import blocks as b
from daemon.site.media import disposition
from tests.support.gallery import HOUR, Gallery, a_gallery

CONTENT = bytes(range(256)) * 40
SCRIPT = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


async def served(gallery: Gallery, name: str, content: bytes, kind: str | None = None) -> str:
    """The address of a file block with this content."""
    number = len(gallery.workspace.pages)
    page = gallery.add(f"Page {number}")
    block = gallery.workspace.append_blocks(page, [b.file(hosted=name)])[0]
    told = gallery.workspace.blocks[block].content.decode()
    gallery.sandbox.files.store(told.split('"url":"')[1].split('"')[0], content, kind)
    gallery.clock.advance(HOUR)
    await gallery.publish()
    url: str = (await gallery.value(f"page:page-{number}"))["blocks"][0]["file"]["file"]["url"]
    return url


async def test_a_copy_may_be_kept_for_ever(tmp_path: Path) -> None:
    """Immutable, with an ETag that answers 304, ranges, HEAD, no sniffing, open to other origins.

    Fails with another Cache-Control, without the comparison of If-None-Match, or when a range is off by one.
    """
    async with a_gallery(tmp_path) as gallery:
        url = await served(gallery, "song.mp3", CONTENT)
        whole = await gallery.http.get(url)
        assert whole.content == CONTENT and whole.headers["content-type"] == "audio/mpeg"
        assert whole.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert whole.headers["x-content-type-options"] == "nosniff"
        assert whole.headers["access-control-allow-origin"] == "*"
        tag = whole.headers["etag"]
        for asked in (tag, f'W/{tag}, "other"', "*"):
            unchanged = await gallery.http.get(url, headers={"If-None-Match": asked})
            assert unchanged.status_code == 304 and unchanged.content == b""
        assert (await gallery.http.get(url, headers={"If-None-Match": '"other"'})).status_code == 200
        head = await gallery.http.head(url)
        assert head.status_code == 200 and head.content == b""
        assert (
            head.headers["content-length"] == str(len(CONTENT)) and head.headers["accept-ranges"] == "bytes"
        )


RANGES = {
    "bytes=0-0": (0, 1),
    "bytes=10-19": (10, 20),
    "bytes=10000-": (10_000, 10_240),
    "bytes=-5": (10_235, 10_240),
    "bytes=10200-99999": (10_200, 10_240),
    "bytes=-99999": (0, 10_240),
    "bytes=5-2": (0, 10_240),
    "bytes=-": (0, 10_240),
    "lines=1-2": (0, 10_240),
    "bytes=0-1,5-6": (0, 10_240),
}


async def test_a_crowd_of_readers_does_not_keep_the_ledger_busy(tmp_path: Path) -> None:
    """What was looked up for one reader serves the others for half a minute.

    Fails when every picture that is asked for is a question to the ledger.
    """
    async with a_gallery(tmp_path) as gallery:
        song = await served(gallery, "song.mp3", CONTENT)
        asked: list[object] = []
        ledger, ask = gallery.app.ledger, gallery.app.ledger.call

        async def counted(question: Any, *args: Any, **more: Any) -> Any:
            asked.append(question)
            return await ask(question, *args, **more)

        ledger.call = counted  # type: ignore[method-assign]
        for _ in range(20):
            assert (await gallery.http.get(song)).status_code == 200
        assert len(asked) == 1
        gallery.clock.advance(31.0)
        await gallery.http.get(song)
        assert len(asked) == 2


async def test_ranges(tmp_path: Path) -> None:
    """Each part is the bytes it says it is. Nonsense, several at once, or a part of another version: the whole.

    Fails when an end counts as one too many, or when If-Range is not looked at.
    """
    async with a_gallery(tmp_path) as gallery:
        song = await served(gallery, "song.mp3", CONTENT)
        for asked, (start, end) in RANGES.items():
            part = await gallery.http.get(song, headers={"Range": asked})
            assert part.content == CONTENT[start:end], asked
            assert part.status_code == (206 if end - start < len(CONTENT) else 200)
            if part.status_code == 206:
                assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
        beyond = await gallery.http.get(song, headers={"Range": "bytes=20000-"})
        assert beyond.status_code == 416 and beyond.headers["content-range"] == f"bytes */{len(CONTENT)}"
        other = await gallery.http.get(song, headers={"Range": "bytes=0-1", "If-Range": '"other"'})
        assert other.status_code == 200 and other.content == CONTENT


async def test_nothing_served_can_run(tmp_path: Path) -> None:
    """SVG is boxed in, HTML and whatever is not on the list is a download without a type, names are harmless.

    Fails when both `media_type` and `_headers` pass a type on as the uploader gave it: each alone is enough.
    """
    async with a_gallery(tmp_path) as gallery:
        svg = await gallery.http.get(await served(gallery, "logo.svg", SCRIPT, "image/svg+xml"))
        assert "sandbox" in svg.headers["content-security-policy"].split("; ")
        assert svg.headers["content-disposition"].startswith("attachment")
        for name, kind in (
            ("page.html", "text/html"),
            ("page.xhtml", "application/xhtml+xml"),
            ("code.js", "text/javascript"),
            ("mask.png", "text/html; charset=utf-8"),
            ("feed.xml", "text/xml"),
        ):
            answer = await gallery.http.get(await served(gallery, name, SCRIPT, kind))
            assert answer.headers["content-type"] == "application/octet-stream", name
            assert answer.headers["content-disposition"].startswith("attachment"), name
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "sandbox" in answer.headers["content-security-policy"]
        odd = await gallery.http.get(
            await served(gallery, 'é"; filename=evil.html.txt', b"text", "text/plain")
        )
        assert odd.headers["content-disposition"].startswith(
            'inline; filename="___ filename_evil.html.txt"; '
        )
        assert odd.headers["content-type"] == "text/plain; charset=utf-8"
        assert disposition("a\r\nX-Bad: 1\x00.txt", "text/plain").isprintable()


async def test_only_what_the_ledger_knows_is_served(tmp_path: Path) -> None:
    """No way out of the folder: a name is thirty-two hex digits that the ledger knows, or nothing.

    Fails when the path of the request becomes part of a path on the disk.
    """
    async with a_gallery(tmp_path) as gallery:
        song = await served(gallery, "song.mp3", CONTENT)
        known = song.rpartition("/")[2].partition(".")[0]
        assert (await gallery.http.get(f"{gallery.url}/assets/{known}")).status_code == 200
        (copy,) = gallery.copies()
        for name in (
            "..%2f..%2fledger.db",
            "%2e%2e/%2e%2e/ledger.db",
            "../ledger.db",
            f"{copy.parent.name}/{copy.name}",
            copy.name,
            "0" * 32,
            f"{known}/../../ledger.db",
            f"{known}.mp3.html",
            f"{known}%00.png",
            "",
        ):
            request = gallery.http.build_request("GET", gallery.url)
            request.url = request.url.copy_with(raw_path=f"/assets/{name}".encode())
            assert (await gallery.http.send(request)).status_code == 404, name
        assert (await gallery.http.post(song)).status_code == 405


async def test_a_copy_that_the_folder_lost_is_made_again(tmp_path: Path) -> None:
    """Removed or cut short by somebody: readers are led to Notion's address, and the file is copied once more.

    Fails without `assets.lost`: the address answers with an error for ever.
    """
    async with a_gallery(tmp_path) as gallery:
        url = await served(gallery, "song.mp3", CONTENT)
        for half in (None, b"half"):
            (copy,) = gallery.copies()
            copy.unlink() if half is None else copy.write_bytes(half)
            led = await gallery.http.get(url)
            assert led.status_code == 302
            await gallery.publish()
            assert (await gallery.http.get(url)).content == CONTENT


async def test_a_page_that_is_not_published_keeps_its_files_to_itself(tmp_path: Path) -> None:
    """Read and copied, but with no key that names it: 404, until there is one.

    Fails when a copy is served to whoever has its id.
    """
    async with a_gallery(tmp_path) as gallery:
        gallery.put_image(gallery.add("One"), "photo.png")
        gallery.app.cycle.lease.may_claim = lambda: False
        await gallery.cycle()
        await gallery.app.files.copier.drain()
        await gallery.cycle(look=False)
        assert gallery.app.cycle.site is not None and len(gallery.copies()) == 1
        ((file,),) = gallery.app.cycle.site.facts.files.values()
        address = f"{gallery.url}/assets/{file.id}"
        assert (await gallery.http.get(address)).status_code == 404
        gallery.app.cycle.lease.may_claim = lambda: True
        await gallery.publish()
        assert (await gallery.http.get(address)).status_code == 200
