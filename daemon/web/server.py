"""The HTTP server: one port, in the daemon's own event loop, started and stopped with the daemon."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import h11
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute
from uvicorn.protocols.http.h11_impl import H11Protocol

from daemon import log
from daemon.kv.embedded import EmbeddedKV
from daemon.kv.rest import kv_routes
from daemon.kv.token import embedded_kv_token
from daemon.status import Parts
from daemon.web.answers import http_error
from daemon.web.assets import asset_routes
from daemon.web.guard import Guard
from daemon.web.health import health_routes
from daemon.web.status_page import status_page_routes

REQUEST_SECONDS = 10.0
"""How long a client may take to send a request once it has begun, or has connected."""
IDLE_SECONDS = 75
"""How long a connection is kept for the next request: longer than proxies keep theirs, so that they close first."""
STOP_SECONDS = 2
MAX_CONNECTIONS = 200
MAX_HEADER_BYTES = 32 * 1024


class Server:
    """The HTTP side of one daemon."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve until the block ends; yields the address, with the real port where PORT is 0.

        Raises OSError when the port cannot be had. Signals are left alone; ending takes a few seconds at most.
        """
        settings = self._parts.settings
        with listener(settings.host, settings.port) as listening:
            server = uvicorn.Server(_config(application(self._parts)))
            server.config.load()
            server.lifespan = server.config.lifespan_class(server.config)
            # The three steps of uvicorn's own `serve`, without its signal handling and its sys.exit.
            await server.startup(sockets=[listening])
            ticking = asyncio.create_task(server.main_loop(), name="http")
            try:
                yield _address(settings.host, listening.getsockname()[1])
            finally:
                server.should_exit = True
                await ticking
                await server.shutdown(sockets=[listening])


def application(parts: Parts) -> Starlette:
    """Everything that is served, as one ASGI application."""
    routes: list[BaseRoute] = [*status_page_routes(parts), *health_routes(parts), *asset_routes(parts)]
    if isinstance(parts.kv, EmbeddedKV):
        token = embedded_kv_token(parts.settings)
        log.register_secret(token)
        routes += kv_routes(parts.kv, token)
    app = Starlette(
        routes=routes, middleware=[Middleware(Guard)], exception_handlers={HTTPException: http_error}
    )
    app.router.redirect_slashes = False  # a redirect would repeat whatever Host the client claims
    return app


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Connection,
        loop="asyncio",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )


class _Connection(H11Protocol):
    """uvicorn's connection, which by itself would wait for the rest of a request for ever."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE:
            self._cancel_patience()  # from here on the idle time counts

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_patience()
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._cancel_patience()
        elif self._patience is None:
            self._patience = self.loop.call_later(REQUEST_SECONDS, self.transport.close)

    def _cancel_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


@contextlib.contextmanager
def listener(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens, closed at the end. Raises OSError that names the settings to change."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # The protocol is named because asyncio turns off Nagle's delay (40 ms an answer) only then.
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _cannot_listen(host, port, error) from error
    with listening:
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # `::` means every interface, of both families.
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listening.bind(address)
            listening.listen()
        except OSError as error:
            raise _cannot_listen(host, port, error) from error
        yield listening


def _cannot_listen(host: str, port: int, error: OSError) -> OSError:
    return OSError(
        f"Cannot listen on {host}, port {port} ({error.strerror or error}). "
        "Set PORT to a port that is free, or HOST to an address of this machine; or stop what listens there."
    )


def _address(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
