"""JSON bytes, ids and time stamps as they travel: the small conversions every part of the sandbox shares."""

import json
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from random import Random
from typing import Any
from urllib.parse import quote

import orjson

Json = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ID_EPOCH = datetime(2016, 11, 5, tzinfo=UTC)
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[1-8][0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}")


def encode(value: Any) -> bytes:
    """JSON text of `value`; a lone surrogate, which UTF-8 cannot carry, becomes a `\\udXXX` escape."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def decode(raw: bytes) -> Any:
    """The value of a JSON text, escaped lone surrogates included. Raises ValueError when it is not JSON."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return json.loads(raw)


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970 (UTC), rounded down."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def from_ms(ms: int) -> datetime:
    """The UTC moment `ms` milliseconds after 1970."""
    return _EPOCH + timedelta(milliseconds=ms)


def floored(ms: int, granularity_seconds: int) -> int:
    """`ms` rounded down to whole multiples of the granularity; 0 leaves it as it is."""
    return ms - ms % (granularity_seconds * 1000) if granularity_seconds else ms


@lru_cache(maxsize=8192)
def iso_z(ms: int) -> str:
    """`2026-01-05T09:00:00.000Z`, the form of pages, blocks and data sources."""
    return from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_offset(ms: int) -> str:
    """`2026-01-05T09:00:00.000+00:00`, the form of database containers."""
    return from_ms(ms).isoformat(timespec="milliseconds")


def dashed(text: str) -> str | None:
    """The id in its dashed form, from either form; None when it is no UUID that Notion would accept."""
    lowered = text.lower()
    if not _UUID.fullmatch(lowered):
        return None
    digits = lowered.replace("-", "")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def encoded_property_id(property_id: str) -> str:
    """A property id as responses spell it: percent-encoded as JavaScript's encodeURIComponent does."""
    return quote(property_id, safe="-_.!~*'()")


class IdMaker:
    """Makes ids that look like Notion's, the same ones for the same seed.

    Pages and blocks made on one day share their first 13 hex digits (`38c9ce7b-60a4-8…`).
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._workspace = f"{self._random.getrandbits(36):09x}"

    def random(self) -> str:
        """A random (version 4) UUID."""
        bits = f"{self._random.getrandbits(128):032x}"
        digits = f"{bits[:12]}4{bits[13:16]}{'89ab'[int(bits[16], 16) % 4]}{bits[17:]}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def prefixed(self, now: datetime) -> str:
        """An id whose first digits are those of every id made on the same day in this workspace."""
        day = f"{(now - _ID_EPOCH).days % 4096:03x}"
        head = day + self._workspace
        tail = self.random()
        return f"{head[:8]}-{head[8:12]}-8{tail[15:]}"

    def property_id(self) -> str:
        """Four printable characters, some of which need percent-encoding in a URL."""
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz?@:;<=>[]^_`{|}~\\"
        return "".join(self._random.choices(alphabet, k=4))

    def hex_digits(self, count: int) -> str:
        return f"{self._random.getrandbits(count * 4):0{count}x}"
