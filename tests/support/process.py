"""The daemon as a process of its own, as a host runs it."""

import asyncio
import multiprocessing
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

import daemon
from daemon.cli import main

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


@dataclass(frozen=True)
class Files:
    """Where a process reads from and writes to."""

    out: Path
    err: Path
    typed: str = os.devnull

    def read(self) -> tuple[str, str]:
        """What it said on standard output, and on standard error."""
        return self.out.read_text(), self.err.read_text()


class Process:
    """A daemon's process, forked from a server that has imported everything: importing is most of what a start costs.

    `returncode` is None until it has ended, negative when a signal ended it.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str], words: Sequence[str], said: Files) -> None:
        servers = multiprocessing.get_context("forkserver")
        servers.set_forkserver_preload([__name__])
        self._process = servers.Process(target=_main, args=(folder, environment(settings), words, said))
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    async def wait(self) -> int:
        """Its exit code, when it has ended."""
        while self.returncode is None:
            await asyncio.sleep(0.01)
        return self.returncode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        if self.returncode is None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        self._process.kill()


def _main(folder: Path, environment: Mapping[str, str], words: Sequence[str], said: Files) -> None:
    """What the process does: `python -m daemon WORDS` in this folder, without the imports."""
    os.dup2(os.open(said.typed, os.O_RDONLY), 0)
    for stream, path in ((1, said.out), (2, said.err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), stream)
    sys.stdin = os.fdopen(0, closefd=False)
    encoding = environment.get("PYTHONIOENCODING", "utf-8")  # which an interpreter that starts looks at
    sys.stdout, sys.stderr = (
        os.fdopen(number, "w", buffering=1, encoding=encoding, errors=errors, closefd=False)
        for number, errors in ((1, "strict"), (2, "backslashreplace"))
    )
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    warnings.resetwarnings()
    warnings.simplefilter("error")
    sys.argv = [str(Path(daemon.__file__).with_name("__main__.py")), *words]
    main()


async def command(
    folder: Path,
    settings: Mapping[str, str],
    *words: str,
    timeout_seconds: float = 60.0,
    terminal: bytes | None = None,
) -> Result:
    """Run one command in a folder to its end; `terminal`: what somebody types, on a terminal."""
    typing, keyboard = os.openpty() if terminal is not None else (None, None)
    if typing is not None:
        os.write(typing, terminal or b"")
    with tempfile.TemporaryDirectory() as place:
        typed = os.devnull if keyboard is None else os.ttyname(keyboard)
        said = Files(Path(place, "out"), Path(place, "err"), typed)
        process = Process(folder, settings, words, said)
        try:
            async with asyncio.timeout(timeout_seconds):
                code = await process.wait()
        finally:
            process.kill()
            for end in (typing, keyboard):
                if end is not None:
                    os.close(end)
        return Result(code, *said.read())


@dataclass
class Running:
    """A daemon that runs. `address`: where it serves."""

    process: Process | asyncio.subprocess.Process
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
async def running(
    folder: Path, settings: Mapping[str, str], port: int, *, afresh: bool = False
) -> AsyncIterator[Running]:
    """`run` as a process; killed at the end if it is still there. `afresh`: by an interpreter that imports it all."""
    log = folder / f"daemon-{port}.log"
    told = {**settings, "PORT": str(port), "HOST": "127.0.0.1"}
    process = await _afresh(folder, told, log) if afresh else Process(folder, told, ["run"], Files(log, log))
    async with httpx.AsyncClient(timeout=10.0) as http:
        try:
            yield Running(process, f"http://127.0.0.1:{port}", log, http)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _afresh(folder: Path, settings: Mapping[str, str], log: Path) -> asyncio.subprocess.Process:
    with log.open("ab") as sink:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "daemon", "run"),
            cwd=folder,
            env=environment(settings),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
