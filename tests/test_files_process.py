"""Files with real processes: a command that ends, a daemon that is killed, and one that is woken by its copies."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from daemon.clock import SystemClock
from daemon.demo import blocks as b
from daemon.demo.sandbox import Sandbox
from daemon.kv.embedded import EmbeddedKV
from tests.support.gallery import until
from tests.support.process import command, running
from tests.support.redis_server import free_port

TIMES = {
    "POLL_INTERVAL_SECONDS": "1",
    "SWEEP_INTERVAL_SECONDS": "60",
    "EDIT_GRANULARITY_SECONDS": "0",
    "SETTLE_SLACK_SECONDS": "0.1",
    "FEED_LAG_SECONDS": "0.1",
    "HEARTBEAT_SECONDS": "2",
    "NOTION_REQUESTS_PER_MINUTE": "100000",
}


@asynccontextmanager
async def a_site(folder: Path, port: int) -> AsyncIterator[tuple[Sandbox, dict[str, str]]]:
    """Four pages with a picture each; the settings of a daemon that serves on this port."""
    sandbox = Sandbox(clock=SystemClock(), seed=3)
    workspace = sandbox.workspace
    home = workspace.create_page(None, "Home")
    database, source = workspace.create_database(home, "Pages", {"slug": "rich_text"})
    for number in range(4):
        blocks = [b.image(hosted=f"photo-{number}.png")]
        workspace.add_row(source, f"Page {number}", {"slug": f"page-{number}"}, blocks=blocks)
    async with sandbox.serve() as url:
        yield (
            sandbox,
            {
                **TIMES,
                "NOTION_TOKEN": "ntn_sandbox",
                "NOTION_BASE_URL": url,
                "NOTION_PAGES_DB": database,
                "EMBEDDED_KV": "1",
                "DATA_DIR": str(folder / "data"),
                "PUBLIC_URL": f"http://127.0.0.1:{port}",
            },
        )


async def images(folder: Path) -> list[dict[str, object]]:
    """The image blocks of the published pages."""
    kv = EmbeddedKV(folder / "data" / "kv.db")
    try:
        texts = [await kv.get(f"page:page-{number}") for number in range(4)]
    finally:
        await kv.close()
    return [json.loads(text)["blocks"][0] for text in texts if text]


async def test_sync_ends_with_every_file_copied(tmp_path: Path) -> None:
    """The command waits for its copies: what it leaves is whole, with one page whose file cannot be had.

    Fails when a page with a file that cannot be had is not published by a command that ends.
    """
    async with a_site(tmp_path, free_port()) as (sandbox, settings):
        sandbox.faults.add(500, path="photo-3", times=1)
        done = await command(tmp_path, settings, "sync")
        assert done.code == 0, done.err
        found = await images(tmp_path)
        assert len(found) == 4 and sum("__image_meta" in block for block in found) == 3
        assert len(list((tmp_path / "data" / "assets" / "files").rglob("*/*"))) == 3
        again = await command(tmp_path, {**settings, "ASSETS": "mirror"}, "status")
        assert "3 copied" in again.out and "photo-3.png" in again.out


async def test_a_daemon_killed_in_the_middle_of_copying(tmp_path: Path) -> None:
    """Kill -9 with a file half arrived; the next one copies it, wakes its schedule, and publishes what waited.

    Fails when copying does not wake the schedule (with a long poll interval), or when anything was marked too early.
    """
    port = free_port()
    async with a_site(tmp_path, port) as (sandbox, settings):
        settings["POLL_INTERVAL_SECONDS"] = "30"
        sandbox.faults.add(path="photo-2", slow=True)
        async with running(tmp_path, settings, port) as daemon:
            await until(lambda: len(sandbox.downloads) == 4, 30.0)
            async with asyncio.timeout(20.0):
                while len(await images(tmp_path)) < 3:
                    await asyncio.sleep(0.05)
            assert await daemon.end(signal.SIGKILL) == -signal.SIGKILL
        assert len(await images(tmp_path)) == 3
        async with running(tmp_path, settings, port) as daemon:
            async with asyncio.timeout(20.0):
                while len(await images(tmp_path)) < 4:
                    await asyncio.sleep(0.05)
            found = await images(tmp_path)
            assert all(block["__image_meta"] == {"width": 64, "height": 48} for block in found)
            names = sorted(record.path.rpartition("/")[2] for record in sandbox.downloads)
            assert names == sorted([*(f"photo-{number}.png" for number in range(4)), "photo-2.png"])
            served = [(await daemon.get(f"/assets/{_id(block)}")).status_code for block in found]
            assert served == [200] * 4
            assert await daemon.end() == 0


def _id(block: dict[str, object]) -> str:
    image = block["image"]
    assert isinstance(image, dict)
    return str(image["file"]["url"]).rpartition("/")[2]
