"""The sandbox as a whole: a workspace, its habits and faults, and the HTTP application in front of them."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from email.utils import formatdate
from math import ceil
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from daemon.clock import Clock, SystemClock
from daemon.demo import reads, writes
from daemon.demo.calls import OLD_VERSION, VERSIONS, Call
from daemon.demo.errors import ApiError, rate_limited, validation_error
from daemon.demo.faults import Fault, Faults
from daemon.demo.files import Files, refusal
from daemon.demo.habits import Habits
from daemon.demo.listing import Listings
from daemon.demo.render import Renderer
from daemon.demo.serving import TRANSPORT, reset, serving
from daemon.demo.webhooks import Subscription
from daemon.demo.wire import decode
from daemon.demo.workspace import Workspace

WINDOW_SECONDS = 60.0
_KEPT_REQUESTS = 200_000
_HTML = b"<html>\r\n<head><title>%d</title></head>\r\n<body><h1>%d</h1><hr>cloudflare</body>\r\n</html>\r\n"

_S3_ERROR = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>Status%d</Code></Error>'

Endpoint = Callable[[Call], bytes]
Watcher = Callable[[str, str], Awaitable[None] | None]
_ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("GET", "/users/me", reads.users_me),
    ("GET", "/users", reads.users),
    ("GET", "/users/{id}", reads.user),
    ("GET", "/databases/{id}", reads.database),
    ("GET", "/data_sources/{id}", reads.data_source),
    ("POST", "/data_sources/{id}/query", reads.query),
    ("POST", "/pages", writes.create_page),
    ("GET", "/pages/{id}", reads.page),
    ("PATCH", "/pages/{id}", writes.update_page),
    ("GET", "/pages/{id}/properties/{property:path}", reads.page_property),
    ("POST", "/pages/{id}/move", writes.move_page),
    ("GET", "/blocks/{id}", reads.block),
    ("PATCH", "/blocks/{id}", writes.update_block),
    ("DELETE", "/blocks/{id}", writes.delete_block),
    ("GET", "/blocks/{id}/children", reads.block_children),
    ("PATCH", "/blocks/{id}/children", writes.append_children),
    ("POST", "/search", reads.search),
)


@dataclass(frozen=True)
class RequestRecord:
    """A request that was answered. `status` 0: it got no answer (reset, or left hanging)."""

    method: str
    path: str
    """Without `/v1`."""
    query: dict[str, Any]
    """Single values as str, repeated ones as list."""
    body: Any
    status: int
    at: float
    """`clock.monotonic()` when it came."""


class _Budget:
    """Requests per window of 60 s that starts with the first request after the one before."""

    def __init__(self) -> None:
        self._opened_at = float("-inf")
        self._used = 0

    def spend(self, now: float, allowed: int | None) -> int | None:
        """Count a request; the whole seconds to wait when there is nothing left."""
        if now - self._opened_at >= WINDOW_SECONDS:
            self._opened_at, self._used = now, 0
        if allowed is not None and self._used >= allowed:
            return max(1, ceil(self._opened_at + WINDOW_SECONDS - now))
        self._used += 1
        return None


class Sandbox:
    """A Notion with one workspace and one integration, whose secret is `token`.

    Everything is in memory and deterministic for a `seed`. `habits`, `faults` and `workspace` may be changed
    at any time, also while it serves.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        seed: int = 0,
        habits: Habits | None = None,
        token: str = "ntn_sandbox",
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self._habits = habits or Habits()
        self.workspace = Workspace(self.clock, self.habits, seed)
        self.faults = Faults()
        self.files = Files()
        self.requests: list[RequestRecord] = []
        self.downloads: list[RequestRecord] = []
        """The requests for files, which are none of the API's."""
        self.watchers: list[Watcher] = []
        """Called with method and path (without `/v1`) when a request has come, before it is answered: the
        answer shows what a watcher edits, and waits for one that is asynchronous."""
        self._seed = seed
        self._token = token
        self._listings = Listings(self.workspace, self.habits, seed)
        self._renderers = {
            version: Renderer(self.workspace, self.habits, self.files, archived_key=version == OLD_VERSION)
            for version in VERSIONS
        }
        self._budget = _Budget()
        self.app = Starlette(routes=self._routes())

    @property
    def habits(self) -> Habits:
        """The habits in force. Assigning others changes these in place."""
        return self._habits

    @habits.setter
    def habits(self, habits: Habits) -> None:
        for part in fields(Habits):
            setattr(self._habits, part.name, getattr(habits, part.name))

    @asynccontextmanager
    async def serve(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
        """Serve over HTTP inside the running loop, files too; yields the base URL, without `/v1`."""
        async with serving(self.app, host, port) as url:
            self.files.address = f"{url}/files"
            yield url

    def subscribe(self, url: str) -> Subscription:
        """Tell an address of every edit from now on, when the subscription is told to deliver."""
        made = Subscription(self.workspace, url, self._seed + len(self.workspace.listeners))
        self.workspace.listeners.append(made.note)
        return made

    def count(self, method: str | None = None, path: str = "") -> int:
        """How many requests of that method whose path holds `path` were answered so far."""
        return sum(1 for r in self.requests if path in r.path and method in (None, r.method))

    def _routes(self) -> list[Route]:
        made = [
            Route(f"/v1{path}", self._endpoint(endpoint), methods=[method])
            for method, path, endpoint in _ROUTES
        ]
        return [
            *made,
            Route("/files/{path:path}", self._give_file, methods=["GET"]),
            Route(
                "/{path:path}",
                self._endpoint(_no_such_url),
                methods=["GET", "POST", "PATCH", "DELETE", "PUT"],
            ),
        ]

    def _endpoint(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            raw = await request.body()
            return await self._answer(request, endpoint, raw)

        return answer

    async def _answer(self, request: Request, endpoint: Endpoint, raw: bytes) -> Response:
        path = str(request.scope["path"]).removeprefix("/v1")
        await self._tell_watchers(request.method, path)
        fault = self.faults.take(request.method, path)
        request_id = self.workspace.ids.random()
        if fault is not None and (fault.reset or fault.hang):
            self._record(request, path, raw, 0)
            return _Unanswered(fault, request)
        try:
            if fault is not None and not fault.cut and not fault.applied:
                raise fault.error()
            body, status, headers = self._run(request, endpoint, raw), 200, {}
            body = body[:-1] + b',"request_id":"' + request_id.encode() + b'"}'
            if fault is not None and not fault.cut:
                raise fault.error()
        except ApiError as refused:
            body, status = refused.body(request_id), refused.status
            headers = {} if refused.retry_after is None else {"retry-after": str(refused.retry_after)}
        self._record(request, path, raw, status)
        html = fault is not None and fault.html
        shown = _HTML % (status, status) if html else body
        made = _Cut(shown, status) if fault is not None and fault.cut else Response(shown, status)
        made.headers.update({**headers, **self._headers(request_id, html=html)})
        return made

    async def _tell_watchers(self, method: str, path: str) -> None:
        for watcher in list(self.watchers):
            waiting = watcher(method, path)
            if waiting is not None:
                await waiting

    async def _give_file(self, request: Request) -> Response:
        """A hosted file: whole, to whoever comes with a signature that has not expired."""
        path, query = request.scope["raw_path"].decode("ascii"), dict(request.query_params)
        await self._tell_watchers("GET", path)
        fault = self.faults.take("GET", path)
        denied = refusal(path, query, self.workspace.now_ms())
        status = 0 if fault and (fault.reset or fault.hang) else 403 if denied else 200
        if fault and not status:
            made: Response = _Unanswered(fault, request)
        elif fault and fault.redirect is not None:
            status, made = 302, Response(status_code=302, headers={"location": fault.redirect})
        elif fault and not (fault.cut or fault.slow):
            status, made = fault.status, Response(_S3_ERROR % fault.status, fault.status)
        elif denied:
            made = Response(denied, 403, media_type="application/xml")
        else:
            kind = _Cut if fault and fault.cut else _Slow if fault else Response
            file = self.files.find(path.removeprefix("/files"))
            made = kind(file.content, 200, media_type=file.media_type)
        at = self.clock.monotonic()
        self.downloads.append(RequestRecord("GET", path, {**query}, None, status, at))
        return made

    def _headers(self, request_id: str, *, html: bool) -> dict[str, str]:
        return {
            "content-type": "text/html" if html else "application/json; charset=utf-8",
            "date": formatdate(self.workspace.now_ms() // 1000, usegmt=True),
            "x-notion-request-id": request_id,
        }

    def _run(self, request: Request, endpoint: Endpoint, raw: bytes) -> bytes:
        """The answer's JSON text without its request id. Raises ApiError."""
        now = self.clock.monotonic()
        self._check_token(request.headers.get("authorization", ""))
        version = _checked_version(request.headers.get("notion-version"))
        wait = self._budget.spend(now, self.habits.budget_per_minute)
        if wait is not None:
            raise rate_limited(wait)
        call = Call(
            self.workspace,
            self.habits,
            self._listings,
            self._renderers[version],
            version,
            self._seed,
            now,
            {key: str(value) for key, value in request.path_params.items()},
            {key: request.query_params.getlist(key) for key in request.query_params},
            _parsed(raw),
        )
        return endpoint(call)

    def _check_token(self, authorization: str) -> None:
        good = hmac.compare_digest(authorization.encode(), f"Bearer {self._token}".encode())
        if self.workspace.token_revoked or not good:
            raise ApiError(401, "unauthorized", "API token is invalid.")

    def _record(self, request: Request, path: str, raw: bytes, status: int) -> None:
        query: dict[str, Any] = {}
        for key in request.query_params:
            values = request.query_params.getlist(key)
            query[key] = values[0] if len(values) == 1 else values
        try:
            body = decode(raw) if raw else None
        except ValueError:
            body = None
        self.requests.append(RequestRecord(request.method, path, query, body, status, self.clock.monotonic()))
        if len(self.requests) > _KEPT_REQUESTS:
            del self.requests[: _KEPT_REQUESTS // 2]


def _checked_version(version: str | None) -> str:
    if version is None:
        raise ApiError(
            400,
            "missing_version",
            "Notion-Version header failed validation: Notion-Version header should be defined, "
            "instead was `undefined`.",
        )
    if version not in VERSIONS:
        known = ", ".join(f'`"{v}"`' for v in VERSIONS)
        raise validation_error(
            f"Notion-Version header failed validation: Notion-Version header should be {known}, "
            f'instead was `"{version}"`.'
        )
    return version


def _parsed(raw: bytes) -> dict[str, Any]:
    if not raw:
        return {}
    try:
        body = decode(raw)
    except ValueError:
        raise ApiError(400, "invalid_json", "Error parsing JSON body.") from None
    if not isinstance(body, dict):
        raise validation_error("body failed validation: body should be an object.")
    return body


def _no_such_url(_call: Call) -> bytes:
    raise ApiError(400, "invalid_request_url", "Invalid request URL.")


class _Cut(Response):
    """An answer that promises its whole body and breaks off in the middle."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        whole = bytes(self.body)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": whole[: len(whole) // 2], "more_body": True})
        await _disconnect(scope)


class _Slow(Response):
    """An answer that promises its whole body, sends half, and then nothing more."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        whole = bytes(self.body)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": whole[: len(whole) // 2], "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass


class _Unanswered(Response):
    """No answer: the connection is reset at once, or kept until the other side gives up."""

    def __init__(self, fault: Fault, request: Request) -> None:
        super().__init__()
        self._hang = fault.hang

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while self._hang and (await receive())["type"] != "http.disconnect":
            pass
        if not self._hang:
            await _disconnect(scope)


async def _disconnect(scope: Scope) -> None:
    """Break the connection under an answer. Without a connection (in-process transports) it is an error."""
    transport = scope.get(TRANSPORT)
    if transport is None:
        raise ConnectionResetError("the sandbox was told to break this connection")
    reset(transport)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
