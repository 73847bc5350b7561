"""Stores that are reached over HTTP: an S3-compatible bucket, and Vercel Blob. One streaming client for both.

The signatures of S3 are obstore's, which reckons them without a connection of its own; the bytes go through the HTTP
client that everything else uses, so that an upload can be cancelled and no piece of it is held twice.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import IO, Literal
from urllib.parse import quote, urlencode, urlsplit

import httpx
import obstore
from obstore.store import S3Credential, S3Store

from daemon import __version__
from daemon.assets.fetch import Fetched
from daemon.assets.store import PIECE_BYTES, Place, StoreError
from daemon.config_assets import AssetsSetting
from daemon.ledger.assets import Copied
from daemon.site.media import disposition, elsewhere

YEAR_SECONDS = 31_536_000
IMMUTABLE = f"public, max-age={YEAR_SECONDS}, immutable"
SIGNED_FOR = timedelta(hours=1)
BLOB_API_VERSION = "12"
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)


class _Remote:
    """What both have in common."""

    name = ""
    hint = ""

    def __init__(self) -> None:
        self._http = httpx.AsyncClient(
            timeout=_TIMEOUT, headers={"User-Agent": f"notion-kv-sync/{__version__}"}, follow_redirects=False
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def _upload(
        self, method: str, url: str, file: Fetched, headers: Mapping[str, str]
    ) -> httpx.Response:
        opened = await asyncio.to_thread(file.file.open, "rb")
        try:
            sized = {**headers, "Content-Length": str(file.size_bytes)}
            return await self._send(method, url, content=_read(opened), headers=sized)
        finally:
            opened.close()

    async def _send(
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
    async def _stream(self, url: str, start: int, length: int) -> AsyncIterator[AsyncIterator[bytes]]:
        wanted = {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
        try:
            async with self._http.stream("GET", url, headers=wanted) as answer:
                if answer.status_code == 404:
                    raise FileNotFoundError(url.partition("?")[0])
                # Some S3-compatible servers give the range that was asked for, and call it 200.
                is_range = answer.status_code == 206 or "content-range" in answer.headers
                if not answer.is_success or not (is_range or start == 0):
                    raise self._refused(answer)
                yield _at_most(answer.aiter_bytes(), length)
        except httpx.HTTPError as error:
            raise self._away(error) from None

    def _away(self, error: httpx.HTTPError) -> StoreError:
        return StoreError(f"{self.name} does not answer ({type(error).__name__}).", self.hint)

    def _refused(self, answer: httpx.Response) -> StoreError:
        reasons = {401: "does not know these credentials", 403: "refuses these credentials"}
        reason = reasons.get(answer.status_code, f"answered {answer.status_code}")
        return StoreError(f"{self.name} {reason}.", self.hint)


class BucketStore(_Remote):
    """Any S3-compatible bucket. Objects are named by their digest, so the same bytes are there once."""

    kind = "s3"

    def __init__(self, setting: AssetsSetting) -> None:
        super().__init__()
        secret = setting.s3_secret_access_key
        endpoint = setting.s3_endpoint_url
        self.name = f"The bucket {setting.s3_bucket}"
        self.hint = "Check S3_ENDPOINT_URL, S3_BUCKET, S3_REGION and the keys; `doctor` says more."
        self.id = f"s3:{urlsplit(endpoint or '').netloc or 'aws'}/{setting.s3_bucket}/{setting.s3_prefix}"
        self._prefix = setting.s3_prefix
        self._public_url = setting.s3_public_url
        # Said in full: what is left out, obstore would look up in AWS's own variables.
        known = S3Credential(
            access_key_id=setting.s3_access_key_id,
            secret_access_key=secret.get_secret_value() if secret else "",
            token=None,
            expires_at=None,
        )
        self._signer = S3Store(
            setting.s3_bucket,
            region=setting.s3_region,
            endpoint=_endpoint(setting),
            virtual_hosted_style_request=not setting.s3_path_style,
            client_options={"allow_http": True},
            credential_provider=lambda: known,
        )

    async def put(self, file: Fetched, place: Place) -> Copied:
        key = f"{self._prefix}{file.digest[:2]}/{file.digest}{place.extension}"
        headers = {
            "Content-Type": elsewhere(file.media_type),
            "Cache-Control": IMMUTABLE,
            "Content-Disposition": disposition(place.name, file.media_type),
        }
        answer = await self._upload("PUT", self._signed("PUT", key), file, headers)
        if not answer.is_success:
            raise self._explained(answer)
        url = f"{self._public_url}/{quote(key)}" if self._public_url else None
        return Copied(file.digest, self.id, key, url, file.media_type, file.size_bytes)

    def open(self, copy: Copied, start: int, length: int):  # type: ignore[no-untyped-def]
        return self._stream(self._signed("GET", copy.location), start, length)

    async def remove(self, copy: Copied) -> None:
        answer = await self._send("DELETE", self._signed("DELETE", copy.location))
        if not answer.is_success and answer.status_code != 404:
            raise self._explained(answer)

    async def check(self) -> None:
        answer = await self._send("GET", self._signed("GET", f"{self._prefix}doctor"))
        if not answer.is_success and not (answer.status_code == 404 and "NoSuchBucket" not in answer.text):
            raise self._explained(answer)

    def _signed(self, method: Literal["GET", "PUT", "DELETE"], key: str) -> str:
        return obstore.sign(self._signer, method, key, SIGNED_FOR)

    def _explained(self, answer: httpx.Response) -> StoreError:
        if "NoSuchBucket" in answer.text:
            return StoreError(f"{self.name} does not exist.", "Make it, or set S3_BUCKET to one that does.")
        if answer.is_redirect:
            return StoreError(
                f"{self.name} is in another region.", "Set S3_REGION to the region it was made in."
            )
        return self._refused(answer)


def _endpoint(setting: AssetsSetting) -> str:
    """The address that objects lie under; without path style the bucket is part of the host."""
    endpoint = setting.s3_endpoint_url or f"https://s3.{setting.s3_region}.amazonaws.com"
    if setting.s3_path_style:
        return endpoint
    scheme, _, rest = endpoint.partition("://")
    return endpoint if rest.startswith(f"{setting.s3_bucket}.") else f"{scheme}://{setting.s3_bucket}.{rest}"


class BlobStore(_Remote):
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
        answer = await self._upload("PUT", f"{self._api}/?{query}", file, headers)
        url = _told_url(answer)
        if not answer.is_success or url is None:
            raise self._refused(answer)
        return Copied(file.digest, self.id, url, url, file.media_type, file.size_bytes)

    def open(self, copy: Copied, start: int, length: int):  # type: ignore[no-untyped-def]
        return self._stream(copy.location, start, length)

    async def remove(self, copy: Copied) -> None:
        wanted = httpx.Request("POST", self._api, json={"urls": [copy.location]})
        headers = {**self._headers, "Content-Type": "application/json"}
        answer = await self._send("POST", f"{self._api}/delete", content=wanted.content, headers=headers)
        if not answer.is_success and answer.status_code != 404:
            raise self._refused(answer)

    async def check(self) -> None:
        answer = await self._send("GET", f"{self._api}/?limit=1", headers=self._headers)
        if not answer.is_success:
            raise self._refused(answer)


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


async def _at_most(pieces: AsyncIterator[bytes], length: int) -> AsyncIterator[bytes]:
    async for piece in pieces:
        yield piece[:length]
        length -= len(piece)
        if length <= 0:
            return
