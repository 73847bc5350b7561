"""The server among hostile and broken clients, over raw sockets: nobody else waits for them, and nothing stays."""

import asyncio
import contextlib
import json
import os
import re
import resource
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from daemon.web import connection, room, server
from daemon.web.answers import json_answer
from daemon.web.room import Guest, Room, most_connections
from daemon.web.shortcut import Shortcut
from tests.support.process import running
from tests.support.redis_server import free_port
from tests.support.web import SECRET, Daemon, a_daemon, a_small_site

HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
HALF = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Half: "
LONG_SECONDS = 3600.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """A daemon that serves; its schedule does not run."""
    async with a_daemon(tmp_path, site=a_small_site) as it:
        yield it


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Room for five hundred clients in this very process, where a shell's limit leaves none."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2048 if hard == resource.RLIM_INFINITY else min(2048, hard)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (wanted if soft != resource.RLIM_INFINITY and soft < wanted else soft, hard)
    )
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@asynccontextmanager
async def connected(daemon: Daemon, count: int, data: bytes = b"") -> AsyncIterator[list[Streams]]:
    """So many connections, each of which has sent `data` and nothing else."""
    streams: list[Streams] = []
    try:
        for _ in range(count):
            streams.append(await asyncio.open_connection("127.0.0.1", port_of(daemon)))
            streams[-1][1].write(data)
        yield streams
    finally:
        for _, writer in streams:
            writer.transport.abort()
        await asyncio.sleep(0)


def port_of(daemon: Daemon) -> int:
    """Where it listens."""
    return int(daemon.url.rsplit(":", 1)[1])


async def said(daemon: Daemon, data: bytes) -> bytes:
    """Everything the server answers to `data` until it closes the connection, or says nothing more."""
    async with connected(daemon, 1, data) as [(reader, _)]:
        heard = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(30.0):
                while more := await reader.read(65_536):
                    heard += more
                    if is_whole(heard):
                        break
        return heard


def is_whole(heard: bytes) -> bool:
    """Whether this is one answer to its end."""
    head, found, body = heard.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head)
    return bool(found) and length is not None and len(body) >= int(length[1])


def parsed(heard: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers and JSON of an answer."""
    head, _, body = heard.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    body = body[: int(headers["content-length"])]
    return int(first.split()[1]), headers, json.loads(body) if body else None


def sockets() -> int:
    """How many sockets this process has open."""
    found = 0
    for entry in os.listdir("/proc/self/fd"):  # noqa: PTH208 - a listing of this folder changes while it is iterated
        with contextlib.suppress(OSError):
            found += Path(f"/proc/self/fd/{entry}").readlink().name.startswith("socket:")
    return found


# Connections ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("many_descriptors")
async def test_five_hundred_sockets_that_do_nothing_hold_up_nobody(daemon: Daemon) -> None:
    """Idle, or stuck in the middle of a request: `/health` answers on a new connection, and a cycle goes on.

    Fails when connections at the limit are answered with 503, as uvicorn does by itself.
    """
    for data in (b"", HALF, b"POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"):
        async with connected(daemon, 500, data):
            status, _, body = parsed(await said(daemon, HEALTH))
            assert status == 200 and body["ok"] is True
            summary = await daemon.cycle()
            assert summary.problem is None
    assert daemon.app.cycle.site is not None and daemon.app.cycle.site.counts["published"] == 13


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc on this system")
async def test_whoever_waits_longest_leaves_for_one_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the limit the oldest idle connection is closed, the ones that were used since stay; no more are ever open.

    Fails when nobody leaves, and when a slow client stays by sending a byte now and then.
    """
    monkeypatch.setattr(room, "MOST_CONNECTIONS", 10)
    async with a_daemon(tmp_path) as daemon:
        await daemon.http.aclose()
        before = sockets()
        async with connected(daemon, 10, HALF) as first:
            reader, writer = first[0]
            writer.write(b"\r\n\r\n")
            assert parsed(await reader.readuntil(b"}"))[0] == 200
            first[1][1].write(b"x")
            async with connected(daemon, 5, HEALTH) as second:
                for reader, _ in second:
                    assert parsed(await reader.readuntil(b"}"))[0] == 200
                for reader, _ in first[1:6]:
                    with contextlib.suppress(ConnectionError):
                        assert await reader.read() == b""
                first[0][1].write(HEALTH)
                assert parsed(await first[0][0].readuntil(b"}"))[0] == 200
                assert sockets() - before == 15 + 10  # ours, and the server's


def test_connections_are_well_below_the_limit_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of what the process may open, five hundred at most. Fails when the limit is not looked at."""
    for limit, most in ((1024, 256), (256, 64), (20_000, 500), (resource.RLIM_INFINITY, 500), (16, 8)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        assert most_connections() == most


async def test_a_request_has_ten_seconds_in_all(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte at a time does not buy more time: not for the header, nor a body, nor a second request begun early.

    Fails when every byte that arrives begins the time anew.
    """
    monkeypatch.setattr(connection, "REQUEST_SECONDS", 0.3)
    starts = (b"GET /", b"POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n", HEALTH + b"GET /")
    for start in starts:
        async with connected(daemon, 1, start) as [(reader, writer)]:
            dripping = asyncio.create_task(drip(writer))
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(30.0):
                    await reader.read()
            dripping.cancel()


async def drip(writer: asyncio.StreamWriter) -> None:
    """A byte every twentieth of a second."""
    while True:
        writer.write(b"x")
        await asyncio.sleep(0.05)


async def test_an_idle_connection_ends_and_a_used_one_stays(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The idle time counts from the last answer, also from one that was not parsed.

    Fails when the timer of an earlier answer ends a connection that was used since, and when none ends it.
    """
    inside: list[connection.Connection] = []
    enter = Room.enter

    def entering(it: Room, guest: Guest) -> bool:
        assert isinstance(guest, connection.Connection)
        inside.append(guest)
        return enter(it, guest)

    monkeypatch.setattr(Room, "enter", entering)
    loop, long_ago = asyncio.get_running_loop(), -connection.IDLE_SECONDS - 1.0
    async with connected(daemon, 1, HEALTH) as [(reader, writer)]:
        assert parsed(await reader.readuntil(b"}"))[0] == 200
        (mine,) = inside
        mine._last_used = loop.time() + long_ago
        writer.write(HEALTH)
        assert parsed(await reader.readuntil(b"}"))[0] == 200
        mine.timeout_keep_alive_handler()
        timer = mine.timeout_keep_alive_task
        assert timer is not None and not mine.transport.is_closing()
        assert 0.0 < timer.when() - loop.time() <= connection.IDLE_SECONDS
        mine._last_used = loop.time() + long_ago
        mine.timeout_keep_alive_handler()
        assert await reader.read() == b""


async def test_an_answer_that_nobody_reads_ends(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks on and on and never reads is cut off, and leaves for others meanwhile.

    Fails when the server waits until the client reads.
    """
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(connection, "IDLE_SECONDS", LONG_SECONDS)
    async with connected(daemon, 1) as [(reader, writer)]:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        page = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        async with asyncio.timeout(60.0):
            while not writer.transport.is_closing():
                writer.write(page * 50)
                with contextlib.suppress(ConnectionError, TimeoutError):
                    async with asyncio.timeout(0.2):
                        await writer.drain()
                writer.transport.get_write_buffer_size()
        assert reader.at_eof() or reader.exception() is not None


async def test_a_refused_body_is_not_received_for_ever(daemon: Daemon) -> None:
    """413 at once where the length is told, at a megabyte where it is not; what is sent on is cut off.

    Fails when the rest of a refused body is read to its end, and when only declared lengths are bounded.
    """
    told = b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
    status, _, error = parsed(await said(daemon, told))
    assert (status, error["error"]) == (413, "too_large")
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    async with connected(daemon, 1, told) as [(_, writer)]:
        sent = 0
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(30.0):
                while not writer.is_closing():
                    writer.write(chunk)
                    await writer.drain()
                    sent += len(chunk)
        assert sent < 16_000_000
    in_chunks = (
        b"POST /kv HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    token = (Path(daemon.app.settings.data_dir) / "kv-token").read_bytes().strip()
    status, _, _ = parsed(await said(daemon, in_chunks % token + chunk * 20))
    assert status == 413


# Odd requests --------------------------------------------------------------------------------------------------------

ODD = {
    b"GET /health HTTP/1.0\r\n\r\n": 200,
    b"GET http://other.example/health HTTP/1.1\r\nHost: x\r\n\r\n": 404,
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n": 404,
    b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n": 404,
    b"TRACE /health HTTP/1.1\r\nHost: x\r\n\r\n": 405,
    b"BREW /health HTTP/1.1\r\nHost: x\r\n\r\n": 405,
    b"GET //health HTTP/1.1\r\nHost: x\r\n\r\n": 404,
    b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n": 404,
    b"GET /%00%ff%fe?secret=%00%ff&%ff HTTP/1.1\r\nHost: x\r\n\r\n": 404,
    b"GET /status?secret=%ff%00 HTTP/1.1\r\nHost: x\r\n\r\n": 401,
    b"GET /status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n": 401,
    b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n": 200,
    b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n": 200,
    b"GET /health HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n": 200,
    b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n": 200,
    b"HEAD /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n": 200,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": 404,
    b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n": 200,
    # what is no HTTP at all
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 TLS\r\n\r\n": 400,
    b"GET /health\r\n\r\n": 400,
    b"GET /health HTTP/1.1\r\n\r\n": 400,
    b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n": 400,
    b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n": 400,
    b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n": 400,
    b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n": 400,
    b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 40_000: 400,
    b"POST /kv HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx": 400,
    b"POST /kv HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n": 400,
    b"POST /kv HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n": 400,
    b"POST /kv HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n": 400,
}


async def test_an_odd_request_is_answered_in_the_usual_form(daemon: Daemon) -> None:
    """No 500, nothing stuck, errors as JSON with the usual headers, and the server is there for the next one.

    Fails when uvicorn's own plain text goes out for what it cannot parse.
    """
    for data, expected in ODD.items():
        status, headers, body = parsed(await said(daemon, data))
        assert status == expected, data
        assert headers["content-type"] == "application/json", data
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers
        if status >= 400 and body is not None:
            assert body["ok"] is False and body["error"] and body["message"].endswith(".")
        assert parsed(await said(daemon, HEALTH))[0] == 200


async def test_head_is_get_without_a_body(daemon: Daemon) -> None:
    """The same status and headers, nothing after them; other methods are refused by name.

    Fails when only GET is known.
    """
    await daemon.settle()
    for path in ("/health", "/ready", "/status", "/metrics", "/"):
        got, head = await daemon.http.get(path), await daemon.http.head(path)
        assert head.status_code == got.status_code and head.content == b""
        assert head.headers.keys() == got.headers.keys()
        refused = await daemon.http.delete(path)
        assert refused.status_code == 405 and refused.json()["error"] == "method_not_allowed"
        assert set(refused.headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_requests_in_a_row_are_answered_in_their_order(daemon: Daemon) -> None:
    """Sent at once over one connection, the ones that are known by heart among them, the last one in two parts.

    Fails when a request that is known by heart overtakes one that is being answered.
    """
    missing = b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
    async with connected(daemon, 1, HEALTH) as [(reader, writer)]:
        await reader.readuntil(b"}")
        writer.write(missing + HEALTH + missing + HEALTH[:9])
        heard = await reader.readuntil(b"}")
        writer.write(HEALTH[9:])
        while heard.count(b"HTTP/1.1 ") < 4 or not heard.endswith(b"}"):
            heard += await reader.read(65_536)
        writer.write(HEALTH)
        writer.write(missing)
        heard += await reader.readuntil(b"}") + await reader.readuntil(b"}")
        statuses = [line.split()[1] for line in re.findall(rb"HTTP/1.1 \d+", heard)]
        assert statuses == [b"404", b"200", b"404", b"200", b"200", b"404"]


@dataclass
class Slow:
    """Two more addresses: `/slow` answers when `may_answer` is set, `/length` tells how long a body was."""

    asked: int = 0
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def routes(self, _parts: object) -> list[BaseRoute]:
        return [Route("/slow", self._slow), Route("/length", self._length, methods=["POST"])]

    async def until_asked(self, times: int = 1) -> None:
        async with asyncio.timeout(30.0):
            while self.asked < times:
                await asyncio.sleep(0.005)

    async def _slow(self, _: Request) -> Response:
        self.asked += 1
        await self.may_answer.wait()
        return json_answer({"slow": True})

    async def _length(self, request: Request) -> Response:
        return json_answer({"length": len(await request.body())})


@pytest.fixture
async def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Daemon, Slow]]:
    """A daemon with these."""
    more = Slow()
    monkeypatch.setattr(server, "metrics_routes", more.routes)
    monkeypatch.setattr(room, "MOST_CONNECTIONS", 8)
    async with a_daemon(tmp_path, site=a_small_site) as it:
        yield it, more


async def test_health_does_not_overtake_on_one_connection(slow: tuple[Daemon, Slow]) -> None:
    """Asked behind a request that is still being answered, it is answered after it; on another one at once.

    Fails when a request that is known by heart is answered whatever went before.
    """
    daemon, more = slow
    async with connected(daemon, 1, HEALTH) as [(reader, writer)]:
        await reader.readuntil(b"}")
        writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await more.until_asked()
        writer.write(HEALTH)
        assert parsed(await said(daemon, HEALTH))[2]["ok"] is True
        more.may_answer.set()
        first, second = [parsed(await reader.readuntil(b"}"))[2] for _ in range(2)]
        assert first == {"slow": True} and second["ok"] is True


async def test_everybody_at_work_is_not_pushed_out(slow: tuple[Daemon, Slow]) -> None:
    """At the limit with nobody waiting the newcomer is turned away, and each that is being answered gets its answer.

    Fails when a connection counts as waiting while its request is being answered.
    """
    daemon, more = slow
    asked = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
    async with connected(daemon, most_connections(), asked) as at_work:
        await more.until_asked(len(at_work))
        assert await said(daemon, asked) == b""
        more.may_answer.set()
        for reader, _ in at_work:
            assert parsed(await reader.readuntil(b"}"))[2] == {"slow": True}


async def test_a_body_ends_at_a_megabyte(slow: tuple[Daemon, Slow]) -> None:
    """In chunks, without a length told: a million bytes are taken, one more is 413. Fails without the count."""
    daemon, _ = slow

    async def body(size: int) -> AsyncIterator[bytes]:
        for start in range(0, size, 50_000):
            yield b"x" * min(50_000, size - start)

    taken = await daemon.http.post("/length", content=body(1_000_000))
    assert (taken.status_code, taken.json()) == (200, {"length": 1_000_000})
    refused = await daemon.http.post("/length", content=body(1_000_001))
    assert (refused.status_code, refused.json()["error"]) == (413, "too_large")


async def test_nonsense_after_an_answer_has_begun_ends_the_connection(
    daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    """A body that turns into junk after its request was refused: cut off, and no error of ours in the log.

    Fails when a second answer is attempted (uvicorn's own way).
    """
    data = b"POST /status HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with connected(daemon, 1, data) as [(reader, writer)]:
        assert parsed(await reader.readuntil(b"}"))[0] == 405
        writer.write(b"this is no chunk\r\n")
        async with asyncio.timeout(30.0):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


# Health by heart -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", "?live=1"])
async def test_an_answer_by_heart_is_the_same(daemon: Daemon, query: str) -> None:
    """Status, headers and body as the application gives them, now and after something changed.

    Fails when a header is missing, when an old answer is given again, and when `live` is forgotten.
    """
    request = HEALTH.replace(b"/health", b"/health" + query.encode())
    async with connected(daemon, 1) as [(reader, writer)]:
        for state in ("running", "stopped", "held"):
            if state == "stopped":
                daemon.app.vitals.stopped("the token was revoked")
            elif state == "held":
                daemon.app.vitals.stop_reason, daemon.app.vitals.held = None, 3
            answers = []
            for data in (request.replace(b"Host", b"Cookie: a=b\r\nHost"), request, request):
                writer.write(data)
                answers.append(parsed(await reader.readuntil(b"}")))
            for _, headers, _ in answers:
                headers.pop("date")
            assert answers[0] == answers[1] == answers[2]
            assert answers[0][0] == (503 if state == "stopped" and not query else 200)


NOT_LEARNED = (
    HEALTH.replace(b"1.1", b"1.0"),
    HEALTH.replace(b"Host", b"Connection: close\r\nHost"),
    HEALTH.replace(b"/health", b"/health?secret=%s" % SECRET.encode()),
    HEALTH.replace(b"GET", b"POST"),
    HEALTH.replace(b"Host", b"Authorization: Bearer x\r\nHost"),
    HEALTH.replace(b"Host", b"Content-Length: 5\r\nHost") + b"hell",
    HEALTH.replace(b"/health", b"/nothing"),
    HEALTH + HEALTH,
)


async def test_only_plain_requests_for_health_are_learned(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What closes the connection, carries a secret or half a body, or is more than one request is always parsed.

    Fails when anything that leads to `/health` is learned.
    """
    by_heart: list[bytes] = []
    plain = Shortcut.answer

    def answer(shortcut: Shortcut, data: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
        found = plain(shortcut, data, headers)
        by_heart.extend([] if found is None else [data])
        return found

    monkeypatch.setattr(Shortcut, "answer", answer)
    for data in NOT_LEARNED:
        for _ in range(3):
            assert await said(daemon, data)
    assert by_heart == []
    for _ in range(3):
        await said(daemon, HEALTH)
    assert by_heart == [HEALTH] * 2


# Secrets -------------------------------------------------------------------------------------------------------------


async def test_no_secret_reaches_the_log_of_a_daemon(tmp_path: Path) -> None:
    """At the most talkative level, in every place and form in which a client may send one.

    Fails when a line about each request is written without redaction."""
    settings = {
        "NOTION_TOKEN": "ntn_sandbox",
        "NOTION_BASE_URL": "http://127.0.0.1:9",
        "NOTION_PAGES_DB": "0123456789abcdef0123456789abcdef",
        "EMBEDDED_KV": "1",
        "CRON_SECRET": SECRET,
        "LOG_LEVEL": "debug",
    }
    async with running(tmp_path, settings, free_port()) as daemon:
        await daemon.until("/health?live=1")
        encoded = "".join(f"%{ord(character):02x}" for character in SECRET)
        for path in ("/", "/status", "/nothing", "/%73", "/kv/get/x"):
            for query in (f"secret={SECRET}", f"%73ecret={encoded}", f"next=%2F%3Fsecret%3D{encoded}"):
                await daemon.get(f"{path}?{query}")
        headers = {"authorization": f"Bearer {SECRET}", "x-sync-secret": SECRET}
        assert (await daemon.http.get(daemon.address + "/status", headers=headers)).status_code == 200
        host, port = daemon.address.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /?secret={SECRET} HTTP/1.1\r\nbroken {SECRET}\r\n\r\n".encode())
        await writer.drain()
        await daemon.until("/status")
        writer.close()
    text = daemon.log.read_text()
    assert '"action": "started"' in text and "Invalid HTTP" not in text
    for form in (SECRET, encoded, SECRET[:12]):
        assert form not in text
