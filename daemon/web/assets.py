"""`/assets/{id}`: a copy, for as long as anybody likes to keep it; without one the way to Notion's address of the hour.

Only files that a published page names; a copy also when no page shows it any more, for its days of grace. Nothing
served here can run as a page of ours.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack

import structlog
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from daemon.assets.fresh import BusyError, FileGoneError
from daemon.assets.store import StoreError
from daemon.ledger import assets
from daemon.ledger.assets import AssetRow, Copied
from daemon.ledger.ledger import LedgerError
from daemon.notion.errors import NotionError
from daemon.notion.files import file_name, plain
from daemon.site.media import DOWNLOAD, SVG, disposition, is_passive
from daemon.status import Parts
from daemon.web.answers import error_answer

PATIENCE_SECONDS = 15.0
"""How long a reader waits for Notion to sign an address."""
LED_FOR_SECONDS = 300
"""How long a browser may remember where it was led, at most; never until the address dies."""
KNOWN_SECONDS = 30.0
MOST_KNOWN = 10_000
"""What was looked up for one reader serves the next ones for a while: pictures are asked for by the dozen."""
_NAME = re.compile(r"([0-9a-f]{32})(?:\.[A-Za-z0-9]{1,8})?")
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
_OPEN_TO_ALL = {
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}
_HARMLESS = "default-src 'self' data:; script-src 'none'; style-src 'unsafe-inline'"
_BOXED = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
"""For what could run if it were let: an SVG image is shown inside a page, and nothing in it runs anywhere."""

log = structlog.get_logger(__name__)


def asset_routes(parts: Parts) -> list[BaseRoute]:
    """Nothing is served while files are off."""
    if parts.files.are_off:
        return []
    return [Route("/assets/{name}", Assets(parts).answer, methods=["GET"])]


class Assets:
    """Answers readers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._files = parts.files
        self._known: dict[str, tuple[float, AssetRow]] = {}

    async def answer(self, request: Request) -> Response:
        """The file, a redirect, or why there is neither."""
        name = _NAME.fullmatch(request.path_params["name"])
        row = await self._find(name[1]) if name else None
        if row is None or not row.is_public:
            return error_answer(404, "not_found", "There is no such file.")
        store = self._files.store
        if row.copy is not None and store is not None and row.copy.store == store.id:
            if row.copy.url is not None and is_passive(row.copy.media_type):
                return _led(row.copy.url, LED_FOR_SECONDS)
            served = await self._serve(request, row, row.copy)
            if served is not None:
                return served
        return await self._lead(row)

    async def _find(self, asset_id: str) -> AssetRow | None:
        now = self._parts.clock.monotonic()
        looked_at, known = self._known.get(asset_id, (float("-inf"), None))
        if known is not None and now - looked_at < KNOWN_SECONDS:
            return known
        row = await self._parts.ledger.call(assets.find, asset_id)
        self._known.pop(asset_id, None)
        if row is not None and row.copy is not None and row.is_public:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[asset_id] = (now, row)
        return row

    # The copy --------------------------------------------------------------------------------------------------

    async def _serve(self, request: Request, row: AssetRow, copy: Copied) -> Response | None:
        """The copy, or the part that was asked for; None: the store has it no more."""
        headers = _headers(row, copy)
        if _is_known(request.headers, copy):
            return Response(status_code=304, headers=headers)
        part = _part(request.headers, copy)
        if part is None:
            return Response(
                status_code=416, headers={**headers, "Content-Range": f"bytes */{copy.size_bytes}"}
            )
        start, length = part
        headers["Content-Length"] = str(length)
        status = 200
        if length != copy.size_bytes:
            status = 206
            headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{copy.size_bytes}"
        if request.method == "HEAD" or length == 0:
            return Response(status_code=status, headers=headers)
        return await self._stream(copy, part, status, headers)

    async def _stream(
        self, copy: Copied, part: tuple[int, int], status: int, headers: Mapping[str, str]
    ) -> Response | None:
        assert self._files.store is not None
        opened = AsyncExitStack()
        try:
            pieces = await opened.enter_async_context(self._files.store.open(copy, *part))
        except FileNotFoundError:
            log.warning(
                "a copy is gone from the store: it is made again", action="copy_lost", digest=copy.digest
            )
            await self._parts.ledger.call(assets.lost, copy.digest, copy.store)
            self._known.clear()
            self._files.poke()
            return None
        except (OSError, StoreError) as error:
            log.warning("a copy cannot be read", action="copy_unreadable", reason=str(error))
            return None
        return StreamingResponse(
            _closing(pieces, opened), status, headers, background=BackgroundTask(opened.aclose)
        )

    # The way to Notion -----------------------------------------------------------------------------------------

    async def _lead(self, row: AssetRow) -> Response:
        if not row.named:
            return error_answer(404, "not_found", "No published page shows this file.")
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                fresh = await self._files.fresh.address(row)
        except FileGoneError:
            return error_answer(404, "not_found", "Notion shows this file no more.")
        except (TimeoutError, BusyError, NotionError, LedgerError) as error:
            log.warning("no address for a file", action="asset_unled", asset=row.id, reason=str(error))
            return error_answer(
                503, "unavailable", "Notion gives no address for this file now.", {"Retry-After": "10"}
            )
        lives_seconds = self._files.fresh.lives_seconds(fresh)
        return _led(fresh.url, int(min(LED_FOR_SECONDS, lives_seconds / 2)))


def _led(url: str, seconds: int) -> Response:
    """A redirect that only this reader may remember, and not for long."""
    headers = {**_OPEN_TO_ALL, "Location": plain(url), "Cache-Control": f"private, max-age={seconds}"}
    return Response(status_code=302, headers=headers)


def _headers(row: AssetRow, copy: Copied) -> dict[str, str]:
    kind = copy.media_type if is_passive(copy.media_type) or copy.media_type == SVG else DOWNLOAD
    return {
        **_OPEN_TO_ALL,
        "Content-Type": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
        "Content-Disposition": disposition(file_name(row.path), kind),
        "Content-Security-Policy": _HARMLESS if is_passive(kind) else _BOXED,
        "Cache-Control": "public, max-age=31536000, immutable",
        "ETag": _tag(copy),
        "Accept-Ranges": "bytes",
    }


def _tag(copy: Copied) -> str:
    return f'"{copy.digest[:32]}"'


def _is_known(headers: Mapping[str, str], copy: Copied) -> bool:
    known = {tag.strip().removeprefix("W/") for tag in headers.get("if-none-match", "").split(",")}
    return bool(known & {_tag(copy), "*"})


def _part(headers: Mapping[str, str], copy: Copied) -> tuple[int, int] | None:
    """(start, length) of what is asked for; None: there is no such part. Several parts at once get the whole."""
    size = copy.size_bytes
    asked = _RANGE.fullmatch(headers.get("range", "").strip())
    if asked is None or headers.get("if-range", _tag(copy)) != _tag(copy) or asked[0] == "bytes=-":
        return 0, size
    first, last = asked[1], asked[2]
    if not first:
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
    if last and first and int(last) < int(first):
        return 0, size
    return (start, end - start) if start < end else None


async def _closing(pieces: AsyncIterator[bytes], opened: AsyncExitStack) -> AsyncIterator[bytes]:
    """What is read is closed when it was given out, and when the reader leaves before that."""
    async with opened:
        async for piece in pieces:
            yield piece
