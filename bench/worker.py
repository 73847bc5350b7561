"""One side alone in a fresh process, for its CPU time and its memory: `python -m bench.worker ours|files|bare`."""

import asyncio
import io
import json
import resource
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from bench.bare import read_everything
from bench.ours import environment
from daemon import log
from daemon.app import App
from daemon.config import load_settings


async def run_ours(url: str, sources: dict[str, str], folder: str) -> int:
    """The daemon as it runs, with its server and its schedule, until its first sync is done. Out: requests."""
    log.setup_logging("info", "json", stream=io.StringIO())
    app, stop = App(load_settings(environment(url, sources, Path(folder), 1_000_000))), asyncio.Event()
    app.schedule.on_cycle = lambda _: stop.set() if app.vitals.ready else None
    try:
        await app.open()
        await app.run(stop)
    finally:
        await app.close()
    return app.api.requests


async def run_files(url: str, sources: dict[str, str], folder: str) -> int:
    """The daemon as it runs, until every file is copied too. Out: requests."""
    log.setup_logging("info", "json", stream=io.StringIO())
    public = {"PUBLIC_URL": "https://sync.example.com"}
    settings = load_settings({**environment(url, sources, Path(folder), 1_000_000), **public})
    app, stop = App(settings), asyncio.Event()

    def is_over() -> bool:
        return app.vitals.ready and app.files.copier.is_idle

    app.schedule.on_cycle = lambda _: stop.set() if is_over() else None
    try:
        await app.open()
        await app.run(stop)
    finally:
        await app.close()
    return app.api.requests


async def run_bare(url: str, sources: dict[str, str], folder: str) -> int:
    """The same requests, and nothing else. Out: requests."""
    return await read_everything(url, sources.values())


def measure(run: Callable[..., Coroutine[Any, Any, int]], **where: Any) -> dict[str, float]:
    """CPU seconds, seconds, requests, and the most memory held beyond what the imports take (MiB)."""
    imports = memory_mib("VmHWM")
    used, began = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    requests: int = asyncio.run(run(**where))
    now = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "requests": requests,
        "seconds": time.monotonic() - began,
        "cpu_seconds": now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime,
        "imports_mib": imports,
        "peak_mib": memory_mib("VmHWM"),
    }


def memory_mib(name: str) -> float:
    """A line of this process's memory in Linux's own account, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


if __name__ == "__main__":
    sides = {"ours": run_ours, "files": run_files, "bare": run_bare}
    print(json.dumps(measure(sides[sys.argv[1]], **json.loads(sys.argv[2]))))
