"""The embedded store served read-only at `/kv`, in the part of the Upstash REST protocol a site reads with.

`@upstash/redis` and `@vercel/kv` talk to it as to the real service; anything that would write is refused.
"""

import base64
import hmac
import sqlite3
from collections.abc import Callable, Sequence
from urllib.parse import unquote_to_bytes

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from daemon.kv.base import KVError
from daemon.kv.embedded import EmbeddedKV, keys_after, value_of
from daemon.kv.glob import glob_matcher

MAX_BODY_BYTES = 1_000_000
MOST_KEYS_PER_SCAN = 1000
METHODS = ["GET", "HEAD", "POST", "PUT"]

Reply = None | int | str | list["Reply"]
Command = Callable[[sqlite3.Connection, Sequence[str]], Reply]


class Refused(Exception):  # noqa: N818
    """A request or a command that gets an error: HTTP status and the text for `error`."""

    def __init__(self, message: str, status: int = 400) -> None:
        self.message = message
        self.status = status
        super().__init__(message)


def kv_app(kv: EmbeddedKV, token: str) -> Starlette:
    """The read-only service, to be mounted. `token` is what clients send; it must not be empty."""
    service = _Service(kv, token)
    routes = [Route("/{path:path}", service.answer, methods=METHODS)]
    return Starlette(routes=routes, exception_handlers={HTTPException: _http_error})


def kv_routes(kv: EmbeddedKV, token: str, path: str = "/kv") -> list[BaseRoute]:
    """The service as routes of a larger app: what `kv_app` serves, and the same at `path` without a slash.

    That is where the clients send single commands; a mount alone would redirect each of them first.
    """
    at_path = Route(path, _Service(kv, token).answer_bare, methods=METHODS)
    return [at_path, Mount(path, app=kv_app(kv, token))]


class _Service:
    """Checks who asks, reads what is asked, answers it."""

    def __init__(self, kv: EmbeddedKV, token: str) -> None:
        if not token:
            raise ValueError("serving the embedded store needs a token")
        self._kv = kv
        self._token = token.encode()

    async def answer(self, request: Request) -> Response:
        """Answer a request below the mount point: `pipeline`, `multi-exec`, a command, or nothing."""
        return await self._guarded(request, _path_below_mount(request))

    async def answer_bare(self, request: Request) -> Response:
        """Answer a request at the mount point itself."""
        return await self._guarded(request, b"")

    async def _guarded(self, request: Request, path: bytes) -> Response:
        try:
            self._check_token(request)
            return await self._answer(request, _segments_of(path))
        except Refused as refused:
            return _json({"error": refused.message}, refused.status)
        except KVError as error:
            return _json({"error": f"ERR {error.cause}"}, 503)
        except ClientDisconnect:
            return _json({"error": "ERR the request was cut short"}, 400)

    def _check_token(self, request: Request) -> None:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = request.query_params.get("_token", "")
        if not hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self._token):
            raise Refused("WRONGPASS invalid or missing auth token", 401)

    async def _answer(self, request: Request, segments: list[str]) -> Response:
        body = await _body_of(request)
        encode = _base64 if request.headers.get("Upstash-Encoding", "").lower() == "base64" else _plain
        if segments in (["pipeline"], ["multi-exec"]):
            commands = _commands_in(body)
            if segments == ["multi-exec"]:
                for command in commands:
                    _check_command(command)
            replies = await self._kv.read(
                lambda connection: [_item(connection, each, encode) for each in commands]
            )
            return _json(replies)
        command = _command_of(segments, body)
        reply = await self._kv.read(lambda connection: _run(connection, command))
        return _json({"result": encode(reply)})


def _path_below_mount(request: Request) -> bytes:
    """The path as it was sent, still percent-encoded."""
    raw_path = bytes(request.scope.get("raw_path") or request.scope["path"].encode())
    return raw_path.removeprefix(request.scope.get("root_path", "").encode())


def _segments_of(path: bytes) -> list[str]:
    """The path cut at its slashes, and only then decoded: keys have slashes too, sent as `%2F`."""
    stripped = path.strip(b"/")
    return [_text(unquote_to_bytes(segment)) for segment in stripped.split(b"/") if stripped]


async def _body_of(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise Refused(f"ERR max request size exceeded. Limit: {MAX_BODY_BYTES} bytes", 413)
    return body


def _command_of(segments: list[str], body: bytes) -> list[str]:
    """A single command: in the path, where a body is its last argument, or as a JSON array in the body."""
    if segments:
        return [*segments, _text(body)] if body else segments
    return _arguments(_parsed(body))


def _commands_in(body: bytes) -> list[list[str]]:
    commands = _parsed(body)
    if not isinstance(commands, list):
        raise Refused("ERR failed to parse pipeline request")
    return [_arguments(command) for command in commands]


def _parsed(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refused("ERR failed to parse command") from None


def _arguments(command: object) -> list[str]:
    """Name and arguments as texts; numbers are what the clients send for counts and cursors."""
    if not isinstance(command, list) or not command:
        raise Refused("ERR empty command")
    for part in command:
        if isinstance(part, bool) or not isinstance(part, str | int | float):
            raise Refused("ERR a command is a list of texts and numbers")
    return [str(part) for part in command]


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Refused("ERR not valid UTF-8") from None


def _item(
    connection: sqlite3.Connection, command: list[str], encode: Callable[[Reply], Reply]
) -> dict[str, Reply]:
    """One command's place in a pipeline's answer: its result, or its own error beside the others' results."""
    try:
        return {"result": encode(_run(connection, command))}
    except Refused as refused:
        return {"error": refused.message}


def _run(connection: sqlite3.Connection, command: list[str]) -> Reply:
    return _check_command(command)(connection, command[1:])


def _check_command(command: list[str]) -> Command:
    """The function for a command; raises `Refused` for any that this service does not have."""
    name = command[0].upper()
    if name not in _COMMANDS:
        shown = ", ".join(_COMMANDS)
        raise Refused(f"NOPERM this store is read-only: '{name[:32]}' is not one of {shown}")
    fewest, most, function = _COMMANDS[name]
    if not fewest <= len(command) - 1 <= most:
        raise Refused(f"ERR wrong number of arguments for '{name.lower()}' command")
    return function


def _get(connection: sqlite3.Connection, arguments: Sequence[str]) -> Reply:
    return value_of(connection, arguments[0])


def _mget(connection: sqlite3.Connection, arguments: Sequence[str]) -> Reply:
    return [value_of(connection, key) for key in arguments]


def _exists(connection: sqlite3.Connection, arguments: Sequence[str]) -> Reply:
    return sum(value_of(connection, key) is not None for key in arguments)


def _strlen(connection: sqlite3.Connection, arguments: Sequence[str]) -> Reply:
    return len((value_of(connection, arguments[0]) or "").encode())


def _ttl(connection: sqlite3.Connection, arguments: Sequence[str]) -> Reply:
    """-1: the key never expires, which is all there is here; -2: there is no such key."""
    return -2 if value_of(connection, arguments[0]) is None else -1


def _ping(_connection: sqlite3.Connection, arguments: Sequence[str]) -> Reply:
    return arguments[0] if arguments else "PONG"


def _scan(connection: sqlite3.Connection, arguments: Sequence[str]) -> Reply:
    if not arguments[0].isdecimal() or len(arguments[0]) > 18:
        raise Refused("ERR invalid cursor")
    options = {name.upper(): value for name, value in zip(arguments[1::2], arguments[2::2], strict=False)}
    count = options.pop("COUNT", "10")
    matches = glob_matcher(options.pop("MATCH", "*"))
    if options or len(arguments) % 2 == 0:
        raise Refused("ERR syntax error")
    if not count.isdecimal() or int(count[:9]) == 0:
        raise Refused("ERR value is not an integer or out of range")
    cursor, keys = keys_after(connection, int(arguments[0]), min(int(count[:9]), MOST_KEYS_PER_SCAN))
    return [str(cursor), [key for key in keys if matches(key)]]


_ANY = 1_000_000
_COMMANDS: dict[str, tuple[int, int, Command]] = {  # fewest and most arguments
    "GET": (1, 1, _get),
    "MGET": (1, _ANY, _mget),
    "EXISTS": (1, _ANY, _exists),
    "STRLEN": (1, 1, _strlen),
    "TTL": (1, 1, _ttl),
    "PING": (0, 1, _ping),
    "SCAN": (1, 5, _scan),
}


def _plain(reply: Reply) -> Reply:
    return reply


def _base64(reply: Reply) -> Reply:
    """Every text but "OK" in base64, numbers and null as they are."""
    if isinstance(reply, list):
        return [_base64(item) for item in reply]
    if isinstance(reply, str) and reply != "OK":
        return base64.b64encode(reply.encode()).decode()
    return reply


def _json(content: object, status: int = 200) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"error": f"ERR {error.detail}"}, error.status_code)
