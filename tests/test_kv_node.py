"""A site's own clients, `@upstash/redis` and `@vercel/kv`, read what the daemon writes."""

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from daemon.kv import KV, EmbeddedKV, Owner, Write
from daemon.kv.rest import kv_routes
from daemon.kv.upstash import UpstashKV
from tests.support.http_server import served
from tests.support.node import run_script
from tests.support.upstash_server import UpstashServer

pytest_plugins = ["tests.support.kv_fixtures"]

ME = Owner(token=7, daemon_id="d-1", ledger_id="l-1", content_id="c-1", heartbeat=1_767_603_600.0)
PAGE = {"meta": {"title": "Überblick 한국어 👋", "password": None}, "blocks": [{"id": "1", "n": 1.5}]}
INDEX = {"items": [{"slug": "a/b"}], "syncedAt": "2026-01-05T09:00:00.000Z"}
PAGE_TEXT = json.dumps(PAGE, ensure_ascii=False)
CLIENTS = ["@upstash/redis", "@upstash/redis without base64", "@vercel/kv"]


async def fill(kv: KV) -> None:
    """Write what the script reads."""
    assert await kv.claim(ME, None)
    large = json.dumps({"text": "ü" * 1_000_000}, ensure_ascii=False)
    writes = [
        Write("page:a/b", PAGE_TEXT),
        Write("page:large", large),
        Write("posts:index", json.dumps(INDEX)),
    ]
    writes += [Write(f"page:{number}", "1") for number in range(5)]
    assert await kv.apply(writes, ME)


def assert_read(seen: dict[str, Any]) -> None:
    """What one client must have seen."""
    assert seen["ping"] == "PONG"
    assert seen["page"] == PAGE
    assert seen["large"] == 1_000_000
    assert seen["absent"] is None
    assert seen["several"] == [PAGE, None, INDEX]
    assert seen["exists"] == 2
    assert seen["length"] == len(PAGE_TEXT.encode())
    assert seen["ttl"] == [-1, -2]
    assert seen["atOnce"] == [INDEX, None, 1]
    assert seen["pipeline"] == [INDEX, 0]
    assert seen["transaction"] == [INDEX, -2]


async def test_npm_clients_read_the_embedded_store(tmp_path: Path) -> None:
    """Both packages read everything at `/kv`, one by one, in pipelines and transactions, and may write nothing."""
    kv = EmbeddedKV(tmp_path / "kv.db")
    await fill(kv)
    with served(Starlette(routes=kv_routes(kv, "reading-token"))) as address:
        seen = await run_script("read_kv.cjs", f"{address}/kv", "reading-token")
    for client in CLIENTS:
        assert_read(seen[client])
        assert seen[client]["scanned"] == [
            "page:0",
            "page:1",
            "page:2",
            "page:3",
            "page:4",
            "page:a/b",
            "page:large",
        ]
        assert "read-only" in seen[client]["write"]
        assert "read-only" in seen[client]["deletion"]
    assert "WRONGPASS" in seen["stranger"]
    assert await kv.get("page:a/b") == PAGE_TEXT
    await kv.close()


async def test_npm_clients_read_what_goes_through_upstash(upstash_server: UpstashServer) -> None:
    """Both packages read what was written through the Upstash protocol, exactly as they read the embedded store."""
    kv = UpstashKV(upstash_server.url, upstash_server.token)
    await fill(kv)
    seen = await run_script("read_kv.cjs", upstash_server.url, upstash_server.read_only_token)
    for client in CLIENTS:
        assert_read(seen[client])
        assert "NOPERM" in seen[client]["write"]
        assert "NOPERM" in seen[client]["scanned"]
    await kv.close()


async def test_missing_packages_are_skipped_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where packages are not installed, the reason says which and how to install them."""
    monkeypatch.setenv("NKS_NODE_MODULES", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match=r"@upstash/redis.*npm install|node is not on PATH"):
        await run_script("read_kv.cjs")
