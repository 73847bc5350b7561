"""Upstash Redis (also sold as Vercel KV) over its REST protocol, through the `upstash-redis` client.

The client has no timeout, never looks at the HTTP status, and raises whatever a strange answer provokes. Here
every call gets a deadline, every status a meaning, and every failure becomes a `KVError`.
"""

import asyncio
import json
import math
import time
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import httpx
from upstash_redis.asyncio import Redis
from upstash_redis.errors import UpstashError

from daemon.kv.base import (
    KVError,
    KVUnauthorized,
    KVUnavailable,
    KVValueTooLarge,
    error_of_message,
)
from daemon.kv.commands import Command, CommandKV

SLOWEST_UPLOAD_BYTES_PER_SECOND: Final = (
    100_000  # what a deadline allows for on top, so that large values get through
)
LONGEST_RETRY_AFTER_SECONDS: Final = 86_400.0
_URL_HINT = (
    "Check KV_REST_API_URL: it is the https:// address from the store's console (not the redis:// one)."
)


class UpstashKV(CommandKV):
    """A store behind the Upstash REST protocol.

    `url` and `token` as the console shows them; `timeout_seconds` bounds one command, large ones get more.
    Raises `KVError` when the address or the token cannot be one.
    """

    name = "upstash"

    def __init__(self, url: str, token: str, prefix: str = "", timeout_seconds: float = 10.0) -> None:
        super().__init__(prefix)
        self._timeout_seconds = timeout_seconds
        self._redis = Redis(
            _checked_url(url),
            _checked_token(token),
            rest_encoding=None,  # our values are UTF-8, and base64 doubles the time that a large one takes
            rest_retries=0,  # who calls decides about retries
            allow_telemetry=False,
            read_your_writes=True,  # or a check right after a write may ask a replica that has not seen it
        )
        # The client has no argument for either of these.
        http: httpx.AsyncClient = self._redis._http._client
        http.timeout = httpx.Timeout(None, connect=timeout_seconds)
        http.event_hooks = {"response": [_refuse_other_status]}

    async def close(self) -> None:
        await self._redis.close()

    async def _execute(self, command: Command, size_bytes: int) -> object:
        deadline_seconds = self._timeout_seconds + size_bytes / SLOWEST_UPLOAD_BYTES_PER_SECOND
        try:
            async with asyncio.timeout(deadline_seconds):
                answer: object = await self._redis.execute(command)
        except UpstashError as error:
            raise error_of_message(str(error)) from None
        except TimeoutError:
            raise KVUnavailable(f"The store did not answer within {deadline_seconds:.3g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise KVUnavailable(_reason_of(error)) from error
        except (ValueError, KeyError, AttributeError, TypeError, IndexError) as error:
            # A web page, an empty object, a bare list: what the client stumbles over tells nothing.
            raise KVUnavailable(
                "The store's address answered with something else than the REST protocol"
            ) from error
        return list(answer) if isinstance(answer, tuple) else answer


def _checked_url(url: str) -> str:
    """The address without the slash at its end, which the client would double."""
    address = url.strip().rstrip("/")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise KVError("The store's address is not an http(s) URL", _URL_HINT)
    return address


def _checked_token(token: str) -> str:
    """A token that can stand in a header: the HTTP client would quote a bad one in its error."""
    stripped = token.strip()
    if not stripped or not stripped.isascii() or not stripped.isprintable() or " " in stripped:
        raise KVUnauthorized("The store's token is empty or holds characters that no token has")
    return stripped


def _reason_of(error: Exception) -> str:
    if isinstance(error, httpx.ConnectError):
        return f"The store cannot be reached: {error}"
    return f"The connection to the store failed ({type(error).__name__})"


async def _refuse_other_status(response: httpx.Response) -> None:
    """Turn every status but 200 into an error before the client swallows it."""
    if response.status_code != httpx.codes.OK:
        await response.aread()
        raise _error_of(response)


def _error_of(response: httpx.Response) -> KVError:
    """What another status means: by the message that comes with it where that says enough, else by itself."""
    status = response.status_code
    retry_after_seconds = _retry_after_seconds(response.headers)
    message = _message_of(response.content)
    if message:
        error = error_of_message(message, retry_after_seconds)
        if type(error) is not KVError or status == httpx.codes.BAD_REQUEST:
            return error
    cause = f"The store answered HTTP {status}" + (f": {message}" if message else "")
    if status in (401, 403):
        return KVUnauthorized(cause)
    if status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
        return KVValueTooLarge(cause)
    if status == httpx.codes.TOO_MANY_REQUESTS or status >= 500:
        return KVUnavailable(cause, retry_after_seconds=retry_after_seconds)
    return KVError(cause, _URL_HINT)


def _message_of(body: bytes) -> str:
    """The `error` text of a JSON answer, '' for anything else."""
    try:
        answer = json.loads(body)
    except ValueError:
        return ""
    message = answer.get("error") if isinstance(answer, dict) else None
    return message if isinstance(message, str) else ""


def _retry_after_seconds(headers: httpx.Headers) -> float | None:
    """`Retry-After` in seconds: a number, or a date (told by the server's own clock where it gives one)."""
    text = headers.get("Retry-After", "")
    try:
        seconds = float(text)
    except ValueError:
        seconds = _seconds_until(text, headers.get("Date", ""))
    if not math.isfinite(seconds) or seconds < 0:
        return None
    return min(seconds, LONGEST_RETRY_AFTER_SECONDS)


def _seconds_until(moment: str, now: str) -> float:
    try:
        until = parsedate_to_datetime(moment).timestamp()
    except (ValueError, TypeError, OverflowError):
        return math.nan
    try:
        return max(0.0, until - parsedate_to_datetime(now).timestamp())
    except (ValueError, TypeError, OverflowError):
        return max(0.0, until - time.time())
