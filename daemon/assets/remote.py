"""What stores that are reached over HTTP have in common, and Vercel Blob. Everything is streamed, nothing is held."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import IO
from urllib.parse import quote, urlencode

import httpx

from daemon import __version__
from daemon.assets.fetch import Fetched
from daemon.assets.store import PIECE_BYTES, Place, StoreError
from daemon.config_assets import AssetsSetting
from daemon.ledger.assets import Copied
from daemon.notion.connections import ssl_context
from daemon.site.media import elsewhere

YEAR_SECONDS = 31_536_000
IMMUTABLE = f"public, max-age={YEAR_SECONDS}, immutable"
BLOB_API_VERSION = "12"
UPLOAD_SECONDS = 300.0
"""How long one file may take on its way into a store."""
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)


class Remote:
    """What both have in common."""

    name = ""
    hint = ""

    def __init__(self) -> None:
        self._http = httpx.AsyncClient(
            verify=ssl_context(),
            timeout=_TIMEOUT,
            headers={"User-Agent": f"notion-kv-sync/{__version__}"},
            follow_redirects=False,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def upload(
        self, method: str, url: str, file: Fetched, headers: Mapping[str, str]
    ) -> httpx.Response:
        opened = await asyncio.to_thread(file.file.open, "rb")
        try:
            sized = {**headers, "Content-Length": str(file.size_bytes)}
            async with asyncio.timeout(UPLOAD_SECONDS):
                return await self.send(method, url, content=_read(opened), headers=sized)
        except TimeoutError:
            raise StoreError(f"{self.name} did not take a file in {UPLOAD_SECONDS:g} s.", self.hint) from None
        finally:
            opened.close()

    async def send(
        self,
        method: str,
        url: str,
        *,
        content: AsyncIterator[bytes] | bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        try:
            return await self._http.request(method, url, content=content, headers=headers)
        except httpx.HTTPError as error:
            raise self._away(error) from None

    @asynccontextmanager
    async def stream(self, url: str, start: int, length: int) -> AsyncIterator[AsyncIterator[bytes]]:
        wanted = {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
        try:
            async with self._http.stream("GET", url, headers=wanted) as answer:
                if answer.status_code == 404:
                    raise FileNotFoundError(url.partition("?")[0])
                if not answer.is_success:
                    raise self.refused(answer)
                # Some servers give the range that was asked for and call it 200, some ignore that it was asked for.
                is_part = answer.status_code == 206 or "content-range" in answer.headers
                yield _part(answer.aiter_bytes(), 0 if is_part else start, length)
        except httpx.HTTPError as error:
            raise self._away(error) from None

    def _away(self, error: httpx.HTTPError) -> StoreError:
        return StoreError(f"{self.name} does not answer ({type(error).__name__}).", self.hint)

    def refused(self, answer: httpx.Response) -> StoreError:
        reasons = {401: "does not know these credentials", 403: "refuses these credentials"}
        reason = reasons.get(answer.status_code, f"answered {answer.status_code}")
        return StoreError(f"{self.name} {reason}.", self.hint)


class BlobStore(Remote):
    """Vercel Blob, as its own SDK speaks to it, in the layout `notion-pages/{pageId}/blocks/{blockId}`."""

    kind = "vercel-blob"
    name = "Vercel Blob"
    hint = "Check BLOB_READ_WRITE_TOKEN: it is that of a public store (Vercel: Storage, Blob)."

    def __init__(self, setting: AssetsSetting) -> None:
        super().__init__()
        token = setting.blob_token.get_secret_value() if setting.blob_token else ""
        store = token.split("_")[3] if token.count("_") >= 4 else ""
        self.id = f"blob:{store}"
        self._api = setting.blob_api_url
        self._headers = {
            "Authorization": f"Bearer {token}",
            "x-api-version": BLOB_API_VERSION,
            **({"x-vercel-blob-store-id": store} if store else {}),
        }

    async def put(self, file: Fetched, place: Place) -> Copied:
        headers = {
            **self._headers,
            "x-vercel-blob-access": "public",
            "x-content-type": elsewhere(file.media_type),
            "x-cache-control-max-age": str(YEAR_SECONDS),
            "x-add-random-suffix": "0",
            "x-allow-overwrite": "1",
        }
        query = urlencode({"pathname": pathname(place, file.digest)})
        answer = await self.upload("PUT", f"{self._api}/?{query}", file, headers)
        url = _told_url(answer)
        if not answer.is_success or url is None:
            raise self.refused(answer)
        return Copied(file.digest, self.id, url, url, file.media_type, file.size_bytes)

    def open(self, copy: Copied, start: int, length: int):  # type: ignore[no-untyped-def]
        return self.stream(copy.location, start, length)

    async def remove(self, copy: Copied) -> None:
        wanted = httpx.Request("POST", self._api, json={"urls": [copy.location]})
        headers = {**self._headers, "Content-Type": "application/json"}
        answer = await self.send("POST", f"{self._api}/delete", content=wanted.content, headers=headers)
        if not answer.is_success and answer.status_code != 404:
            raise self.refused(answer)

    async def check(self) -> None:
        answer = await self.send("GET", f"{self._api}/?limit=1", headers=self._headers)
        if not answer.is_success:
            raise self.refused(answer)


def pathname(place: Place, digest: str) -> str:
    """Where a file lies in Vercel Blob. Its digest is part of it: other bytes never get an address that is known."""
    what, _, rest = place.holder.partition(":")
    where = f"blocks/{rest}" if what == "block" else _on_page(rest.partition(":")[2])
    return f"notion-pages/{place.page_id}/{where}-{digest[:16]}{place.extension}"


def _on_page(part: str) -> str:
    return part if part in ("cover", "icon") else f"properties/{quote(part, safe='').replace('%', '_')}"


def _told_url(answer: httpx.Response) -> str | None:
    try:
        told = answer.json()
    except ValueError:
        return None
    url = told.get("url") if isinstance(told, dict) else None
    return url if isinstance(url, str) and url.startswith(("https://", "http://")) else None


async def _read(opened: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(opened.read, PIECE_BYTES):
        yield piece


async def _part(pieces: AsyncIterator[bytes], skipped: int, length: int) -> AsyncIterator[bytes]:
    async for piece in pieces:
        wanted = piece[skipped:][:length]
        skipped = max(skipped - len(piece), 0)
        length -= len(wanted)
        if wanted:
            yield wanted
        if length <= 0:
            return
