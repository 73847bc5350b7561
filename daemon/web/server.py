"""The HTTP server: one port, in the daemon's own event loop, started and stopped with the daemon."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from daemon import log
from daemon.kv.embedded import EmbeddedKV
from daemon.kv.rest import kv_routes
from daemon.kv.token import embedded_kv_token
from daemon.web.answers import http_error
from daemon.web.assets import asset_routes
from daemon.web.connection import MAX_HEADER_BYTES, Connection
from daemon.web.guard import Guard
from daemon.web.health import health_answer, health_routes
from daemon.web.jobs_api import job_routes
from daemon.web.metrics import metrics_routes
from daemon.web.parts import Parts
from daemon.web.room import Room, most_connections
from daemon.web.shortcut import Shortcut
from daemon.web.status_page import status_page_routes
from daemon.web.sync_api import sync_routes
from daemon.web.webhooks import webhook_routes

STOP_SECONDS = 2
QUEUED_CONNECTIONS = 1024
"""How many clients the system lets wait until they are accepted: a burst of them is no reason to try again later."""


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
        # It warns of everything that is no HTTP, and whoever likes sends that to a public port.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        with listener(settings.host, settings.port) as listening:
            room, shortcut = Room(most_connections()), Shortcut(partial(health_answer, self._parts))
            server = uvicorn.Server(_config(application(self._parts), room.most))
            server.config.load()
            connection: Any = partial(Connection, room=room, shortcut=shortcut)
            server.config.http_protocol_class = connection
            server.lifespan = server.config.lifespan_class(server.config)
            # The three steps of uvicorn's own `serve`, without its signal handling and its sys.exit.
            await server.startup(sockets=[listening])
            listening.listen(QUEUED_CONNECTIONS)
            ticking = asyncio.create_task(server.main_loop(), name="http")
            try:
                yield _address(settings.host, listening.getsockname()[1])
            finally:
                server.should_exit = True
                await ticking
                await server.shutdown(sockets=[listening])
                room.clear()
                await asyncio.sleep(0)  # their sockets are closed by the loop


def application(parts: Parts) -> Starlette:
    """Everything that is served, as one ASGI application."""
    routes: list[BaseRoute] = [*status_page_routes(parts), *health_routes(parts), *metrics_routes(parts)]
    routes += [*sync_routes(parts), *job_routes(parts), *webhook_routes(parts), *asset_routes(parts)]
    if isinstance(parts.kv, EmbeddedKV):
        token = embedded_kv_token(parts.settings)
        log.register_secret(token)
        routes += kv_routes(parts.kv, token)
    app = Starlette(
        routes=routes, middleware=[Middleware(Guard)], exception_handlers={HTTPException: http_error}
    )
    app.router.redirect_slashes = False  # a redirect would repeat whatever Host the client claims
    return app


def _config(app: Starlette, most: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="h11",
        loop="asyncio",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=max(1, most // 4),  # as many are accepted at once, before any of them can be turned away
        timeout_graceful_shutdown=STOP_SECONDS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )


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
