"""The store of one life: a Redis that keeps its data through outages, or the embedded file; read from outside."""

import asyncio
import contextlib
import json
import random
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from tests.support.redis_server import RedisServer, free_port, running_redis


class Store(Protocol):
    """`settings` point a daemon at it; `accident` lets something happen to it and says what."""

    settings: dict[str, str]

    def entries(self) -> dict[str, Any]:
        """Every key of the site, parsed."""

    async def accident(self, rng: random.Random) -> str: ...

    async def close(self) -> None: ...


class EmbeddedStore:
    """The file under the data folder of the daemon."""

    def __init__(self, folder: Path) -> None:
        self.settings = {"EMBEDDED_KV": "1"}
        self._file = folder / "data" / "kv.db"

    def entries(self) -> dict[str, Any]:
        return _site(dict(self._run("SELECT key, value FROM entries")))

    async def accident(self, rng: random.Random) -> str:
        """Somebody holds the file, or empties it."""
        if not self._file.exists():
            return ""
        if rng.random() < 0.3:
            self._run("DELETE FROM entries")
            return "store flushed"
        with contextlib.closing(sqlite3.connect(self._file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await asyncio.sleep(0.2)
            other.execute("ROLLBACK")
        return "store locked"

    async def close(self) -> None:
        pass

    def _run(self, statement: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self._file)) as connection, connection:
            return connection.execute(statement).fetchall()


class RedisStore:
    """A server of its own, whose every write is on the disk before it is answered."""

    def __init__(self, executable: str, folder: Path) -> None:
        self._executable = executable
        self._folder = folder / "redis"
        self._folder.mkdir()
        self._port = free_port()
        self._running = contextlib.ExitStack()
        self._server: RedisServer | None = None
        self.settings = {"REDIS_URL": f"redis://127.0.0.1:{self._port}/0"}

    async def start(self) -> None:
        """Start the server with what it held before."""
        options = ("--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "always")
        server = running_redis(self._executable, *options, port=self._port)
        self._server = await asyncio.to_thread(self._running.enter_context, server)

    async def close(self) -> None:
        await asyncio.to_thread(self._running.close)

    @property
    def _admin(self) -> Any:
        assert self._server is not None
        return self._server.admin

    def entries(self) -> dict[str, Any]:
        keys = sorted(self._admin.scan_iter("*", count=1000))
        values = self._admin.mget(keys) if keys else []
        return _site({key.decode(): value.decode() for key, value in zip(keys, values, strict=True) if value})

    async def accident(self, rng: random.Random) -> str:
        happening: Callable[[], Awaitable[str]] = rng.choice(
            [self._outage, self._pause, self._cut, self._flush]
        )
        return await happening()

    async def _outage(self) -> str:
        await self.close()
        await asyncio.sleep(0.3)
        await self.start()
        return "store was down"

    async def _pause(self) -> str:
        self._admin.client_pause(300)
        return "store paused"

    async def _cut(self) -> str:
        """What is on the way may be applied, and nobody hears of it."""
        self._admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        return "store cut all connections"

    async def _flush(self) -> str:
        self._admin.flushall()
        return "store flushed"


def _site(entries: dict[str, str]) -> dict[str, Any]:
    return {
        key: json.loads(text) for key, text in entries.items() if not key.startswith(("sync:", "redirect:"))
    }
