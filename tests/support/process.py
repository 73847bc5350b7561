"""The daemon as a process of its own, as a host runs it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

START_SECONDS = 30.0


@dataclass
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """What the process sees: the machine's own variables, and these settings."""
    passed = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    return {**passed, "PYTHONWARNINGS": "error", "PYTHONPATH": str(Path(__file__).parents[2]), **settings}


async def command(
    folder: Path,
    settings: Mapping[str, str],
    *words: str,
    timeout_seconds: float = 60.0,
    terminal: bytes | None = None,
) -> Result:
    """Run one command in a folder to its end; `terminal`: what somebody types, on a terminal."""
    typing, keyboard = os.openpty() if terminal is not None else (None, asyncio.subprocess.DEVNULL)
    if typing is not None:
        os.write(typing, terminal or b"")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "daemon",
        *words,
        cwd=folder,
        env=environment(settings),
        stdin=keyboard,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(timeout_seconds):
        out, err = await process.communicate()
    if typing is not None:
        os.close(typing)
        os.close(keyboard)
    return Result(process.returncode or 0, out.decode(), err.decode())


@dataclass
class Running:
    """A daemon that runs. `address`: where it serves."""

    process: asyncio.subprocess.Process
    address: str
    log: Path
    http: httpx.AsyncClient

    @property
    def cycles(self) -> int:
        """How many cycles its log tells of, and those of the ones before it on the same port."""
        return self.log.read_text().count('"action": "cycle"')

    async def get(self, path: str) -> httpx.Response:
        return await self.http.get(self.address + path)

    async def until(self, path: str, status: int = 200) -> httpx.Response:
        """Ask again and again until the answer has this status, for a bounded time."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                try:
                    response = await self.get(path)
                    if response.status_code == status:
                        return response
                except httpx.TransportError:
                    if self.process.returncode is not None:
                        raise AssertionError(self.log.read_text()) from None
                await asyncio.sleep(0.02)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; the exit code, within the ten seconds that hosts give."""
        self.process.send_signal(number)
        async with asyncio.timeout(10.0):
            return await self.process.wait()


@asynccontextmanager
async def running(folder: Path, settings: Mapping[str, str], port: int) -> AsyncIterator[Running]:
    """`run` as a process; killed at the end if it is still there."""
    log = folder / f"daemon-{port}.log"
    with log.open("ab") as sink:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "daemon",
            "run",
            cwd=folder,
            env=environment({**settings, "PORT": str(port), "HOST": "127.0.0.1"}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    async with httpx.AsyncClient(timeout=10.0) as http:
        try:
            yield Running(process, f"http://127.0.0.1:{port}", log, http)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
