"""The Upstash REST protocol over a real Redis, with refusals and accidents on demand."""

import asyncio
import base64
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Connection
from redis.exceptions import ResponseError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.support.http_server import served

TOKEN = "AXZ8ASQgstandardtoken"
READ_ONLY_TOKEN = "AnZ8ASQgreadonlytoken"
READS = {"GET", "MGET", "EXISTS", "STRLEN", "TTL", "PING"}  # SCAN needs the standard token
QUOTA_MESSAGE = "ERR max requests limit exceeded. Limit: 500000, Usage: 500000."
HTML_PAGE = "<html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"


@dataclass
class Fault:
    """What goes wrong instead of an answer, for the next `times` requests (None: until taken back).

    kind: `status` (this status, body and headers), `hang` (no answer ever), `reset` (connection reset), `cut`
    (the answer breaks off). `after`: the command is carried out first, and only its answer is lost.
    """

    kind: str
    status: int = 500
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    times: int | None = 1
    after: bool = False

    @classmethod
    def html(cls, status: int = 502) -> "Fault":
        """A web page, as a proxy in between shows it."""
        return cls("status", status, HTML_PAGE, {"Content-Type": "text/html"})

    @classmethod
    def error(cls, message: str, status: int = 400, **headers: str) -> "Fault":
        """An error in the protocol's own form."""
        return cls("status", status, json.dumps({"error": message}), headers)


class UpstashServer:
    """The service: its address, what it was asked, and what is to go wrong."""

    def __init__(self, redis_port: int) -> None:
        self.url = ""
        self.token = TOKEN
        self.read_only_token = READ_ONLY_TOKEN
        self.max_request_bytes = 10_000_000
        self.fault: Fault | None = None
        self.requests: list[Any] = []  # the parsed bodies, refused ones too
        self.headers: list[dict[str, str]] = []
        self.hanging = threading.Event()
        self._redis = Connection(port=redis_port, protocol=2)
        self._turn = asyncio.Lock()

    def reset(self) -> None:
        """Forget what was asked and what was to go wrong."""
        self.fault = None
        self.max_request_bytes = 10_000_000
        self.requests.clear()
        self.headers.clear()
        self.hanging.clear()

    def app(self) -> Starlette:
        """The service as an ASGI app."""
        paths = ["/", "/pipeline", "/multi-exec"]
        routes = [Route(path, self._answer, methods=["POST"]) for path in paths]
        return Starlette(routes=routes, lifespan=self._connected)

    @contextlib.asynccontextmanager
    async def _connected(self, _app: Starlette) -> AsyncIterator[None]:
        await self._redis.connect()  # type: ignore[no-untyped-call]
        yield
        await self._redis.disconnect()

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        self.headers.append(dict(request.headers))
        self.requests.append(_parsed(body))
        fault = self._next_fault()
        if fault and not fault.after:
            return await self._go_wrong(fault, request)
        response = await self._carry_out(request, body)
        if fault:
            return await self._go_wrong(fault, request)
        return response

    def _next_fault(self) -> Fault | None:
        fault = self.fault
        if fault and fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                self.fault = None
        return fault

    async def _go_wrong(self, fault: Fault, request: Request) -> Response:
        if fault.kind == "hang":
            self.hanging.set()
            await request.receive()  # comes back when the client has gone
            return Response()
        if fault.kind == "reset":
            _AbortableProtocol.abort(tuple(request.scope["client"]))
            return Response()
        if fault.kind == "cut":
            return _CutResponse(b'{"result":"half an ans', headers={"Content-Length": "1000"})
        return Response(fault.body, fault.status, fault.headers)

    async def _carry_out(self, request: Request, body: bytes) -> Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in (self.token, self.read_only_token):
            return _error("WRONGPASS invalid or missing auth token", 401)
        if len(body) > self.max_request_bytes:
            limit = f"Limit: {self.max_request_bytes} bytes, Actual: {len(body)} bytes"
            return _error(f"ERR max request size exceeded. {limit}")
        parsed = _parsed(body)
        single = request.url.path == "/"
        commands = [parsed] if single else parsed
        if not isinstance(commands, list) or not all(isinstance(each, list) and each for each in commands):
            return _error("ERR failed to parse command")
        refused = _first_refused(commands) if token == self.read_only_token else None
        if refused:
            return _error(f"NOPERM this user has no permissions to run the '{refused.lower()}' command")
        encoded = request.headers.get("Upstash-Encoding") == "base64"
        replies = await self._run(commands, atomic=request.url.path == "/multi-exec")
        answers = [_answer_of(reply, encoded) for reply in replies]
        if single:
            status = 400 if "error" in answers[0] else 200
            return JSONResponse(answers[0], status, {"Upstash-Sync-Token": f"t{len(self.requests)}"})
        return JSONResponse(answers, headers={"Upstash-Sync-Token": f"t{len(self.requests)}"})

    async def _run(self, commands: list[list[Any]], atomic: bool) -> list[Any]:
        """Replies as Redis gave them, errors as exceptions; a transaction without others in between."""
        async with self._turn:
            if not atomic:
                return [await self._command(command) for command in commands]
            await self._command(["MULTI"])
            for command in commands:
                await self._command(command)
            replies = await self._command(["EXEC"])
            return replies if isinstance(replies, list) else [replies]

    async def _command(self, command: list[Any]) -> Any:
        try:
            await self._redis.send_command(*command)
            return await self._redis.read_response()
        except ResponseError as error:
            return error


class _AbortableProtocol(H11Protocol):
    """HTTP whose connections can be cut by the client's address."""

    transports: dict[tuple[str, int], asyncio.Transport] = {}  # noqa: RUF012

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transports[transport.get_extra_info("peername")] = transport
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transports.pop(self.transport.get_extra_info("peername"), None)
        super().connection_lost(exc)

    @classmethod
    def abort(cls, client: tuple[str, int]) -> None:
        """Close a client's connection at once, without an answer."""
        cls.transports[client].abort()


class _CutResponse(Response):
    """Announces more than it sends, then closes."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        _AbortableProtocol.abort(tuple(scope["client"]))


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _first_refused(commands: list[list[Any]]) -> str | None:
    names = (str(command[0]).upper() for command in commands)
    return next((name for name in names if name not in READS), None)


def _error(message: str, status: int = 400) -> Response:
    return JSONResponse({"error": message}, status)


def _answer_of(reply: Any, encoded: bool) -> dict[str, Any]:
    if isinstance(reply, ResponseError):
        code = getattr(reply, "status_code", None)  # the client cuts known codes off the message
        return {"error": f"{code} {reply}" if code else str(reply)}
    return {"result": _json_of(reply, encoded)}


def _json_of(reply: Any, encoded: bool) -> Any:
    if isinstance(reply, list):
        return [_json_of(item, encoded) for item in reply]
    if not isinstance(reply, bytes):
        return reply
    if encoded and reply != b"OK":
        return base64.b64encode(reply).decode()
    return reply.decode("utf-8", "replace")


@contextlib.contextmanager
def running_upstash(redis_port: int) -> Iterator[UpstashServer]:
    """Serve the protocol over the Redis at a port."""
    server = UpstashServer(redis_port)
    with served(server.app(), http=_AbortableProtocol, date_header=False) as url:
        server.url = url
        yield server
