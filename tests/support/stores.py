"""Every kind of store behind the same few words, for tests that must hold for all of them."""

import contextlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from daemon.kv import KV, EmbeddedKV
from daemon.kv.redis import RedisKV
from daemon.kv.upstash import UpstashKV
from tests.support.redis_server import RedisServer
from tests.support.upstash_server import UpstashServer


@dataclass
class Store:
    """One kind of store: how to open it (again), and how somebody else writes into it behind its back."""

    name: str
    _open: Callable[[str], KV]
    put: Callable[[str, str], None]  # the full key
    _opened: list[KV] = field(default_factory=list)

    def open(self, prefix: str = "") -> KV:
        """A new client of the same store."""
        self._opened.append(self._open(prefix))
        return self._opened[-1]

    async def close(self) -> None:
        """Close every client."""
        for kv in self._opened:
            await kv.close()


def redis_store(server: RedisServer) -> Store:
    """A plain Redis."""
    return Store("redis", lambda prefix: RedisKV(server.url, prefix), server.admin.set)


def upstash_store(server: UpstashServer, redis_server: RedisServer) -> Store:
    """The Upstash protocol."""
    return Store(
        "upstash", lambda prefix: UpstashKV(server.url, server.token, prefix), redis_server.admin.set
    )


def embedded_store(folder: Path) -> Store:
    """The file, which somebody else opens as another process would: with a connection of their own."""
    path = folder / "kv.db"

    def put(key: str, text: str) -> None:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "INSERT INTO entries (key, value) VALUES (?, ?)"
                " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (key, text),
            )

    return Store("embedded", lambda prefix: EmbeddedKV(path, prefix), put)
