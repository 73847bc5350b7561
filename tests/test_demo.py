"""The demo: every edit that it makes reaches the store, and each is told in a line that a person understands."""

import asyncio
import io
import re
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from daemon.demo.editor import Editor
from daemon.demo.sample import build
from daemon.demo.show import tell
from daemon.sync.cycle import Summary
from tests.support.oracle import check
from tests.support.process import Files, Process, command
from tests.support.redis_server import free_port
from tests.support.world import OLD, a_world

ARRIVED = re.compile(r"\nNotion  .*\nstore   ", re.DOTALL)
"""An edit, and what became of it; files that were copied meanwhile may be told of before."""
EDITS = 22
"""The story, which has thirteen, and variations."""


async def test_every_edit_of_the_demo_is_published_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody watches a traceback. Fails when the teller does not know a kind of key, as redirects once."""
    out = io.StringIO()
    console = Console(file=out, width=200)
    async with a_world(tmp_path) as world:
        cycle = world.run

        async def told(**how: Any) -> Summary:
            summary = await cycle(**how)
            tell(summary, console)
            return summary

        monkeypatch.setattr(world, "run", told)
        sample = build(world.workspace)
        world.sources = [("pages", sample.pages_database), ("posts", sample.posts_database)]
        await world.start()
        await world.settle()
        assert out.getvalue().startswith("store ")
        await check(world)
        editor = Editor(world.workspace, sample, world.clock)
        for _ in range(EDITS):
            console.file = out = io.StringIO()
            world.clock.advance(OLD)  # a post that comes back at once is not believed to
            said = editor.step()
            await world.settle()
            await world.sweep()
            assert out.getvalue().startswith("store "), said
            await check(world)


async def test_the_demo_shows_the_first_edit_arrive_and_ends_when_told(tmp_path: Path) -> None:
    """The command itself, until its first edit is in the store; then Ctrl-C, as the demo says."""
    said = Files(tmp_path / "out", tmp_path / "err")
    port = free_port()
    process = Process(tmp_path, {}, ["demo", "--port", str(port)], said)
    try:
        async with asyncio.timeout(60.0):
            while not ARRIVED.search(told := said.out.read_text() if said.out.exists() else ""):
                assert process.returncode is None, said.read()
                await asyncio.sleep(0.02)
            secret = re.findall(rf"http://localhost:{port}/\?secret=(\S+)", told)
            async with httpx.AsyncClient(trust_env=False) as http:
                page = await http.get(f"http://127.0.0.1:{port}/", params={"secret": secret[0]})
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
    finally:
        process.kill()
    assert page.status_code == 200 and "Last cycles" in page.text
    told, complaints = said.read()
    assert told.index("In step: ") < told.index("\nNotion  ") and complaints == ""


async def test_a_port_that_the_demo_cannot_have_is_said_with_what_to_do(tmp_path: Path) -> None:
    """No traceback, and the option to change: the demo reads no settings."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for words in ((), ("--sandbox-only",)):
            done = await command(tmp_path, {}, "demo", *words, "--port", port)
            assert (
                done.code == 1
                and done.err.startswith(f"Port {port} cannot be used (")
                and "--port" in done.err
            )
            assert len(done.err.splitlines()) == 1
    wrong = await command(tmp_path, {}, "demo", "--port", "99999")
    assert wrong.code == 2 and "--port" in wrong.err and "Traceback" not in wrong.err
