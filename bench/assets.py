"""What copying the files of pages costs: time of a first sync, downloads of a second one, memory with large files.

Bandwidth is not the limit: the files come from the sandbox over loopback. Work takes the time that it takes; waits for
Notion's budget are counted and skipped, each from the moment on at which nothing is being copied meanwhile. So the time
is what a wall clock would have shown.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figure import Figure
from bench.ours import Ours, ours
from bench.remote import Remote, a_sandbox

BUDGET = 180
"""Requests a minute: what Notion allows on most plans."""
PUBLIC = {"PUBLIC_URL": "https://sync.example.com"}


@dataclass(frozen=True)
class FileSizes:
    """How much is measured: pages with three images each, and how many files of how many megabytes."""

    pages: int
    large_files: int
    megabytes: int


async def measure(sizes: FileSizes) -> list[Figure]:
    """Every figure about files."""
    plain, _ = await _first_sync(sizes.pages, images=0)
    with_images, downloads = await _first_sync(sizes.pages, images=3)
    wanted = 3 * sizes.pages
    allowed = 1.2 * plain
    memory = await asyncio.to_thread(_memory, sizes)
    return [
        Figure(
            f"first sync, {sizes.pages:,} pages with {wanted:,} images, {BUDGET} requests a minute",
            f"{with_images:.1f} s, without images {plain:.1f} s ({with_images / plain:.2f} x)",
            "<= 1.2 x",
            with_images <= allowed,
        ),
        Figure(
            "downloads in that first sync, and in the next, full one",
            f"{downloads[0]:,} and {downloads[1]:,}",
            f"{wanted:,} and 0",
            downloads == (wanted, 0),
        ),
        Figure(
            f"more memory while {sizes.large_files} files of {sizes.megabytes} MB are copied",
            f"{memory:.0f} MiB",
            "<= 60 MiB",
            memory <= 60,
        ),
    ]


async def _first_sync(pages: int, *, images: int) -> tuple[float, tuple[int, int]]:
    """Seconds until every page is published and every file copied; downloads in it, and in a forced sync after it."""
    with a_sandbox(pages, 5, nested=False, images=images) as remote, tempfile.TemporaryDirectory() as folder:
        where = (remote.url, remote.site.sources, Path(folder), remote.clock, BUDGET)
        async with ours(*where, more=PUBLIC) as daemon:
            remote.clock.is_work_going_on = lambda: not daemon.app.files.copier.is_idle
            began = remote.clock.monotonic()
            await _everything(daemon)
            seconds = remote.clock.monotonic() - began
            first = remote.downloads()
            remote.advance(7200.0)
            await daemon.app.cycle.begin_force()
            await _everything(daemon)
            return seconds, (first, remote.downloads() - first)


async def _everything(daemon: Ours) -> None:
    """Cycles until nothing is left to read, to copy and to write."""
    app = daemon.app
    while True:
        await daemon.first_sync()
        await app.files.copier.drain()
        if not (app.cycle.changed or app.cycle.waits_for_files) and await app.cycle.is_done():
            return


def _memory(sizes: FileSizes) -> float:
    """How much more memory is held at most than with the same pages without files, in MiB."""
    with a_sandbox(sizes.large_files, 5, nested=False) as remote:
        without = _alone(remote)
    large = sizes.megabytes * 1024 * 1024
    with a_sandbox(sizes.large_files, 5, nested=False, images=1, image_bytes=large) as remote:
        return _alone(remote) - without


def _alone(remote: Remote) -> float:
    with tempfile.TemporaryDirectory() as folder:
        where = json.dumps({"url": remote.url, "sources": remote.site.sources, "folder": folder})
        command = [sys.executable, "-m", "bench.worker", "files", where]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    told: dict[str, Any] = json.loads(done.stdout)
    return float(told["peak_mib"])
