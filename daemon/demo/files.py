"""The files that the sandbox keeps: addresses signed anew at every read, which really expire, and their bytes."""

import hashlib
import hmac
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from mimetypes import guess_type
from pathlib import PurePosixPath
from urllib.parse import quote, urlsplit

from daemon.demo.normal import FILES_URL
from daemon.demo.wire import from_ms

SIGNED_SECONDS = 3600
_KEY = b"the sandbox's own signing key"
_DENIED = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>%s</Code><Message>%s</Message></Error>'


@dataclass(frozen=True)
class Stored:
    """A file's bytes and the type that it was uploaded with."""

    content: bytes
    media_type: str


PUBLIC_URL = "https://s3-us-west-2.amazonaws.com/public.notion-static.com"
"""Where Notion keeps custom emoji: anybody may have them, and their addresses stay."""


class Files:
    """Every hosted file of one workspace, by its path. What nobody stored is made from its name."""

    def __init__(self) -> None:
        self.address = FILES_URL
        """Where the files are reached: the sandbox's own address while it serves."""
        self._stored: dict[str, Stored] = {}
        self.make: Callable[[str], Stored] = lambda path: Stored(_made_up(path), _type_of(path))
        """What a file holds that nobody stored."""

    def store(self, path: str, content: bytes, media_type: str | None = None) -> None:
        """Say what a file holds. `path`: of its address, or the whole address."""
        path = urlsplit(path).path.removeprefix("/files")
        self._stored[path] = Stored(content, media_type or _type_of(path))

    def find(self, path: str) -> Stored:
        """The file at a path."""
        return self._stored.get(path) or self.make(path)

    def public(self, url: str) -> str:
        """The address of a custom emoji, at the sandbox itself while that serves."""
        if self.address == FILES_URL or not url.startswith(f"{PUBLIC_URL}/"):
            return url
        return f"{self.address}/public{url.removeprefix(PUBLIC_URL)}"

    def signed(self, url: str, ms: int, digits: str | None) -> str:
        """The URL as S3 signs it, with `digits` at random in it (None: always the same). Others are signed alike."""
        base = url if url.startswith("http") else f"{FILES_URL}/{url}"
        if base.startswith(f"{FILES_URL}/"):
            base = self.address + base.removeprefix(FILES_URL)
        moment = from_ms(ms)
        day, second = moment.strftime("%Y%m%d"), moment.strftime("%Y%m%dT%H%M%SZ")
        credential = quote(f"SANDBOX/{day}/us-west-2/s3/aws4_request", safe="")
        signature = _signature(urlsplit(base).path, second, (digits or "0" * 32)[:32])
        return (
            f"{base}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD"
            f"&X-Amz-Credential={credential}&X-Amz-Date={second}&X-Amz-Expires={SIGNED_SECONDS}"
            f"&X-Amz-Signature={signature}&X-Amz-SignedHeaders=host&x-amz-checksum-mode=ENABLED&x-id=GetObject"
        )


def refusal(path: str, query: dict[str, str], now_ms: int) -> str | None:
    """Why S3 would not give a file out, as it says it; None: it does. `path`: as it was signed.

    What lies under `public` (custom emoji) anybody may have.
    """
    if path.startswith("/files/public/"):
        return None
    second, signature = query.get("X-Amz-Date", ""), query.get("X-Amz-Signature", "")
    if not hmac.compare_digest(signature, _signature(path, second, signature[:32])):
        return _DENIED % ("SignatureDoesNotMatch", "The request signature we calculated does not match.")
    signed = datetime.strptime(second, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if from_ms(now_ms) > signed + timedelta(seconds=SIGNED_SECONDS):
        return _DENIED % ("AccessDenied", "Request has expired")
    return None


def _signature(path: str, second: str, digits: str) -> str:
    proof = hmac.new(_KEY, f"{path}\n{second}\n{digits}".encode(), hashlib.sha256)
    return digits + proof.hexdigest()[:32]


def _type_of(path: str) -> str:
    return guess_type(PurePosixPath(path).name)[0] or "application/octet-stream"


def _made_up(path: str) -> bytes:
    kind = _type_of(path)
    if kind == "image/svg+xml":
        return b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48"><rect width="64" height="48"/></svg>'
    if kind.startswith("image/"):
        return png(64, 48, zlib.crc32(path.encode()))
    return f"What {PurePosixPath(path).name} holds in the sandbox.\n".encode() * 20


def png(width: int, height: int, colour: int) -> bytes:
    """A picture of one colour (its last three bytes)."""
    row = b"\0" + (colour & 0xFFFFFF).to_bytes(3, "big") * width
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(row * height)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
