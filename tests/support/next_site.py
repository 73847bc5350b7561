"""A small real Next.js site (`tests/next`), built and started as its owner would."""

import asyncio
import json
import os
import shutil
import signal
import socket
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

SITE = Path(__file__).resolve().parent.parent / "next"
ROUTE = SITE.parent.parent / "docs" / "revalidate" / "route.ts"
BUILD_SECONDS = 240.0
START_SECONDS = 60.0


def require_next() -> str:
    """Where node is. Skips the test where it, or a package of the site, is missing."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not on PATH")
    wanted = json.loads((SITE / "package.json").read_text())["dependencies"]
    missing = [name for name in wanted if not (SITE / "node_modules" / name / "package.json").exists()]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (npm install --no-package-lock in tests/next)")
    return node


@asynccontextmanager
async def a_next_site(settings: Mapping[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """Paste the route of the documentation, build the site, start it; gives a client of it."""
    node = require_next()
    route = SITE / "app" / "api" / "revalidate" / "route.ts"
    await asyncio.to_thread(_paste, route)
    environment = {**os.environ, "NEXT_TELEMETRY_DISABLED": "1", **settings}
    program = [node, str(SITE / "node_modules" / "next" / "dist" / "bin" / "next")]
    building = await asyncio.create_subprocess_exec(
        *program, "build", cwd=SITE, env=environment, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await asyncio.wait_for(building.communicate(), BUILD_SECONDS)
    assert building.returncode == 0, said.decode()
    port = _free_port()
    serving = await asyncio.create_subprocess_exec(
        *(*program, "start", "--hostname", "127.0.0.1", "--port", str(port)),
        cwd=SITE,
        env=environment,
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=DEVNULL,
        start_new_session=True,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30.0) as http:
            await _until_it_serves(http, serving)
            yield http
    finally:
        os.killpg(serving.pid, signal.SIGKILL)
        await serving.wait()


def _paste(route: Path) -> None:
    route.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ROUTE, route)


async def _until_it_serves(http: httpx.AsyncClient, serving: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            assert serving.returncode is None, "the site ended by itself"
            try:
                await http.get("/posts")
                return
            except httpx.TransportError:
                await asyncio.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
