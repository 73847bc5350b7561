"""The status page in a real browser."""

import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from daemon.ledger.tasks import Origin
from tests.test_web import SECRET, served

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1000,1200",
)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")
async def test_a_browser_shows_the_page(tmp_path: Path) -> None:
    """Chromium renders it: the state, the source and the escaped conflict stand there, and a picture can be taken."""
    async with served(tmp_path / "data") as (app, http):
        await app.jobs.ask({"force": True, "only": "pages"}, Origin.QSTASH)
        address = f"{str(http.base_url).rstrip('/')}/?secret={SECRET}"
        browser = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'b'}"]
        dom = await _run([*browser, "--dump-dom", address])
        assert "Sources" in dom and "nobody" in dom and "pages" in dom
        assert "full sync of pages" in dom and "QStash" in dom
        picture = tmp_path / "page.png"
        await _run([*browser, f"--screenshot={picture}", address])
        assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


async def _run(command: list[str]) -> str:

    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout
