"""What every key-value store gives the daemon: its words, its errors, and how writes become batches."""

import json
import math
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

OWNER_KEY = "sync:owner"
PROBE_KEY = "sync:doctor"  # never there: the writing test names it and leaves nothing
MAX_BATCH_BYTES = 900_000
MAX_TOKEN = 2**53  # Redis scripts count in doubles: above this two tokens could look the same


@dataclass(frozen=True)
class Write:
    """One key to be set to a JSON text, or deleted (`value` None)."""

    key: str
    value: str | None

    @property
    def size_bytes(self) -> int:
        """Bytes of key and value as UTF-8."""
        return len(self.key.encode()) + len((self.value or "").encode())


@dataclass(frozen=True)
class Owner:
    """Who may write to the store: the record under `sync:owner`. `heartbeat` is in unix seconds."""

    token: int
    daemon_id: str
    ledger_id: str
    content_id: str
    heartbeat: float
    released: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.token <= MAX_TOKEN:
            raise ValueError(f"a fencing token lies between 0 and 2**53, not {self.token}")

    def to_json(self) -> str:
        """The record as it is stored."""
        record = {
            "token": self.token,
            "daemonId": self.daemon_id,
            "ledgerId": self.ledger_id,
            "contentId": self.content_id,
            "heartbeat": self.heartbeat,
            "released": self.released,
        }
        return json.dumps(record)

    @classmethod
    def from_json(cls, text: str | None) -> "Owner | None":
        """Read a stored record. Without a usable token it is nobody's: None."""
        try:
            # Not strict about control characters, because the scripts' own JSON reader is not either.
            record = json.loads(text or "", strict=False)
        except (ValueError, RecursionError):
            return None
        token = _token_of(record.get("token")) if isinstance(record, dict) else None
        if token is None:
            return None
        return cls(
            token=token,
            daemon_id=str(record.get("daemonId", "")),
            ledger_id=str(record.get("ledgerId", "")),
            content_id=str(record.get("contentId", "")),
            heartbeat=_number_of(record.get("heartbeat")),
            released=record.get("released") is True,
        )


def _token_of(value: object) -> int | None:
    """A whole number within range, as the scripts understand one (5.0 is 5, true is none)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not 0 <= value <= MAX_TOKEN or value != math.floor(value):
        return None
    return int(value)


def _number_of(value: object) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e18
    return float(value) if usable and isinstance(value, int | float) else 0.0


class KV(Protocol):
    """A store of JSON texts with one owner. Every method raises `KVError`, nothing else of the store's.

    Keys are without the configured prefix; the store puts it before each key, `sync:owner` included.
    """

    name: str  # "upstash", "redis" or "embedded", for people
    commands: int  # commands sent so far
    bytes_written: int  # bytes of keys and values sent to be written so far

    async def ping(self) -> None:
        """Return when the store answers and accepts the credentials."""

    async def get(self, key: str) -> str | None:
        """The text under a key; None when there is none."""

    async def get_many(self, keys: Sequence[str]) -> list[str | None]:
        """The texts under keys, in their order."""

    async def read_owner(self) -> Owner | None:
        """Who owns the store; None when nobody does or the record is unreadable."""

    async def claim(self, owner: Owner, expected: Owner | None) -> bool:
        """Make `owner` the owner if the stored token still is `expected`'s (None: nobody's), in one step."""

    async def apply(self, writes: Sequence[Write], owner: Owner) -> bool:
        """Apply all writes and renew the owner's record, all in one step, if the stored token is the owner's.

        False: somebody else owns the store now and nothing at all was changed. Of two writes to one key the
        later counts. No writes: the record is renewed alone.
        """

    async def digests(self, keys: Sequence[str]) -> list[str | None]:
        """SHA-1 (hex) of the UTF-8 texts under keys, computed inside the store; None where there is none."""

    async def check_writable(self) -> None:
        """Return when the credentials may write and there is room; nothing is changed."""

    def scan(self, pattern: str) -> AsyncIterator[str]:
        """Every key that matches a Redis glob pattern, once."""

    async def close(self) -> None:
        """Give connections back. The store is not used afterwards."""


class KVError(Exception):
    """The store refused: what happened (`cause`) and what to do about it (`hint`).

    `retryable` says that the same call may succeed later without anybody changing anything.
    """

    retryable: ClassVar[bool] = False
    default_hint: ClassVar[str] = "Look at the store's own console or log; `doctor` tests it again."

    def __init__(self, cause: str, hint: str = "", *, retry_after_seconds: float | None = None) -> None:
        self.cause = shortened(cause)
        self.hint = hint or self.default_hint
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"{self.cause}. {self.hint}")


class KVUnavailable(KVError):  # noqa: N818  - names say what is wrong, which is an error anyway
    """The store could not be reached or gave no usable answer. A write may or may not have happened."""

    retryable = True
    default_hint = (
        "Check that the store is running and reachable from here; what waits is written when it answers."
    )


class KVUnauthorized(KVError):  # noqa: N818
    """The store does not know the token or password."""

    default_hint = "Check KV_REST_API_TOKEN (or user and password in KV_URL) against the store's console."


class KVReadOnly(KVError):  # noqa: N818
    """The credentials may read but not write."""

    default_hint = (
        "Use the store's standard token, not its read-only one; of a plain Redis the primary, "
        "and a user that may run EVAL, GET, SET and DEL."
    )


class KVQuotaExceeded(KVError):  # noqa: N818
    """The store's plan or memory is used up."""

    retryable = True
    default_hint = "Raise the store's plan or limit, or free space; what waits is written then."


class KVValueTooLarge(KVError):  # noqa: N818
    """The store refuses a request or a value of this size."""

    default_hint = "Split the page into smaller ones, or raise the store's limit for one request."


_MESSAGES: tuple[tuple[str, type[KVError]], ...] = (
    (
        r"max (request|single record|record|key|field) size|invalid bulk length|string exceeds maximum",
        KVValueTooLarge,
    ),
    (
        r"max (daily|monthly)|requests? limit exceeded|quota exceeded|\bOOM\b|used memory > 'maxmemory'",
        KVQuotaExceeded,
    ),
    (r"\bNOPERM\b|\bREADONLY\b|read only replica|can't run this command", KVReadOnly),
    (
        r"\bWRONGPASS\b|\bNOAUTH\b|unauthorized|invalid password|invalid or missing auth|forbidden",
        KVUnauthorized,
    ),
    (
        r"\b(LOADING|BUSY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MISCONF|NOREPLICAS)\b"
        r"|max number of clients|max concurrent connections|too many requests|rate limit",
        KVUnavailable,
    ),
)


def error_of_message(message: str, retry_after_seconds: float | None = None) -> KVError:
    """The error that a Redis error message means.

    Messages are those of Redis 6.2 to 8 and of Upstash's troubleshooting pages. An error inside a script
    arrives wrapped in other text, so the words are looked for anywhere.
    """
    for pattern, kind in _MESSAGES:
        if re.search(pattern, message, re.IGNORECASE):
            return kind(f"The store said: {message}", retry_after_seconds=retry_after_seconds)
    return KVError(f"The store said: {message}", retry_after_seconds=retry_after_seconds)


def shortened(text: str, limit: int = 300) -> str:
    """One line of at most `limit` characters: error texts may quote a whole value."""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= limit else line[: limit - 1] + "…"


def batches(writes: Iterable[Write], max_bytes: int = MAX_BATCH_BYTES) -> Iterator[list[Write]]:
    """Cut writes, in order, into batches of at most `max_bytes`; a larger one goes alone."""
    return grouped_batches(([write] for write in writes), max_bytes)


def grouped_batches(
    groups: Iterable[Sequence[Write]], max_bytes: int = MAX_BATCH_BYTES
) -> Iterator[list[Write]]:
    """Like `batches`, for groups of writes that must be applied together: a group is never cut."""
    batch: list[Write] = []
    batch_bytes = 0
    for group in groups:
        group_bytes = sum(write.size_bytes for write in group)
        if batch and batch_bytes + group_bytes > max_bytes:
            yield batch
            batch, batch_bytes = [], 0
        batch.extend(group)
        batch_bytes += group_bytes
    if batch:
        yield batch
