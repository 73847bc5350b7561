"""Fetches one file into a temporary one: streamed, bounded in bytes and time, from allowed hosts only."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import httpcore
import imagesize
import structlog

from daemon.assets.hosts import FileHosts, ForbiddenHostError, file_connections
from daemon.assets.room import Room
from daemon.notion.files import file_name, plain
from daemon.site.media import SVG, media_type

log = structlog.get_logger(__name__)
MOST_REDIRECTS = 5
FILE_SECONDS = 300.0
"""How long one file may take in all."""
QUIET_SECONDS = 30.0
"""How long its host may say nothing."""
CONNECT_SECONDS = 10.0
PIECE_BYTES = 256 * 1024
HEAD_BYTES = 256 * 1024
"""How much of a picture is read to find its measures."""
_REDIRECTS = (301, 302, 303, 307, 308)
_PICTURES = frozenset({"image", "cover", "icon", "emoji"})


class FetchError(Exception):
    """A file that could not be had. `refused`: nor will it be, with these settings. `denied`: its address has died."""

    def __init__(self, message: str, *, refused: bool = False, denied: bool = False) -> None:
        super().__init__(message)
        self.refused = refused
        self.denied = denied


@dataclass(frozen=True)
class Fetched:
    """A file in a temporary place: it is gone when the block ends that asked for it.

    `digest`: over its type and its bytes. The same bytes as another type are another file: a store says of each what
    it is, and must not be made to say of a download that it is a picture.
    """

    file: Path
    digest: str
    size_bytes: int
    media_type: str
    measures: tuple[int, int] | None


class Fetcher:
    """Fetches files. `spool`: where they are put meanwhile; `room`: how many bytes may lie there at once."""

    def __init__(self, hosts: FileHosts, spool: Path, max_bytes: int, room: Room) -> None:
        self._hosts = hosts
        self._spool = spool
        self._max_bytes = max_bytes
        self._room = room
        self._made: httpcore.AsyncConnectionPool | None = None
        self.seconds = FILE_SECONDS
        self.quiet_seconds = QUIET_SECONDS
        self.downloads = 0

    async def close(self) -> None:
        """Give the connections back."""
        if self._made is not None:
            await self._made.aclose()

    @property
    def _pool(self) -> httpcore.AsyncConnectionPool:
        # Not before the first file: the certificates that it holds take time and memory.
        if self._made is None:
            self._made = file_connections(self._hosts)
        return self._made

    @asynccontextmanager
    async def fetch(self, url: str, kind: str) -> AsyncIterator[Fetched]:
        """The file at an address that Notion gave for a block, cover or icon of this kind. Raises FetchError."""
        self.downloads += 1
        async with self._explaining(), asyncio.timeout(self.seconds), self._answer(url, {}) as answer:
            expected = self._expected_bytes(answer)
            taken = await self._room.take(expected if expected is not None else self._max_bytes)
            try:
                file = await asyncio.to_thread(self._temporary)
                try:
                    told = _checked_type(_header(answer, b"content-type"), url, kind)
                    digest, size = await self._receive(answer, file, told)
                except BaseException:
                    file.unlink(missing_ok=True)
                    raise
            except BaseException:
                self._room.give_back(taken)
                raise
        try:
            measures = await asyncio.to_thread(_measures_of, file, kind)
            yield Fetched(file, digest, size, told, measures)
        finally:
            self._room.give_back(taken)
            with suppress(OSError):
                file.unlink(missing_ok=True)

    async def measure(self, url: str) -> tuple[int, int] | None:
        """The measures of a picture, from its first bytes. Raises FetchError."""
        self.downloads += 1
        head = tempfile.SpooledTemporaryFile(max_size=HEAD_BYTES)  # noqa: SIM115 - closed below
        wanted = {"Range": f"bytes=0-{HEAD_BYTES - 1}"}
        with head:
            async with self._explaining(), asyncio.timeout(self.seconds), self._answer(url, wanted) as answer:
                _checked_type(_header(answer, b"content-type"), url, "image")
                async for piece in answer.aiter_stream():
                    head.write(piece)
                    if head.tell() >= HEAD_BYTES:
                        break
            return _measures(head, "image")

    @asynccontextmanager
    async def _explaining(self) -> AsyncIterator[None]:
        try:
            yield
        except TimeoutError:
            raise FetchError(f"The file did not arrive within {self.seconds:g} s.") from None
        except ForbiddenHostError as error:
            raise FetchError(f"The file's address is not allowed: {error}.", refused=True) from None
        except httpcore.TimeoutException:
            raise FetchError("The file's host went silent.") from None
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise FetchError(f"The connection to the file's host failed ({type(error).__name__}).") from None
        except OSError as error:
            raise FetchError(
                f"The file cannot be kept in DATA_DIR meanwhile ({error.strerror or error})."
            ) from None

    @asynccontextmanager
    async def _answer(self, url: str, headers: dict[str, str]) -> AsyncIterator[httpcore.Response]:
        """The good answer at the end of however many redirects, its body still to come."""
        url = plain(url)
        self._hosts.check_first(url)
        for _ in range(MOST_REDIRECTS + 1):
            async with self._pool.stream(
                "GET",
                url,
                headers=[("Host", urlsplit(url).netloc), *_HEADERS.items(), *headers.items()],
                extensions={"timeout": self._timeouts},
            ) as answer:
                location = _header(answer, b"location")
                if answer.status in _REDIRECTS and location:
                    url = self._hosts.check_redirect(url, location)
                    continue
                _check_status(answer.status)
                yield answer
                return
        raise FetchError("The file's host redirects for ever.")

    @property
    def _timeouts(self) -> dict[str, float]:
        quiet = self.quiet_seconds
        return {"connect": min(CONNECT_SECONDS, quiet), "read": quiet, "write": quiet, "pool": self.seconds}

    def _expected_bytes(self, answer: httpcore.Response) -> int | None:
        told = _header(answer, b"content-length")
        size = int(told) if told.isdecimal() and len(told) < 16 else None
        if size is not None and size > self._max_bytes:
            raise self._too_large()
        return size

    def _too_large(self) -> FetchError:
        return FetchError(f"The file is larger than ASSETS_MAX_BYTES ({self._max_bytes:,}).", refused=True)

    def _temporary(self) -> Path:
        self._spool.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._spool, prefix="copy-", delete=False) as file:
            return Path(file.name)

    async def _receive(self, answer: httpcore.Response, file: Path, kind: str) -> tuple[str, int]:
        """Write what comes, piece by piece, whatever its length was said to be. Out: SHA-256 and bytes."""
        digest, size = hashlib.sha256(f"{kind}\n".encode()), 0
        with file.open("wb") as sink:
            pieces: list[bytes] = []
            waiting = 0
            async for piece in answer.aiter_stream():
                size += len(piece)
                waiting += len(piece)
                if size > self._max_bytes:
                    raise self._too_large()
                pieces.append(piece)
                if waiting >= PIECE_BYTES:
                    await asyncio.to_thread(_write, sink, digest, pieces)
                    pieces, waiting = [], 0
            await asyncio.to_thread(_write, sink, digest, pieces)
        return digest.hexdigest(), size


_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "notion-kv-sync"}


def _write(sink: IO[bytes], digest: Any, pieces: list[bytes]) -> None:
    for piece in pieces:
        sink.write(piece)
        digest.update(piece)


def _header(answer: httpcore.Response, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in answer.headers if key.lower() == name), "")


def _check_status(status: int) -> None:
    if status in (200, 206):
        return
    if status in (401, 403, 410):
        raise FetchError(f"The file's address has died ({status}).", denied=True)
    raise FetchError(f"The file's host answered {status}.")


def _checked_type(told: str, url: str, kind: str) -> str:
    """The file's type. Raises FetchError where a picture is meant and something else came, such as a page of errors."""
    found = media_type(told, file_name(urlsplit(url).path))
    plainly = told.partition(";")[0].strip().lower()
    if kind in _PICTURES and plainly.startswith("text/") and found != SVG:
        raise FetchError(f"The file's host sent {plainly} where a picture is meant.")
    return found


def _measures_of(file: Path, kind: str) -> tuple[int, int] | None:
    with file.open("rb") as opened:
        return _measures(opened, kind)


def _measures(file: Any, kind: str) -> tuple[int, int] | None:
    if kind != "image":
        return None
    try:
        file.seek(0)
        width, height = imagesize.get(file)
    except Exception as error:  # whatever somebody uploaded as a picture
        log.debug(
            "a picture without measures", action="no_measures", error=f"{type(error).__name__}: {error}"
        )
        return None
    return (int(width), int(height)) if width > 0 and height > 0 else None
