"""A plain Redis and what can be wrong with it, on a real one wherever a real one can be made to do it."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.kv import (
    OWNER_KEY,
    KVError,
    KVQuotaExceeded,
    KVReadOnly,
    KVUnauthorized,
    KVUnavailable,
    KVValueTooLarge,
    Owner,
    Write,
)
from daemon.kv.base import error_of_message
from daemon.kv.glob import glob_escaped, glob_matcher
from daemon.kv.redis import RedisKV
from tests.support.redis_server import RedisServer

pytest_plugins = ["tests.support.kv_fixtures"]

ME = Owner(token=7, daemon_id="d-1", ledger_id="l-1", content_id="c-1", heartbeat=1_767_603_600.0)
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def kv(redis_server: RedisServer) -> AsyncIterator[RedisKV]:
    """A client that owns the store."""
    client = RedisKV(redis_server.url)
    assert await client.claim(ME, None)
    yield client
    await client.close()


@contextlib.asynccontextmanager
async def odd_server(answer: Answer, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that treats each connection as told; gives its port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class TestCredentials:
    """Users, passwords and what they may do."""

    @pytest.fixture(autouse=True)
    def users(self, redis_server: RedisServer) -> None:
        """A user with every right, one who may only read, and one who may run scripts that only read."""
        acl = redis_server.admin.execute_command
        acl("ACL", "SETUSER", "writer", "reset", "on", ">right", "~*", "+@all")
        acl("ACL", "SETUSER", "reader", "reset", "on", ">right", "~*", "+@read", "+ping")
        acl("ACL", "SETUSER", "scripter", "reset", "on", ">right", "~*", "+@read", "+ping", "+eval")

    async def test_right_password(self, redis_server: RedisServer) -> None:
        """User and password in the address work."""
        kv = RedisKV(f"redis://writer:right@127.0.0.1:{redis_server.port}/0")
        await kv.ping()
        assert await kv.claim(ME, None)
        await kv.close()

    @pytest.mark.parametrize("login", ["writer:wrong-secret", "nobody:wrong-secret", ":wrong-secret"])
    async def test_wrong_password(self, redis_server: RedisServer, login: str) -> None:
        """A wrong user or password fails the credentials check, and is not quoted."""
        redis_server.admin.config_set("requirepass", "right")
        try:
            kv = RedisKV(f"redis://{login}@127.0.0.1:{redis_server.port}")
            with pytest.raises(KVUnauthorized, match="KV_URL") as caught:
                await kv.ping()
            assert "wrong-secret" not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r} {kv!r}"
            await kv.close()
        finally:
            redis_server.admin.config_set("requirepass", "")

    async def test_missing_password(self, redis_server: RedisServer) -> None:
        """No password where one is needed is a credentials error too."""
        redis_server.admin.config_set("requirepass", "right")
        try:
            kv = RedisKV(redis_server.url)
            with pytest.raises(KVUnauthorized):
                await kv.ping()
            await kv.close()
        finally:
            redis_server.admin.config_set("requirepass", "")

    @pytest.mark.parametrize("user", ["reader", "scripter"])
    async def test_reader(self, redis_server: RedisServer, user: str) -> None:
        """A user who may only read is told so at the first write, and nothing is written."""
        kv = RedisKV(f"redis://{user}:right@127.0.0.1:{redis_server.port}")
        await kv.ping()
        assert await kv.get("page:a") is None
        with pytest.raises(KVReadOnly):
            await kv.check_writable()
        with pytest.raises(KVReadOnly):
            await kv.claim(ME, None)
        redis_server.admin.set(OWNER_KEY, ME.to_json())
        with pytest.raises(KVReadOnly):
            await kv.apply([Write("page:a", "1")], ME)
        assert redis_server.admin.keys() == [OWNER_KEY.encode()]
        await kv.close()


class TestStates:
    """A server that answers, but not with what is wanted."""

    async def test_full(self, kv: RedisKV, redis_server: RedisServer) -> None:
        """A server without memory refuses a batch whole, and still takes deletions."""
        assert await kv.apply([Write("page:old", "1")], ME)
        redis_server.admin.config_set("maxmemory", "1")
        with pytest.raises(KVQuotaExceeded):
            await kv.check_writable()
        with pytest.raises(KVQuotaExceeded) as caught:
            await kv.apply([Write("page:a", "1"), Write("page:b", "1"), Write("page:old", None)], ME)
        assert caught.value.retryable
        assert await kv.get_many(["page:a", "page:b", "page:old"]) == [None, None, "1"]
        assert await kv.apply([Write("page:old", None)], ME)
        assert await kv.get("page:old") is None

    async def test_value_above_the_limit(self, kv: RedisKV, redis_server: RedisServer) -> None:
        """A value above the server's limit fails as such, not as an outage; smaller ones go on."""
        redis_server.admin.config_set("proto-max-bulk-len", "1mb")
        try:
            for size in (1_100_000, 20_000_000):
                with pytest.raises(KVValueTooLarge):
                    await kv.apply([Write("page:big", "x" * size)], ME)
                assert await kv.apply([Write("page:a", "x" * 1_000_000)], ME)
            assert await kv.get("page:big") is None
        finally:
            redis_server.admin.config_set("proto-max-bulk-len", "512mb")

    async def test_replica(self, kv: RedisKV, redis_server: RedisServer) -> None:
        """A replica does not take writes and says so."""
        redis_server.admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        try:
            with pytest.raises(KVReadOnly, match="primary"):
                await kv.check_writable()
            with pytest.raises(KVReadOnly, match="primary"):
                await kv.apply([Write("page:a", "1")], ME)
        finally:
            redis_server.admin.execute_command("REPLICAOF", "NO", "ONE")

    async def test_keys_of_other_types(self, kv: RedisKV, redis_server: RedisServer) -> None:
        """A list or hash of somebody else's under our key is no text of ours, and is replaced or deleted."""
        for key in ("page:a", "page:b"):
            redis_server.admin.hset(key, "field", "1")
        assert await kv.get("page:a") is None
        assert await kv.digests(["page:a"]) == [None]
        assert await kv.apply([Write("page:a", '"ours"'), Write("page:b", None)], ME)
        assert await kv.get("page:a") == '"ours"'
        assert redis_server.admin.exists("page:b") == 0

    async def test_owner_of_another_type(self, redis_server: RedisServer) -> None:
        """Something else than a text under the owner's key is nobody's record."""
        redis_server.admin.rpush(OWNER_KEY, "1")
        kv = RedisKV(redis_server.url)
        assert await kv.read_owner() is None
        assert not await kv.apply([], ME)
        assert await kv.claim(ME, None)
        assert await kv.read_owner() == ME
        await kv.close()

    async def test_values_that_are_no_text(self, kv: RedisKV, redis_server: RedisServer) -> None:
        """Bytes that are no UTF-8 are read as a different text, and do not fail anything."""
        redis_server.admin.set("page:a", b"\xff\xfe")
        assert await kv.get("page:a") == "\ufffd\ufffd"
        assert len((await kv.digests(["page:a"]))[0] or "") == 40

    async def test_a_dropped_connection_is_replaced(self, redis_server: RedisServer) -> None:
        """A connection that the server closed while it was idle is noticed before it is used."""
        kv = RedisKV(f"{redis_server.url}?client_name=dropped")
        assert await kv.claim(ME, None)
        (client,) = [each for each in redis_server.admin.client_list() if each["name"] == "dropped"]
        redis_server.admin.client_kill_filter(_id=client["id"])
        await asyncio.sleep(0.02)
        assert await kv.apply([Write("page:a", "1")], ME)
        await kv.close()

    async def test_another_database(self, redis_server: RedisServer) -> None:
        """The database number in the address counts."""
        kv, other = RedisKV(redis_server.url), RedisKV(f"redis://127.0.0.1:{redis_server.port}/3")
        assert await kv.claim(ME, None)
        assert await other.read_owner() is None
        await kv.close()
        await other.close()

    async def test_a_late_answer_is_nobodys(self, kv: RedisKV, redis_server: RedisServer) -> None:
        """After a call that ran into its deadline the next one gets its own answer."""
        assert await kv.apply([Write("page:a", '"a"'), Write("page:b", '"b"')], ME)
        hasty = RedisKV(redis_server.url, timeout_seconds=0.1)
        await hasty.ping()
        now = "local function now() local t = redis.call('TIME') return t[1] * 1000000 + t[2] end"
        busy = f"{now} local start = now() while now() - start < 300000 do end"
        blocking = asyncio.create_task(asyncio.to_thread(redis_server.admin.eval, busy, 0))
        await asyncio.sleep(0.05)
        with pytest.raises(KVUnavailable, match="did not answer"):
            await hasty.get("page:a")
        await blocking
        assert await hasty.get("page:b") == '"b"'
        await hasty.close()


class TestConnections:
    """A server that cannot be talked to."""

    async def test_nobody_listens(self) -> None:
        """A refused connection is an unavailable store."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        kv = RedisKV(f"redis://user:secret@127.0.0.1:{port}")
        with pytest.raises(KVUnavailable, match="KV_URL") as caught:
            await kv.ping()
        assert "secret" not in str(caught.value)
        await kv.close()

    async def test_closed_at_once(self) -> None:
        """A server that closes each connection is tried once a call."""
        connections = 0

        async def close(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1

        async with odd_server(close) as port:
            kv = RedisKV(f"redis://127.0.0.1:{port}")
            with pytest.raises(KVUnavailable):
                await kv.ping()
            assert connections == 1
            await kv.close()

    async def test_a_large_value_in_an_outage(self) -> None:
        """When the server is really gone, a large value is not blamed for it."""

        async def close(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await reader.read(10)

        async with odd_server(close) as port:
            kv = RedisKV(f"redis://127.0.0.1:{port}")
            with pytest.raises(KVUnavailable):
                await kv.apply([Write("page:big", "x" * 2_000_000)], ME)
            await kv.close()

    async def test_silence(self) -> None:
        """A server that never answers is left at the deadline."""

        async def wait(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            while await reader.read(1000):
                pass

        async with odd_server(wait) as port:
            kv = RedisKV(f"redis://127.0.0.1:{port}", timeout_seconds=0.1)
            with pytest.raises(KVUnavailable, match=r"within 0\.1 s"):
                await kv.ping()
            await kv.close()

    @pytest.mark.parametrize(
        "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x46", b"+PONG"]
    )
    async def test_another_protocol(self, answer: bytes) -> None:
        """A server that speaks something else is an unusable one."""

        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(answer)
            await writer.drain()

        async with odd_server(speak) as port:
            kv = RedisKV(f"redis://127.0.0.1:{port}", timeout_seconds=1.0)
            with pytest.raises(KVUnavailable, match="KV_URL"):
                await kv.ping()
            await kv.close()

    async def test_tls_wanted_of_a_plain_server(self, redis_server: RedisServer) -> None:
        """rediss:// to a server without TLS is an error that names the address."""
        kv = RedisKV(f"rediss://127.0.0.1:{redis_server.port}", timeout_seconds=0.3)
        with pytest.raises(KVUnavailable, match="rediss://"):
            await kv.ping()
        await kv.close()

    async def test_tls(self, redis_server: RedisServer, tmp_path: Path) -> None:
        """rediss:// works over TLS; a self-signed certificate is refused unless the address allows it."""
        context = self_signed_context(tmp_path)

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", redis_server.port)
            answers = asyncio.create_task(pump(behind_reader, writer))
            await pump(reader, behind_writer)
            behind_writer.close()
            await answers

        async with odd_server(forward, context) as port:
            strict = RedisKV(f"rediss://127.0.0.1:{port}")
            with pytest.raises(KVUnavailable, match="ssl_cert_reqs"):
                await strict.ping()
            await strict.close()
            for options in ("ssl_cert_reqs=none", f"ssl_ca_certs={tmp_path / 'cert.pem'}"):
                kv = RedisKV(f"rediss://127.0.0.1:{port}?{options}")
                await kv.ping()
                await kv.close()

    @pytest.mark.parametrize(
        "url",
        ["", "localhost:6379", "https://example.com", "redis://:sec#ret@host:1", "redis://:secret@host:port"],
    )
    async def test_addresses_that_cannot_be_one(self, url: str) -> None:
        """What is no redis address is refused with the setting to look at, and passwords are not quoted."""
        with pytest.raises(KVError, match="KV_URL") as caught:
            await RedisKV(url, timeout_seconds=0.5).ping()
        assert "sec" not in f"{caught.value.cause} {caught.value.__cause__!r}"


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until there are no more."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


def self_signed_context(folder: Path) -> ssl.SSLContext:
    """A server's TLS with a certificate of its own making."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl on PATH to make a certificate with")
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([openssl, "req", "-x509", *made, *files, *subject], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("ERR Protocol error: invalid bulk length", KVValueTooLarge),
        ("ERR string exceeds maximum allowed size (proto-max-bulk-len)", KVValueTooLarge),
        ("OOM command not allowed when used memory > 'maxmemory'.", KVQuotaExceeded),
        ("ERR Error running script: @user_script:5: -OOM command not allowed", KVQuotaExceeded),
        ("READONLY You can't write against a read only replica.", KVReadOnly),
        ("ERR Error running script: @user_script: 9: -READONLY You can't write against", KVReadOnly),
        ("ERR The user executing the script can't run this command or subcommand", KVReadOnly),
        ("NOPERM this user has no permissions to run the 'eval' command", KVReadOnly),
        ("NOAUTH Authentication required.", KVUnauthorized),
        ("Unauthorized", KVUnauthorized),
        ("LOADING Redis is loading the dataset in memory", KVUnavailable),
        ("BUSY Redis is busy running a script.", KVUnavailable),
        ("MISCONF Redis is configured to save RDB snapshots, but it's unable to persist", KVUnavailable),
        ("CLUSTERDOWN The cluster is down", KVUnavailable),
        ("ERR max number of clients reached", KVUnavailable),
        ("ERR Too Many Requests", KVUnavailable),
        ("ERR unknown command 'EVAL'", KVError),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", KVError),
    ],
)
def test_messages(message: str, kind: type[KVError]) -> None:
    """What Redis says in words is told apart, inside a script's error too."""
    error = error_of_message(message)
    assert type(error) is kind
    assert message.rstrip(".") in error.cause


PATTERN_ALPHABET = "ab-[]^*?\\:"  # ASCII: in a range of others Redis depends on the machine's sign of char


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(PATTERN_ALPHABET, max_size=8), st.text(PATTERN_ALPHABET, min_size=1, max_size=5))
def test_patterns_match_as_in_redis(redis_server: RedisServer, pattern: str, key: str) -> None:
    """A pattern matches in the embedded store exactly what it matches in Redis."""
    redis_server.admin.flushall()
    redis_server.admin.set("!" + key, "1")
    found = bool(redis_server.admin.keys("[!]" + pattern))
    assert glob_matcher("[!]" + pattern)("!" + key) == found


@given(st.text())
def test_escaped_texts_match_themselves(text: str) -> None:
    """An escaped text matches that text and not a longer one."""
    matches = glob_matcher(glob_escaped(text))
    assert matches(text)
    assert not matches(text + "x")
