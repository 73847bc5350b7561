"""A plain Redis (or Valkey, or any server of that protocol from 6.2 on), through `redis-py`."""

import asyncio
from typing import Any, Final

import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from daemon.kv.base import (
    KVError,
    KVQuotaExceeded,
    KVReadOnly,
    KVUnauthorized,
    KVUnavailable,
    KVValueTooLarge,
    error_of_message,
)
from daemon.kv.commands import Command, CommandKV

SLOWEST_UPLOAD_BYTES_PER_SECOND: Final = 100_000
SMALLEST_LIMIT_BYTES: Final = 1_000_000  # `proto-max-bulk-len` cannot be set below 1 MB
_URL_HINT = (
    "Check KV_URL (or REDIS_URL): redis://user:password@host:port, rediss:// where the server wants TLS "
    "(a self-signed certificate needs ?ssl_cert_reqs=none at the end); special characters percent-encoded."
)

# Order matters: the client counts a refused password among the connection errors.
_KINDS: tuple[tuple[type[Exception], type[KVError]], ...] = (
    (exceptions.AuthenticationError, KVUnauthorized),
    (exceptions.AuthenticationWrongNumberOfArgsError, KVUnauthorized),
    (exceptions.NoPermissionError, KVReadOnly),
    (exceptions.ReadOnlyError, KVReadOnly),
    (exceptions.OutOfMemoryError, KVQuotaExceeded),
    (exceptions.MasterDownError, KVUnavailable),
    (exceptions.ClusterDownError, KVUnavailable),
    (exceptions.TryAgainError, KVUnavailable),
)


class RedisKV(CommandKV):
    """A store behind a `redis://` or `rediss://` URL.

    `timeout_seconds` bounds connecting and each command, large ones get more. Raises `KVError` when the
    address cannot be one.
    """

    name = "redis"

    def __init__(self, url: str, prefix: str = "", timeout_seconds: float = 10.0) -> None:
        super().__init__(prefix)
        self._timeout_seconds = timeout_seconds
        self._redis = _client(url, timeout_seconds)

    async def close(self) -> None:
        await self._redis.aclose()

    async def _execute(self, command: Command, size_bytes: int) -> object:
        try:
            return await self._attempt(command, size_bytes)
        except KVUnavailable as error:
            if size_bytes < SMALLEST_LIMIT_BYTES or not isinstance(
                error.__cause__, exceptions.ConnectionError
            ):
                raise
            return await self._attempt_again(command, size_bytes)

    async def _attempt_again(self, command: Command, size_bytes: int) -> object:
        """Find out whether a cut connection means an outage or a request above the server's limit.

        Redis answers the latter with a reset that hides its reason; left as an outage, one page would hold all up.
        """
        await self._attempt(["PING"], 0)
        try:
            return await self._attempt(command, size_bytes)
        except KVUnavailable as error:
            cause = (
                f"The store cuts the connection at a request of {size_bytes} bytes, but answers small ones"
            )
            raise KVValueTooLarge(cause) from error

    async def _attempt(self, command: Command, size_bytes: int) -> object:
        deadline_seconds = self._timeout_seconds + size_bytes / SLOWEST_UPLOAD_BYTES_PER_SECOND
        try:
            async with asyncio.timeout(deadline_seconds):
                answer: object = await self._redis.execute_command(*command)
        except (TimeoutError, exceptions.TimeoutError):
            raise KVUnavailable(
                f"The store did not answer within {deadline_seconds:.3g} s", _URL_HINT
            ) from None
        except (exceptions.RedisError, OSError) as error:
            raise _error_of(error) from error
        return list(answer) if isinstance(answer, tuple) else answer


def _client(url: str, timeout_seconds: float) -> Any:  # the library's own commands are untyped
    try:
        return redis.asyncio.Redis.from_url(
            url.strip(),
            decode_responses=True,
            encoding_errors="replace",  # a foreign value may be no text; it only has to look different
            protocol=2,  # spoken by every server and proxy; nothing here needs more
            socket_connect_timeout=timeout_seconds,
            socket_timeout=None,  # the deadline is ours
            retry=Retry(NoBackoff(), 0),  # who calls decides about retries
        )
    except (ValueError, TypeError, exceptions.RedisError):
        # The library's message may quote the password, so it goes no further.
        raise KVError("The store's address is not a redis:// or rediss:// URL", _URL_HINT) from None


def _error_of(error: Exception) -> KVError:
    for kind, ours in _KINDS:
        if isinstance(error, kind):
            return ours(f"The store said: {error}")
    if isinstance(error, exceptions.ConnectionError | exceptions.InvalidResponse | OSError):
        return KVUnavailable(f"The store cannot be reached: {error}", _URL_HINT)
    if isinstance(error, exceptions.AskError | exceptions.ClusterCrossSlotError):
        return KVError(
            "The store is a Redis Cluster, where one step over several keys is not possible", _URL_HINT
        )
    return error_of_message(str(error))
