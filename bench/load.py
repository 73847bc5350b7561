"""The daemon as a process of its own: a first sync, alone and while somebody asks for its health all the time."""

import asyncio
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.ours import environment
from bench.remote import a_sandbox

ROOT = str(Path(__file__).resolve().parent.parent)
LONGEST_SECONDS = 300.0
LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Load:
    """How many requests for `/health` a second, for how long, while so many pages are read under this budget."""

    a_second: int
    seconds: float
    pages: int
    budget: int


@dataclass(frozen=True)
class Loaded:
    """How long the sync took, and the daemon's own CPU time in it; `pounding`: what the clients saw, if there were."""

    sync_seconds: float
    cpu_seconds: float
    pounding: dict[str, Any] | None = None


async def first_sync(load: Load, *, pounded: bool) -> Loaded:
    """A first sync, from the moment at which the daemon serves until it is ready."""
    with a_sandbox(load.pages, 5, nested=True) as remote, tempfile.TemporaryDirectory() as folder:
        settings = environment(remote.url, remote.site.sources, Path(folder), load.budget)
        async with a_daemon(settings, Path(folder)) as (process, port):
            began = time.monotonic()
            pounding = asyncio.create_task(_pound(load, port)) if pounded else None
            await _until_ready(port)
            seconds, cpu = time.monotonic() - began, _cpu_seconds(process.pid)
            return Loaded(seconds, cpu, None if pounding is None else await pounding)


@asynccontextmanager
async def a_daemon(
    settings: Mapping[str, str], folder: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """`run` as a process, from when it serves; yields it and its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    passed = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "daemon", "run"),
        cwd=folder,
        env={**passed, "PYTHONPATH": ROOT, **settings, "PORT": str(port), "LOG_LEVEL": "warning"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await _until(port, "/health?live=1", 0.01)
        yield process, port
    finally:
        process.terminate()
        await process.wait()


async def _until_ready(port: int) -> None:
    await _until(port, "/ready", LOOK_SECONDS)


async def _until(port: int, path: str, pause_seconds: float) -> None:
    async with asyncio.timeout(LONGEST_SECONDS), httpx.AsyncClient(trust_env=False, timeout=60.0) as http:
        while True:
            try:
                if (await http.get(f"http://127.0.0.1:{port}{path}")).status_code == 200:
                    return
            except httpx.TransportError:
                pass  # it is not there yet
            await asyncio.sleep(pause_seconds)


async def _pound(load: Load, port: int) -> dict[str, Any]:
    """The clients, in a process of their own. Out: their report."""
    wanted = {"port": port, "path": "/health", "a_second": load.a_second, "seconds": load.seconds}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.pounding", json.dumps(wanted)), stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    report: dict[str, Any] = json.loads(told)
    return report


def _cpu_seconds(pid: int) -> float:
    """What a process has used so far, by Linux's account; elsewhere 0."""
    account = Path(f"/proc/{pid}/stat")
    if not account.exists():
        return 0.0
    user, system = account.read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
