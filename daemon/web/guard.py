"""What holds for every request: bounded bodies, headers that keep browsers careful, and no error's details told."""

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from daemon.web.answers import error_answer

MAX_BODY_BYTES = 1_000_000
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer that does not say otherwise itself. No CORS: browsers of other sites have no business here."""

log = structlog.get_logger(__name__)


class Guard:
    """ASGI middleware around all routes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; an unexpected error becomes a 500 that says nothing, and a log line that says all."""
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._answer(scope, receive, guarded)
        except ClientDisconnect:
            return
        except Exception as error:
            if started:
                raise  # the server logs it and cuts the connection: the answer must not look whole
            log.exception("a request failed", action="request_failed", path=scope["path"], error=str(error))
            answer = error_answer(500, "internal_error", "Something went wrong here; the log says what.")
            await answer(scope, receive, guarded)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or int(declared[:20]) > MAX_BODY_BYTES:
            return await error_answer(413, "too_large", "The body is larger than 1 MB.")(scope, receive, send)
        await self._app(scope, _bounded(receive), send)


def _bounded(receive: Receive) -> Receive:
    """`receive` that refuses a body once it grows too large, whatever its length was said to be."""
    left = MAX_BODY_BYTES

    async def bounded() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413)
        return message

    return bounded
