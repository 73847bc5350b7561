"""Prints every figure beside its target, in one run: `python -m bench [--quick] [--json]`. Exit 1: one is missed."""

import asyncio
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import assets
from bench.assets import FileSizes
from bench.figure import Figure
from bench.load import Load, first_sync
from bench.ours import POLL_SECONDS, Ours, ours
from bench.remote import Remote, a_sandbox
from bench.replaced import first_and_second_run
from daemon import log
from daemon.metrics import FRESH_SECONDS, Metrics

Request = tuple[str, str, bool]
SETTLED_SECONDS = 75.0
BUDGET = 600


@dataclass(frozen=True)
class Sizes:
    """How large the measured sites are, in pages."""

    small: int
    large: int
    budgeted: int
    memory: int
    compared: Sequence[int]
    load: Load
    files: FileSizes


FULL = Sizes(100, 10_000, 1_500, 5_000, (100, 1_000), Load(1_000, 30.0, 600, BUDGET), FileSizes(500, 8, 50))
QUICK = Sizes(20, 60, 40, 60, (20,), Load(300, 3.0, 40, BUDGET), FileSizes(40, 2, 1))


async def quiet_and_edit(pages: int) -> list[Figure]:
    """A quiet poll, then one edit, at first sight and settled."""
    with a_sandbox(pages, 2, nested=True) as remote, tempfile.TemporaryDirectory() as folder:
        async with ours(remote.url, remote.site.sources, Path(folder), remote.clock) as daemon:
            await daemon.first_sync()
            remote.requests()
            remote.advance(POLL_SECONDS)
            quiet = await daemon.cycle(look=True)
            quiet_requests = len(remote.requests())
            wanted = len(remote.site.sources) + 1
            figures = [
                Figure(
                    f"quiet poll, {pages:,} pages",
                    f"{quiet_requests} requests, {quiet.kv_commands} store commands",
                    f"{wanted} requests, 0 commands",
                    quiet_requests == wanted and quiet.kv_commands == 0,
                )
            ]
            page, *containers = remote.site.nested
            remote.edit(page, "edited")
            remote.advance(POLL_SECONDS)
            first = await daemon.cycle(look=True)
            figures.append(_edited("first sight", remote, first.batches, wanted, [page, *containers], gets=0))
            remote.advance(SETTLED_SECONDS)
            settled = await daemon.cycle(look=True)
            figures.append(_edited("settled", remote, settled.batches, wanted, [page, *containers], gets=1))
            return [*figures, await _scraped(daemon, pages)]


async def _scraped(daemon: Ours, pages: int) -> Figure:
    """What a scrape of `/metrics` takes."""
    metrics, seconds = Metrics(daemon.app), []
    for _ in range(5):
        await daemon.clock.sleep_until(daemon.clock.monotonic() + FRESH_SECONDS)
        began = time.perf_counter()
        await metrics.text()
        seconds.append(time.perf_counter() - began)
    usual = median(seconds)
    return Figure(f"scrape of /metrics, {pages:,} pages", f"{1000 * usual:.1f} ms", "<= 50 ms", usual <= 0.05)


def _edited(
    when: str, remote: Remote, batches: int, polls: int, containers: Sequence[str], *, gets: int
) -> Figure:
    seen = Counter(
        method for method, path, _ in remote.requests() if not path.endswith(("/query", "/search"))
    )
    listings = len(containers) + 1  # the nested page shows one synced copy
    wanted = listings + gets
    allowed = 1 if when == "first sight" else 0
    return Figure(
        f"one page of {len(containers)} containers edited, {when}",
        f"{polls} + {seen.total()} requests, {batches} batches",
        f"{polls} + {wanted}, {allowed} batches",
        seen.total() == wanted and batches == allowed,
    )


async def first_sync_under_budget(pages: int, budget: int) -> list[Figure]:
    """Requests and time of a first sync when Notion allows so many a minute; waits are skipped and counted."""
    with a_sandbox(pages, 5, nested=True) as remote, tempfile.TemporaryDirectory() as folder:
        async with ours(remote.url, remote.site.sources, Path(folder), remote.clock, budget) as daemon:
            polling = round((len(remote.site.sources) + 1) * 60 / POLL_SECONDS)
            daemon.app.api.limiter.reserve = polling
            began = remote.clock.monotonic()
            await daemon.first_sync()
            seconds = remote.clock.monotonic() - began
            seen = remote.requests()
    bound = 60 * math.ceil(len(seen) / (budget - polling)) + 5
    return [
        Figure(
            f"first sync, {pages:,} pages, {budget} requests a minute",
            f"{len(seen)} requests, {seconds:.0f} s",
            f"<= {bound} s",
            seconds <= bound,
        ),
        _listed_twice(seen, remote.site.originals),
    ]


def _listed_twice(seen: Sequence[Request], originals: Sequence[str]) -> Figure:
    listed = Counter(path for _, path, goes_on in seen if path.endswith("/children") and not goes_on)
    twice = [path for path, count in listed.items() if count > 1 and path.split("/")[2] not in originals]
    return Figure("containers listed twice in it (synced copies aside)", str(len(twice)), "0", not twice)


def unlimited(pages: int) -> list[Figure]:
    """CPU a request and memory, of the daemon and of the bare client, each in a fresh process."""
    with a_sandbox(pages, 20, nested=False) as remote:
        mine = _alone("ours", remote)
        bare = _alone("bare", remote)
    cpu, bare_cpu = (1000 * side["cpu_seconds"] / side["requests"] for side in (mine, bare))
    held = mine["peak_mib"] - mine["imports_mib"]
    return [
        Figure(
            f"CPU a request, first sync, {pages:,} pages of 20 blocks",
            f"{cpu:.2f} ms (bare client {bare_cpu:.2f} ms, {cpu / bare_cpu:.2f} x)",
            "<= 3 x and <= 6 ms",
            cpu <= 3 * bare_cpu and cpu <= 6.0,
        ),
        Figure("memory beyond the imports, at most", f"{held:.0f} MiB", "<= 64 MiB", held <= 64),
        Figure("the same first sync, in all", f"{mine['requests']:.0f} requests, {mine['seconds']:.1f} s"),
        Figure(
            "the bare client reading the same", f"{bare['requests']:.0f} requests, {bare['seconds']:.1f} s"
        ),
    ]


def _alone(side: str, remote: Remote) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        where = json.dumps({"url": remote.url, "sources": remote.site.sources, "folder": folder})
        command = [sys.executable, "-m", "bench.worker", side, where]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    told: dict[str, float] = json.loads(done.stdout)
    return told


async def under_load(load: Load) -> list[Figure]:
    """A first sync alone, and one while somebody asks for the daemon's health all the time."""
    alone = await first_sync(load, pounded=False)
    beside = await first_sync(load, pounded=True)
    seen, slower = beside.pounding or {}, beside.sync_seconds / alone.sync_seconds - 1
    wanted = round(load.a_second * load.seconds)
    return [
        Figure(
            f"/health {load.a_second:,} times a second for {load.seconds:g} s during a first sync",
            f"{seen['sent']:,} sent, {seen['failed']} failed {' '.join(seen['failures'])}".strip(),
            f"{wanted:,} sent, 0 failed",
            (seen["sent"], seen["failed"]) == (wanted, 0),
        ),
        Figure(
            "latency of these against their schedule",
            f"p50 {seen['p50_ms']:.1f} ms, p99 {seen['p99_ms']:.1f} ms, max {seen['max_ms']:.0f} ms",
            "p99 < 50 ms",
            seen["p99_ms"] < 50,
        ),
        Figure(
            f"time of that sync, {load.pages:,} pages, {load.budget} requests a minute",
            f"{beside.sync_seconds:.1f} s, alone {alone.sync_seconds:.1f} s ({100 * slower:+.1f} %)",
            "<= 15 % slower",
            slower <= 0.15,
        ),
        Figure(
            "CPU of the daemon until that sync was done",
            f"{beside.cpu_seconds:.1f} s, alone {alone.cpu_seconds:.1f} s",
        ),
    ]


async def replaced(pages: int) -> list[Figure]:
    """What the algorithm that this replaces asks for the same site."""
    with a_sandbox(pages, 5, nested=True) as remote:
        first, quiet, edited = await first_and_second_run(remote)
    return [
        Figure(
            f"the replaced algorithm, {pages:,} pages",
            f"first run {first}, quiet run {quiet}, one edit {edited} requests",
        )
    ]


async def measure(sizes: Sizes) -> list[Figure]:
    """Every figure."""
    figures = await quiet_and_edit(sizes.small)
    quiet, *_, scrape = await quiet_and_edit(sizes.large)
    figures += [quiet, scrape]
    figures += await first_sync_under_budget(sizes.budgeted, BUDGET)
    figures += await asyncio.to_thread(unlimited, sizes.memory)
    figures += await under_load(sizes.load)
    for pages in sizes.compared:
        figures += await replaced(pages)
    return figures + await assets.measure(sizes.files)


def show(figures: Sequence[Figure]) -> None:
    """The figures as a table."""
    table = Table("figure", "measured", "target", "")
    for figure in figures:
        verdict = "" if figure.met is None else "[green]met[/]" if figure.met else "[red]missed[/]"
        table.add_row(figure.name, figure.value, figure.target, verdict)
    Console(width=150).print(table)


def main(words: Sequence[str]) -> int:
    """Measure and print; the exit code."""
    log.setup_logging("warning", "auto", stream=sys.stderr)
    figures = asyncio.run(measure(QUICK if "--quick" in words else FULL))
    if "--json" in words:
        plain: list[dict[str, Any]] = [figure.__dict__ for figure in figures]
        print(json.dumps(plain, indent=1))
    else:
        show(figures)
    return 0 if all(figure.met is not False for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
