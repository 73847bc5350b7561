"""The Upstash client's failures: every refusal and accident of the service becomes the right error, once."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from daemon.kv import (
    KVError,
    KVQuotaExceeded,
    KVReadOnly,
    KVUnauthorized,
    KVUnavailable,
    KVValueTooLarge,
    Owner,
    Write,
)
from daemon.kv.upstash import UpstashKV, _retry_after_seconds
from tests.support.redis_server import RedisServer
from tests.support.upstash_server import QUOTA_MESSAGE, Fault, UpstashServer

pytest_plugins = ["tests.support.kv_fixtures"]

ME = Owner(token=7, daemon_id="d-1", ledger_id="l-1", content_id="c-1", heartbeat=1_767_603_600.0)
DATE = "Mon, 05 Jan 2026 09:00:00 GMT"
HALF_A_MINUTE_LATER = "Mon, 05 Jan 2026 09:00:30 GMT"


@pytest.fixture
async def kv(upstash_server: UpstashServer) -> AsyncIterator[UpstashKV]:
    """A client that owns the store."""
    client = UpstashKV(upstash_server.url, upstash_server.token)
    assert await client.claim(ME, None)
    upstash_server.requests.clear()
    yield client
    await client.close()


REFUSALS: list[tuple[str, Fault, type[KVError], float | None]] = [
    ("web page with 502", Fault.html(), KVUnavailable, None),
    ("web page with 200", Fault.html(200), KVUnavailable, None),
    ("empty object", Fault("status", 200, "{}"), KVUnavailable, None),
    ("bare list", Fault("status", 200, "[]"), KVUnavailable, None),
    ("bare text", Fault("status", 200, '"OK"'), KVUnavailable, None),
    ("empty body", Fault("status", 200, ""), KVUnavailable, None),
    ("unexpected result", Fault("status", 200, '{"result":"PONG"}'), KVUnavailable, None),
    ("error with 200", Fault.error("WRONGPASS invalid or missing auth token", 200), KVUnauthorized, None),
    ("401", Fault.error("WRONGPASS invalid or missing auth token", 401), KVUnauthorized, None),
    ("401 without a message", Fault("status", 401), KVUnauthorized, None),
    ("403 page", Fault.html(403), KVUnauthorized, None),
    ("404 page", Fault.html(404), KVError, None),
    ("redirect", Fault("status", 301, "", {"Location": "https://example.com"}), KVError, None),
    ("413 page", Fault.html(413), KVValueTooLarge, None),
    (
        "request size",
        Fault.error("ERR max request size exceeded. Limit: 1048576 bytes"),
        KVValueTooLarge,
        None,
    ),
    ("record size", Fault.error("ERR max single record size exceeded"), KVValueTooLarge, None),
    (
        "key size",
        Fault.error("ERR max key size exceeded. Limit: 32768 bytes, Actual: 1"),
        KVValueTooLarge,
        None,
    ),
    ("monthly limit", Fault.error(QUOTA_MESSAGE), KVQuotaExceeded, None),
    ("daily limit", Fault.error("ERR max daily request limit exceeded. Limit: 10000"), KVQuotaExceeded, None),
    ("capacity", Fault.error("ERR DB capacity quota exceeded"), KVQuotaExceeded, None),
    ("limit with 429", Fault.error(QUOTA_MESSAGE, 429, **{"Retry-After": "60"}), KVQuotaExceeded, 60.0),
    ("429", Fault("status", 429, "", {"Retry-After": "7"}), KVUnavailable, 7.0),
    ("429 with a fraction", Fault.error("ERR slow down", 429, **{"Retry-After": "0.5"}), KVUnavailable, 0.5),
    (
        "503 with a date",
        Fault("status", 503, "", {"Date": DATE, "Retry-After": HALF_A_MINUTE_LATER}),
        KVUnavailable,
        30.0,
    ),
    ("503 with a past date", Fault("status", 503, "", {"Retry-After": DATE}), KVUnavailable, 0.0),
    ("503 with nonsense", Fault("status", 503, "", {"Retry-After": "soon"}), KVUnavailable, None),
    ("503 for ever", Fault("status", 503, "", {"Retry-After": "1e300"}), KVUnavailable, 86_400.0),
    ("503 until infinity", Fault("status", 503, "", {"Retry-After": "inf"}), KVUnavailable, None),
    ("503 before now", Fault("status", 503, "", {"Retry-After": "-1"}), KVUnavailable, None),
    ("500 in the protocol's form", Fault.error("ERR internal error", 500), KVUnavailable, None),
    ("500 with a list", Fault("status", 500, "[1]"), KVUnavailable, None),
    ("connections", Fault.error("ERR max concurrent connections exceeded"), KVUnavailable, None),
    ("unknown error", Fault.error("ERR unknown command 'EVAL'"), KVError, None),
    ("reset", Fault("reset"), KVUnavailable, None),
    ("cut", Fault("cut"), KVUnavailable, None),
]


@pytest.mark.parametrize(
    ("fault", "kind", "retry_after_seconds"),
    [pytest.param(*case[1:], id=case[0]) for case in REFUSALS],
)
async def test_refusals(
    kv: UpstashKV,
    upstash_server: UpstashServer,
    fault: Fault,
    kind: type[KVError],
    retry_after_seconds: float | None,
) -> None:
    """Each refusal is its own kind of error, is met once, names no secret, and leaves the client usable."""
    upstash_server.fault = Fault(fault.kind, fault.status, fault.body, fault.headers)
    with pytest.raises(KVError) as caught:
        await kv.apply([Write("page:a", "1")], ME)
    assert type(caught.value) is kind
    assert caught.value.retry_after_seconds == retry_after_seconds
    assert caught.value.retryable == (kind in (KVUnavailable, KVQuotaExceeded))
    assert len(upstash_server.requests) == 1, "retries belong to who calls"
    assert upstash_server.token not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {kv!r}"
    assert caught.value.hint
    assert await kv.apply([Write("page:a", "2")], ME)
    assert await kv.get("page:a") == "2"


@pytest.mark.parametrize("call", ["ping", "get", "digests", "scan", "read_owner"])
async def test_every_call_maps_errors(kv: UpstashKV, upstash_server: UpstashServer, call: str) -> None:
    """Reading fails with the same errors as writing."""
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "ping": kv.ping,
        "get": lambda: kv.get("page:a"),
        "digests": lambda: kv.digests(["page:a"]),
        "scan": lambda: anext(aiter(kv.scan("*"))),
        "read_owner": kv.read_owner,
    }
    upstash_server.fault = Fault.html()
    with pytest.raises(KVUnavailable):
        await calls[call]()


@pytest.mark.parametrize(
    "result", ['{"a":1}', "[]", "[1]", "[null,null]", '"x"', "0", "null", '[["0",["a"]]]']
)
@pytest.mark.parametrize("call", ["get", "digests", "scan"])
async def test_unexpected_results(
    kv: UpstashKV, upstash_server: UpstashServer, call: str, result: str
) -> None:
    """A result of another shape than the command's is an unusable answer, never a wrong value."""
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "get": lambda: kv.get("page:a"),
        "digests": lambda: kv.digests(["page:a"]),
        "scan": lambda: anext(aiter(kv.scan("*"))),
    }
    upstash_server.fault = Fault("status", 200, f'{{"result":{result}}}')
    with pytest.raises(KVUnavailable):
        await calls[call]()


async def test_a_key_shown_twice_counts_once(kv: UpstashKV, upstash_server: UpstashServer) -> None:
    """A store may show a key twice in one scan; we do not."""
    upstash_server.fault = Fault("status", 200, '{"result":["0",["page:a","page:b","page:a"]]}')
    assert [key async for key in kv.scan("*")] == ["page:a", "page:b"]


async def test_a_hanging_service_is_left(upstash_server: UpstashServer) -> None:
    """A call ends at its deadline, and the next one is answered with its own answer."""
    kv = UpstashKV(upstash_server.url, upstash_server.token, timeout_seconds=0.1)
    upstash_server.fault = Fault("hang")
    started = time.monotonic()
    with pytest.raises(KVUnavailable, match=r"did not answer within 0\.1 s"):
        await kv.ping()
    assert time.monotonic() - started < 2
    await kv.ping()
    assert len(upstash_server.requests) == 2
    await kv.close()


async def test_a_call_can_be_cancelled(kv: UpstashKV, upstash_server: UpstashServer) -> None:
    """A cancelled call ends as cancelled, not as an error of the store."""
    upstash_server.fault = Fault("hang")
    call = asyncio.create_task(kv.ping())
    assert await asyncio.to_thread(upstash_server.hanging.wait, 5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await kv.ping()


@pytest.mark.parametrize("kind", ["reset", "cut"])
async def test_a_lost_answer_can_be_asked_again(
    kv: UpstashKV, upstash_server: UpstashServer, kind: str
) -> None:
    """A batch whose answer was lost was applied; sending it again changes nothing and succeeds."""
    upstash_server.fault = Fault(kind, after=True)
    writes = [Write("page:new", '"1"'), Write("page:old", None)]
    with pytest.raises(KVUnavailable):
        await kv.apply(writes, ME)
    assert await kv.get("page:new") == '"1"'
    assert await kv.apply(writes, ME)
    assert await kv.get_many(["page:new", "page:old"]) == ['"1"', None]


async def test_nobody_listens() -> None:
    """A refused connection is an unavailable store."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    kv = UpstashKV(f"http://127.0.0.1:{port}", "token")
    with pytest.raises(KVUnavailable, match="cannot be reached"):
        await kv.ping()
    await kv.close()


async def test_wrong_token(upstash_server: UpstashServer) -> None:
    """A token that the service does not know fails the credentials check and everything else."""
    kv = UpstashKV(upstash_server.url, "another-token")
    with pytest.raises(KVUnauthorized, match="KV_REST_API_TOKEN") as caught:
        await kv.ping()
    assert "another-token" not in str(caught.value)
    with pytest.raises(KVUnauthorized):
        await kv.claim(ME, None)
    await kv.close()


async def test_read_only_token(upstash_server: UpstashServer) -> None:
    """With the read-only token reading works, and a write says which token is needed."""
    kv = UpstashKV(upstash_server.url, upstash_server.read_only_token)
    await kv.ping()
    assert await kv.get("page:a") is None
    with pytest.raises(KVReadOnly, match="standard token"):
        await kv.check_writable()
    with pytest.raises(KVReadOnly, match="standard token"):
        await kv.claim(ME, None)
    await kv.close()


async def test_request_size_limit(kv: UpstashKV, upstash_server: UpstashServer) -> None:
    """A value above the service's limit fails by itself; a smaller one goes on."""
    upstash_server.max_request_bytes = 5000
    with pytest.raises(KVValueTooLarge):
        await kv.apply([Write("page:big", json.dumps("x" * 5000)), Write("page:a", "1")], ME)
    assert await kv.get_many(["page:big", "page:a"]) == [None, None]
    assert await kv.apply([Write("page:a", "1")], ME)


async def test_a_full_store(kv: UpstashKV, redis_server: RedisServer) -> None:
    """A store without memory refuses a batch whole, and still takes deletions."""
    assert await kv.apply([Write("page:old", "1")], ME)
    redis_server.admin.config_set("maxmemory", "1")
    with pytest.raises(KVQuotaExceeded):
        await kv.apply([Write("page:a", "1"), Write("page:old", None)], ME)
    assert await kv.get_many(["page:a", "page:old"]) == [None, "1"]
    assert await kv.apply([Write("page:old", None)], ME)
    assert await kv.get("page:old") is None


async def test_what_goes_over_the_wire(kv: UpstashKV, upstash_server: UpstashServer) -> None:
    """One request a batch; no telemetry, no base64; later reads name the write that they must have seen."""
    upstash_server.headers.clear()
    assert await kv.apply([Write("page:a", "1"), Write("page:b", None)], ME)
    assert await kv.get("page:a") == "1"
    assert [request[0] for request in upstash_server.requests] == ["EVAL", "MGET"]
    for headers in upstash_server.headers:
        assert not [name for name in headers if "telemetry" in name]
        assert "upstash-encoding" not in headers
    assert upstash_server.headers[1]["upstash-sync-token"] == "t1"


async def test_addresses_are_forgiven_a_slash(upstash_server: UpstashServer) -> None:
    """Slashes at the end of the address and blanks around address and token do no harm."""
    kv = UpstashKV(f" {upstash_server.url}// ", f" {upstash_server.token}\n")
    await kv.ping()
    await kv.close()


@pytest.mark.parametrize(
    "url", ["", "example.upstash.io", "redis://example.com:6379", "https://", "http:///x"]
)
def test_addresses_that_cannot_be_one(url: str) -> None:
    """What is no http(s) address is refused at once, with the setting to look at."""
    with pytest.raises(KVError, match="KV_REST_API_URL"):
        UpstashKV(url, "token")


@pytest.mark.parametrize("token", ["", " ", "two words", "tökén", "line\nbreak", "null\0"])
def test_tokens_that_cannot_be_one(token: str) -> None:
    """A token that could not be sent is refused at once, without being quoted."""
    with pytest.raises(KVUnauthorized) as caught:
        UpstashKV("https://example.com", token)
    assert not token.strip() or token not in str(caught.value)


def test_a_retry_after_beyond_all_calendars_says_nothing() -> None:
    """Fails when the overflow of the date's parser leaves the store's door as an error that nobody expects."""
    assert _retry_after_seconds(httpx.Headers({"Retry-After": f"1 Jan {'9' * 20} 00:00:00"})) is None
