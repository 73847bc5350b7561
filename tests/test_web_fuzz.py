"""Requests at random at every route there is, and junk on the socket: never a 500, never stuck, healthy afterwards.

The routes are those of the application itself, so one that is added is tried from then on.
"""

import asyncio
import contextlib
import json
import random
import re
import socket
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_from_bytes

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from starlette.routing import BaseRoute, Mount, Route

from daemon.app import App
from daemon.config import load_settings
from daemon.demo.sandbox import Sandbox
from daemon.kv.token import embedded_kv_token
from daemon.web.server import Server, application
from tests.support.web import SECRET, a_small_site

ANSWER_SECONDS = 10.0
"""How long an answer may take until it begins."""
REQUESTS = 300
BURSTS = 150
METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY")


@dataclass(frozen=True)
class Target:
    """A daemon at work, as a client sees it. `routes`: path templates, with the methods they take."""

    port: int
    routes: tuple[tuple[str, frozenset[str]], ...]
    kv_token: str
    errors: list[str]


class Stage:
    """A whole daemon, its schedule running, on a small sandbox, in a thread and an event loop of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._up = threading.Event()
        self._down = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="fuzzed daemon")
        self.target: Target | None = None
        self.failure: BaseException | None = None

    def start(self) -> Target:
        """Out: where it is, once its first sync is done."""
        self._thread.start()
        assert self._up.wait(30.0) and self.target is not None, self.failure
        return self.target

    def end(self) -> None:
        """It stops as a daemon does."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._down.set)
        self._thread.join(30.0)
        assert not self._thread.is_alive() and self.failure is None, self.failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self.failure = error
        finally:
            self._up.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        errors: list[str] = []
        self._loop.set_exception_handler(lambda _, context: errors.append(str(context)))
        sandbox = Sandbox(seed=7)
        site = a_small_site(sandbox.workspace)
        async with sandbox.serve() as url:
            settings = environment(url, site.pages_database, site.posts_database, self._folder)
            app = App(load_settings(settings))
            try:
                await app.open()
                working = asyncio.create_task(app.schedule.run())
                async with Server(app).serving() as address:
                    await app.vitals.became_ready.wait()
                    routes = tuple(paths(application(app).routes))
                    token = embedded_kv_token(app.settings)
                    self.target = Target(int(address.rsplit(":", 1)[1]), routes, token, errors)
                    self._up.set()
                    await self._down.wait()
                app.schedule.stop()
                await working
            finally:
                await app.close()


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The daemon that all of this is sent to."""
    stage = Stage(tmp_path_factory.mktemp("fuzz"))
    yield stage.start()
    stage.end()


def environment(url: str, pages: str, posts: str, folder: Path) -> dict[str, str]:
    """Everything that opens an endpoint is set."""
    return {
        "NOTION_TOKEN": "ntn_sandbox",
        "NOTION_BASE_URL": url,
        "NOTION_PAGES_DB": pages,
        "NOTION_POSTS_DB": posts,
        "NOTION_REQUESTS_PER_MINUTE": "100000",
        "EMBEDDED_KV": "1",
        "DATA_DIR": str(folder),
        "HOST": "127.0.0.1",
        "PORT": "0",
        "CRON_SECRET": SECRET,
        "QSTASH_CURRENT_SIGNING_KEY": "sig_current_of_this_test_0123456789",
        "QSTASH_NEXT_SIGNING_KEY": "sig_next_of_this_test_0123456789012",
        "NOTION_WEBHOOK_VERIFICATION_TOKEN": "secret_tnaVerificationTokenOfThisTest",
    }


def paths(routes: Iterable[BaseRoute], prefix: str = "") -> Iterator[tuple[str, frozenset[str]]]:
    """Every path template below some routes, with its methods."""
    for route in routes:
        if isinstance(route, Route):
            yield prefix + route.path, frozenset(route.methods or ())
        elif isinstance(route, Mount):
            yield from paths(route.routes, prefix + route.path)
            if not route.routes:  # files, or an application that does not tell
                yield f"{prefix}{route.path}/{{path:path}}", frozenset(("GET", "HEAD"))
        else:
            raise AssertionError(f"a kind of route that is not tried: {route!r}")


# Requests ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """One request, as it is sent. `path` is escaped already; header values are bytes that a header may hold."""

    method: str
    template: str
    path: str
    query: str
    headers: tuple[tuple[str, bytes], ...]
    body: bytes


octets = st.binary(max_size=12)
names = st.sampled_from(
    ("secret", "force", "live", "only", "url", "id", "after", "limit", "_token", "token", "x", "")
)
words = st.sampled_from(
    (b"1", b"0", b"true", b"-1", b"nan", b"1e999", b"9" * 30, b"pages", b"children", b"..", b"null", b"\x00")
)
ids = st.sampled_from(
    (b"01234567-89ab-4def-8123-456789abcdef", b"0" * 32, b"pipeline", b"get", b"page:index")
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
shapes = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
known_keys = st.sampled_from(
    ("force", "verification_token", "type", "id", "entity", "data", "only", "timestamp")
)
bodies = st.one_of(
    st.just(b""),
    octets,
    shapes.map(lambda shape: json.dumps(shape).encode()),
    st.dictionaries(known_keys, shapes, max_size=4).map(lambda shape: json.dumps(shape).encode()),
    st.sampled_from((b"[" * 5_000, b'{"a":' * 500, b"\xff\xfe", b'"\\ud800"', b'["GET"]', b'[["SCAN","x"]]')),
)
bearers = st.sampled_from((b"Bearer wrong", b"Basic eDp5", b"Bearer", b"Bearer \xff", b"Bearer a.b.c"))
odd_headers = st.lists(
    st.tuples(
        st.sampled_from(
            (
                *("Content-Type", "Accept", "Accept-Encoding", "Origin", "Range", "If-None-Match", "Cookie"),
                *(
                    "Upstash-Signature",
                    "Upstash-Encoding",
                    "X-Notion-Signature",
                    "X-Forwarded-For",
                    "Last-Event-ID",
                ),
            )
        ),
        st.one_of(
            st.sampled_from(
                (b"application/json", b"*/*", b"bytes=0-", b"sha256=00", b"e30.e30.e30", b"base64", b"-1")
            ),
            st.binary(max_size=10).map(
                lambda some: bytes(byte for byte in some if 32 < byte < 127 or byte > 160)
            ),
        ),
    ),
    max_size=3,
)


@st.composite
def requests(draw: st.DrawFn, target: Target) -> Asked:
    """Any method at any route, its parameters filled with anything, with the secret or without."""
    template, methods = draw(st.sampled_from(target.routes))
    parts = [
        draw(ids | octets | words) if part.startswith("{") else part.encode() for part in template.split("/")
    ]
    path = "/".join(quote_from_bytes(part, safe="") for part in parts)
    pairs = draw(st.lists(st.tuples(names, words | octets), max_size=3))
    query = "&".join(f"{name}={quote_from_bytes(value, safe='')}" for name, value in pairs)
    headers = list(draw(odd_headers))
    match draw(st.sampled_from(("secret", "secret", "query", "kv", "wrong", "none"))):
        case "secret":
            headers.append(("Authorization", f"Bearer {SECRET}".encode()))
        case "query":
            query = f"secret={SECRET}&{query}"
        case "kv":
            headers.append(("Authorization", f"Bearer {target.kv_token}".encode()))
        case "wrong":
            headers.append(("Authorization", draw(bearers)))
    method = draw(st.sampled_from((*sorted(methods), *sorted(methods), *METHODS)))
    return Asked(method, template, path, query, tuple(headers), draw(bodies))


def check_answer(asked: Asked, answer: httpx.Response) -> None:
    """No failure of ours; an error says what it is, in the form that its address has."""
    assert answer.status_code != 500 and answer.status_code < 600, asked
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers
    if answer.status_code < 400 or asked.method == "HEAD" or asked.template in ("/health", "/ready"):
        return
    if answer.headers["content-type"].startswith("text/html"):
        assert asked.template == "/"
        return
    assert answer.headers["content-type"] == "application/json", asked
    error = answer.json()
    assert isinstance(error["error"], str) and error["error"], asked
    assert asked.template.startswith("/kv") or (error["ok"] is False and error["message"]), asked


def test_any_request_at_any_route_is_answered(target: Target) -> None:
    """Never a 500, an answer within seconds, errors in their form, and the daemon healthy after each fifty.

    Fails when a route takes a body to be a mapping, or a parameter to be a number.
    """
    assert {"/health", "/ready", "/status", "/metrics", "/", "/kv"} <= {path for path, _ in target.routes}
    client = httpx.Client(base_url=f"http://127.0.0.1:{target.port}", timeout=ANSWER_SECONDS, trust_env=False)

    @settings(
        max_examples=REQUESTS,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(requests(target))
    def ask(asked: Asked) -> None:
        url = f"{asked.path}?{asked.query}" if asked.query else asked.path
        headers = [(name.encode(), value) for name, value in asked.headers]
        with client.stream(asked.method, httpx.URL(url), headers=headers, content=asked.body) as answer:
            if not answer.headers["content-type"].startswith("text/event-stream"):
                answer.read()
                check_answer(asked, answer)

    with client:
        ask()
        assert client.get("/health").json()["ok"] is True
    assert target.errors == []


# Junk ----------------------------------------------------------------------------------------------------------------

PIECES = (
    *(
        b"GET ",
        b"POST ",
        b"/",
        b"/health",
        b"/status",
        b" HTTP/1.1",
        b" HTTP/1.0",
        b" HTTP/2.0",
        b"\r\n",
        b"\n",
    ),
    *(
        b"\r\n\r\n",
        b"\r",
        b"Host: x\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"hello",
        b": ",
    ),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n"),
    *(
        b"ffffffffffffffff\r\n",
        b"-1\r\n",
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        b"Connection: close\r\n",
    ),
    *(
        b"Expect: 100-continue\r\n",
        b"\x00",
        b"\xff\xfe",
        b"\x16\x03\x01",
        b"X: " + b"y" * 9_000 + b"\r\n",
        b" ",
    ),
    *(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"),
    b"POST /status HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
)


def test_junk_on_the_socket_ends_in_an_answer_or_a_closed_connection(target: Target) -> None:
    """Pieces of requests in any order, any cut, then silence or an end: whatever is answered is no 500.

    Fails when an error of the parser reaches the event loop.
    """
    before = len(target.errors)
    rng = random.Random(7)
    seen: set[bytes] = set()
    for _ in range(BURSTS):
        pieces = rng.choices(PIECES, k=rng.randrange(1, 12))
        if rng.random() < 0.2:
            pieces.insert(rng.randrange(len(pieces)), rng.randbytes(rng.randrange(1, 60)))
        end = rng.choice(("half", "leave", "silence", "silence"))
        heard = sent(target, pieces, end, cut=rng.random() < 0.3)
        seen.update(re.findall(rb"HTTP/1\.1 (\d+)", heard))
        assert b"500" not in seen, pieces
        assert heard == b"" or heard.startswith(b"HTTP/1.1 "), pieces
    assert {b"200", b"400", b"404", b"405"} <= seen
    answer = httpx.get(f"http://127.0.0.1:{target.port}/health", timeout=ANSWER_SECONDS, trust_env=False)
    assert answer.json()["ok"] is True and target.errors[before:] == []


def sent(target: Target, pieces: list[bytes], end: str, *, cut: bool) -> bytes:
    """Send, in one go or piece by piece, and hear what comes back: until the end, or for a moment of silence.

    The other side may hang up at any moment: a plain ``OSError`` (ENOTCONN) is what a shutdown says of that.
    """
    heard = b""
    connection = socket.create_connection(("127.0.0.1", target.port), timeout=ANSWER_SECONDS)
    with connection, contextlib.suppress(OSError):
        for data in pieces if cut else [b"".join(pieces)]:
            connection.sendall(data)
        if end == "leave":
            return b""
        if end == "half":
            connection.shutdown(socket.SHUT_WR)
        else:
            connection.settimeout(0.02)
        while more := connection.recv(65_536):
            heard += more
    return heard
