"""A scripted HTTP server in the test's own event loop: every byte that the door to Notion must survive, on demand."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from daemon.clock import DrivenClock


@dataclass
class Request:
    """A request as it came over the wire."""

    method: str
    target: str
    headers: dict[str, str]
    body: Any

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)


@dataclass
class Reply:
    """An answer: JSON unless the body is text. `cut` closes the connection after so many bytes of the body."""

    status: int = 200
    body: Any = field(default_factory=lambda: {"object": "page", "id": "x"})
    headers: dict[str, str] = field(default_factory=dict)
    date: str | None = ""
    cut: int | None = None


class Reset(Exception):  # noqa: N818 - an event, not an error of ours
    """Raised by a script: the connection is dropped without an answer."""


Script = Callable[[Request], Reply | Awaitable[Reply]]
"""What the server does with a request."""


def refusal(status: int = 429, **headers: str) -> Reply:
    """Notion refusing a request for now."""
    return error(status, "rate_limited" if status == 429 else "service_overload", "Slow down.", **headers)


def error(status: int, code: str, message: str = "Something.", extra: Any = None, **headers: str) -> Reply:
    """An error in Notion's own shape; header names with `_` for `-`."""
    body = {"object": "error", "status": status, "code": code, "message": message, "request_id": "req-1"}
    if extra is not None:
        body["additional_data"] = extra
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def results(items: list[Any], cursor: str | None = None, **more: Any) -> Reply:
    """One page of a listing; `cursor` leads to the next."""
    listing = {"object": "list", "results": items, "has_more": cursor is not None, "next_cursor": cursor}
    return Reply(200, listing | more)


class NotionStub:
    """Answers by script: a function, or a list of replies used up one by one."""

    def __init__(self, clock: DrivenClock) -> None:
        self.clock = clock
        self.requests: list[Request] = []
        self.times: list[float] = []
        self.connections = 0
        self.url = ""
        self.script: Script | Sequence[Reply | Script] = []
        self._script_used: object = None
        self._answered = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["NotionStub"]:
        """Listen on a free local port."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._handlers: set[asyncio.Task[None]] = set()
        try:
            yield self
        finally:
            server.close()
            for handler in self._handlers:
                handler.cancel()
            await asyncio.gather(*self._handlers, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._handlers.add(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                self.times.append(self.clock.monotonic())
                reply = await self._reply(request)
                if not self._write(writer, reply):
                    break
                await writer.drain()
        except (Reset, ConnectionError):
            writer.transport.abort()
        finally:
            writer.close()

    async def _reply(self, request: Request) -> Reply:
        answer = self.script if callable(self.script) else self._next_of(self.script)
        if callable(answer):
            reply = answer(request)
            return reply if isinstance(reply, Reply) else await reply
        return answer

    def _next_of(self, script: Sequence[Reply | Script]) -> Reply | Script:
        if script is not self._script_used:
            self._script_used, self._answered = script, 0
        self._answered += 1
        return script[self._answered - 1]

    def _write(self, writer: asyncio.StreamWriter, reply: Reply) -> bool:
        is_text = isinstance(reply.body, str)
        body = reply.body.encode() if is_text else json.dumps(reply.body).encode()
        headers = {
            "content-type": "text/html" if is_text else "application/json",
            "content-length": str(len(body)),
        }
        if reply.date is not None:
            headers["date"] = reply.date or format_datetime(self.clock.now(), usegmt=True)
        lines = [f"HTTP/1.1 {reply.status} X", *(f"{k}: {v}" for k, v in (headers | reply.headers).items())]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body[: reply.cut])
        return reply.cut is None


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    method, target, _ = head[0].split(" ")
    pairs = (line.split(": ", 1) for line in head[1:] if line)
    headers = {name.lower(): value for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, json.loads(body) if body else None)
