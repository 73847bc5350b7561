"""A few connections to Notion, each used by one request at a time.

One pool over all of them would ask every idle socket whether it is still open, several times a request; with a pool of
one for each there is nothing to look through. The limiter sees to it that there are never more requests than
connections.
"""

import ssl
from collections.abc import AsyncIterator, Callable
from functools import lru_cache, partial

import httpx

_KEEPALIVE_SECONDS = 120.0  # polls come further apart than httpx keeps idle connections by default


@lru_cache(maxsize=1)
def ssl_context() -> ssl.SSLContext:
    """The machine's certificates: costly in time and memory, so whoever connects to the outside shares them."""
    return httpx.create_ssl_context()


class Connections(httpx.AsyncBaseTransport):
    """Sends each request over the connection that was used last among the free ones: it is the likeliest to be open."""

    def __init__(self, count: int) -> None:
        limits = httpx.Limits(max_connections=1, keepalive_expiry=_KEEPALIVE_SECONDS)
        self._make = partial(httpx.AsyncHTTPTransport, verify=ssl_context(), limits=limits)
        self._all = [self._make() for _ in range(count)]
        self._free = list(self._all)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        connection = self._free.pop() if self._free else self._all[0]
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            await self._replace(connection)
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Borrowed(response.stream, lambda: self._give_back(connection))
        return response

    async def _replace(self, connection: httpx.AsyncHTTPTransport) -> None:
        """Cancelled before it was connected, a pool keeps its only place taken and nobody would ever get through."""
        if connection in self._all:
            fresh = self._make()
            self._all[self._all.index(connection)] = fresh
            self._give_back(fresh)
        await connection.aclose()

    def _give_back(self, connection: httpx.AsyncHTTPTransport) -> None:
        if connection in self._all and connection not in self._free:
            self._free.append(connection)

    async def aclose(self) -> None:
        for connection in self._all:
            await connection.aclose()


class _Borrowed(httpx.AsyncByteStream):
    """A body that gives its connection back when it is closed."""

    def __init__(self, stream: httpx.AsyncByteStream, give_back: Callable[[], None]) -> None:
        self._stream = stream
        self._give_back = give_back

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            yield piece

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._give_back()
