"""The embedded store at `/kv`: the same answers as the real protocol gives for reading, refusals for the rest."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from starlette.applications import Starlette

from daemon.kv import EmbeddedKV, KVReadOnly, KVUnauthorized, Owner, Write
from daemon.kv.rest import MAX_BODY_BYTES, kv_app, kv_routes
from daemon.kv.upstash import UpstashKV
from tests.support.http_server import served
from tests.support.redis_server import RedisServer
from tests.support.upstash_server import UpstashServer

pytest_plugins = ["tests.support.kv_fixtures"]

ME = Owner(token=7, daemon_id="d-1", ledger_id="l-1", content_id="c-1", heartbeat=1_767_603_600.0)
TOKEN = "a-token-for-reading"
CONTENT = {
    "page:a": '{"title":"Überblick 👋"}',
    "page:a/b": '"\u2028 \\ud800"',
    "page:ok": "OK",
    "page:empty": "",
    "page:[x]": "1",
    "posts:index": '{"items":[]}',
}


@pytest.fixture
async def kv(tmp_path: Path) -> AsyncIterator[EmbeddedKV]:
    """A store with content."""
    store = EmbeddedKV(tmp_path / "kv.db")
    assert await store.claim(ME, None)
    assert await store.apply([Write(key, text) for key, text in CONTENT.items()], ME)
    yield store
    await store.close()


@pytest.fixture
async def client(kv: EmbeddedKV) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who reads it at `/kv`, with the token."""
    app = Starlette(routes=kv_routes(kv, TOKEN))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://site", headers=headers) as reader:
        yield reader


async def ask(client: httpx.AsyncClient, body: Any, path: str = "/kv", **headers: str) -> tuple[int, Any]:
    """Status and answer to a JSON body."""
    response = await client.post(path, content=json.dumps(body), headers=headers)
    return response.status_code, response.json()


COMMANDS: list[list[Any]] = [
    ["GET", "page:a"],
    ["get", "page:a/b"],
    ["Get", "page:none"],
    ["GET", "page:ok"],
    ["GET", "page:empty"],
    ["GET"],
    ["GET", "page:a", "page:b"],
    ["MGET", "page:a", "page:none", "page:ok", "page:a"],
    ["MGET"],
    ["EXISTS", "page:a"],
    ["EXISTS", "page:a", "page:a", "page:none", "posts:index"],
    ["EXISTS", "page:none"],
    ["STRLEN", "page:a"],
    ["STRLEN", "page:none"],
    ["TTL", "page:a"],
    ["TTL", "page:none"],
    ["PING"],
    ["PING", "höre ich"],
    ["PING", 1],
    ["SCAN", 0, "MATCH", "page:\\[*", "COUNT", 1000],
    ["scan", "0", "count", "1000", "match", "none*"],
    ["SCAN", "x"],
    ["SCAN", 0, "COUNT"],
    ["SCAN", 0, "COUNT", 0],
]


class TestLikeTheRealOne:
    """Each answer is held against that of the protocol server over a real Redis with the same content."""

    @pytest.fixture
    async def real(
        self, upstash_server: UpstashServer, redis_server: RedisServer
    ) -> AsyncIterator[httpx.AsyncClient]:
        """The protocol over Redis."""
        redis_server.admin.mset(CONTENT)
        headers = {"Authorization": f"Bearer {upstash_server.token}"}
        async with httpx.AsyncClient(base_url=upstash_server.url, headers=headers) as reader:
            yield reader

    @pytest.mark.parametrize("encoding", ["", "base64"])
    @pytest.mark.parametrize("command", COMMANDS, ids=json.dumps)
    async def test_commands(
        self, client: httpx.AsyncClient, real: httpx.AsyncClient, command: list[Any], encoding: str
    ) -> None:
        """A command has the same status and answer, in both encodings."""
        headers = {"Upstash-Encoding": encoding}
        ours = await ask(client, command, "/kv", **headers)
        theirs = await ask(real, command, "/", **headers)
        assert ours[0] == theirs[0]
        if ours[0] == 200:
            assert ours == theirs
        else:
            assert ours[1]["error"].startswith("ERR ")
            assert theirs[1]["error"].startswith("ERR ")

    @pytest.mark.parametrize("encoding", ["", "base64"])
    @pytest.mark.parametrize("path", ["/pipeline", "/multi-exec"])
    async def test_pipelines(
        self, client: httpx.AsyncClient, real: httpx.AsyncClient, path: str, encoding: str
    ) -> None:
        """A list of commands has the same list of answers, errors at their places in a pipeline."""
        commands = [command for command in COMMANDS if len(command) > 1 and command[:2] != ["GET", "page:a"]]
        commands = [command for command in commands if command[0].upper() != "SCAN"]
        if path == "/pipeline":
            commands.insert(3, ["GET"])
        headers = {"Upstash-Encoding": encoding}
        ours = await ask(client, commands, "/kv" + path, **headers)
        theirs = await ask(real, commands, path, **headers)
        assert ours == theirs


class TestReading:
    """What this service promises beyond that."""

    @pytest.mark.parametrize("key", CONTENT)
    @pytest.mark.parametrize("command", ["get", "GET"])
    async def test_command_in_the_path(self, client: httpx.AsyncClient, key: str, command: str) -> None:
        """A command can stand in the path, a key's slash written as %2F."""
        response = await client.get(f"/kv/{command}/{quote(key, safe='')}")
        assert response.json() == {"result": CONTENT[key]}
        assert response.headers["Cache-Control"] == "no-store"

    async def test_last_argument_in_the_body(self, client: httpx.AsyncClient) -> None:
        """With the command in the path, a body is its last argument."""
        response = await client.post("/kv/mget/page:ok", content="page:a/b")
        assert response.json() == {"result": ["OK", CONTENT["page:a/b"]]}

    @pytest.mark.parametrize("path", ["/kv", "/kv/"])
    async def test_no_redirect(self, client: httpx.AsyncClient, path: str) -> None:
        """Single commands are answered at the address itself, with and without a slash."""
        assert await ask(client, ["GET", "page:ok"], path) == (200, {"result": "OK"})

    async def test_scan_pages(self, kv: EmbeddedKV, client: httpx.AsyncClient) -> None:
        """A scan in small steps finds each key that was there throughout, though others come and go."""
        assert await kv.apply([Write(f"row:{number}", "1") for number in range(100)], ME)
        cursor, found, steps = "0", [], 0
        while steps == 0 or cursor != "0":
            _, answer = await ask(client, ["SCAN", cursor, "MATCH", "row:*", "COUNT", 7])
            cursor, keys = answer["result"]
            found += keys
            steps += 1
            assert await kv.apply([Write(f"row:{steps}", "2"), Write(f"new:{steps}", "1")], ME)
            assert await kv.apply([Write(f"new:{steps - 1}", None)], ME)
        assert sorted(found) == sorted(f"row:{number}" for number in range(100))
        assert steps > 14

    async def test_keys_as_stored(self, tmp_path: Path) -> None:
        """A configured prefix is part of the keys that a site reads, as with any other store."""
        kv = EmbeddedKV(tmp_path / "prefixed.db", prefix="blog:")
        assert await kv.claim(ME, None)
        assert await kv.apply([Write("page:a", "1")], ME)
        app = Starlette(routes=kv_routes(kv, TOKEN))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://site", headers=headers
        ) as client:
            assert await ask(client, ["MGET", "page:a", "blog:page:a"]) == (200, {"result": [None, "1"]})
        await kv.close()

    async def test_reading_is_not_counted_as_ours(self, kv: EmbeddedKV, client: httpx.AsyncClient) -> None:
        """What a site reads does not count among the daemon's commands."""
        before = kv.commands
        await ask(client, ["GET", "page:a"])
        assert kv.commands == before

    async def test_the_python_client(self, kv: EmbeddedKV) -> None:
        """The daemon's own Upstash client reads it over real HTTP, and learns that it may not write."""
        with served(Starlette(routes=kv_routes(kv, TOKEN))) as address:
            reader = UpstashKV(f"{address}/kv", TOKEN)
            await reader.ping()
            assert await reader.get_many(list(CONTENT)) == list(CONTENT.values())
            assert {key async for key in reader.scan("page:*")} == {
                key for key in CONTENT if key[:4] == "page"
            }
            assert await reader.read_owner() == ME
            with pytest.raises(KVReadOnly):
                await reader.apply([Write("page:a", "2")], ME)
            stranger = UpstashKV(f"{address}/kv", "another-token")
            with pytest.raises(KVUnauthorized):
                await stranger.ping()
            await stranger.close()
            await reader.close()
        assert await kv.get("page:a") == CONTENT["page:a"]


class TestRefusals:
    """What is not answered."""

    @pytest.mark.parametrize(
        "command",
        [
            ["SET", "page:a", "2"],
            ["DEL", "page:a"],
            ["EVAL", "return redis.call('DEL', KEYS[1])", 1, "page:a"],
            ["FLUSHALL"],
            ["MULTI"],
            ["HGET", "page:a", "f"],
            ["KEYS", "*"],
            ["", "page:a"],
            ["GETDEL", "page:a"],
        ],
        ids=json.dumps,
    )
    async def test_anything_else(self, kv: EmbeddedKV, client: httpx.AsyncClient, command: list[Any]) -> None:
        """A command that writes or is not served is refused as such, alone, in pipelines and in transactions."""
        status, answer = await ask(client, command)
        assert (status, list(answer)) == (400, ["error"])
        assert "read-only" in answer["error"]
        status, answers = await ask(client, [["GET", "page:ok"], command], "/kv/pipeline")
        assert (status, answers[0]) == (200, {"result": "OK"})
        assert "read-only" in answers[1]["error"]
        status, answer = await ask(client, [["GET", "page:ok"], command], "/kv/multi-exec")
        assert (status, list(answer)) == (400, ["error"])
        assert await kv.get_many(list(CONTENT)) == list(CONTENT.values())

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": ""},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer another"},
            {"Authorization": f"Bearer {TOKEN}x"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": "Bearer tökén"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("path", ["/kv", "/kv/pipeline", "/kv/get/page%3Aa", "/kv/no/such/thing"])
    async def test_without_the_token(self, kv: EmbeddedKV, headers: dict[str, str], path: str) -> None:
        """Without the token nothing is answered, on any path."""
        app = Starlette(routes=kv_routes(kv, TOKEN))
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://site") as client:
            response = await client.post(path, content='["GET","page:a"]', headers=encoded)
            assert response.status_code == 401
            assert list(response.json()) == ["error"]
            assert (await client.get(path, params={"_token": "another"})).status_code == 401

    async def test_token_in_the_address(self, kv: EmbeddedKV) -> None:
        """The token may stand in the address, as with the real service."""
        app = Starlette(routes=kv_routes(kv, TOKEN))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://site") as client:
            response = await client.get("/kv/get/page%3Aok", params={"_token": TOKEN})
            assert response.json() == {"result": "OK"}

    def test_an_empty_token_is_none(self, kv: EmbeddedKV) -> None:
        """The store is never served without a token."""
        with pytest.raises(ValueError, match="token"):
            kv_app(kv, "")

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"GET page:a",
            b"null",
            b"{}",
            b"[]",
            b'"GET"',
            b"[[]]",
            b"[null]",
            b'["GET",null]',
            b'["GET",true]',
            b'["GET",["page:a"]]',
            b'["GET","\\ud800"]',
            b'["GET","\xff"]',
            b"[" * 5000,
        ],
    )
    @pytest.mark.parametrize("path", ["/kv", "/kv/pipeline", "/kv/multi-exec"])
    async def test_bodies_that_are_no_command(
        self, client: httpx.AsyncClient, path: str, body: bytes
    ) -> None:
        """A body that is no command is a client's error."""
        response = await client.post(path, content=body)
        if path != "/kv" and body == b"[]":
            assert response.json() == []
        else:
            assert response.status_code == 400
            assert response.json()["error"].startswith(("ERR ", "NOPERM "))

    async def test_bodies_are_bounded(self, client: httpx.AsyncClient) -> None:
        """A body above 1 MB is refused, however it is sent."""
        body = b'["GET","' + b"x" * MAX_BODY_BYTES + b'"]'
        response = await client.post("/kv", content=body)
        assert (response.status_code, list(response.json())) == (413, ["error"])

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(30):
                yield b"x" * 50_000

        response = await client.post("/kv", content=parts())
        assert response.status_code == 413

    @pytest.mark.parametrize("path", ["/kv/get/%ff", "/kv/get/page:a/b", "/kv/set/page%3Aa/2", "/kv/get"])
    async def test_paths_that_are_no_command(self, client: httpx.AsyncClient, path: str) -> None:
        """A path that is no command is a client's error."""
        response = await client.get(path)
        assert (response.status_code, list(response.json())) == (400, ["error"])

    @pytest.mark.parametrize("path", ["/kv/get/page%3Aa", "/kv/"])
    async def test_other_methods(self, client: httpx.AsyncClient, path: str) -> None:
        """Other methods are refused in the protocol's form."""
        response = await client.delete(path)
        assert (response.status_code, response.json()) == (405, {"error": "ERR Method Not Allowed"})

    async def test_a_broken_store(self, tmp_path: Path) -> None:
        """When the file cannot be read the answer is an error in the protocol's form, not a crash."""
        path = tmp_path / "broken.db"
        path.write_text("not a database " * 100)
        kv = EmbeddedKV(path)
        app = Starlette(routes=kv_routes(kv, TOKEN))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://site", headers=headers
        ) as client:
            status, answer = await ask(client, ["GET", "page:a"])
        assert (status, list(answer)) == (503, ["error"])
        await kv.close()
