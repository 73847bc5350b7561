"""The daemon as its operator meets it: processes, signals, exit codes, what it says."""

import asyncio
import contextlib
import json
import signal
import socket
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from daemon.demo import blocks as b
from daemon.demo.habits import Habits
from daemon.demo.sandbox import Sandbox
from tests.support.process import command, running
from tests.support.redis_server import free_port

TOKEN = "ntn_sandbox"
SECRET = "a-secret-of-twenty-four-c"


@dataclass
class Site:
    """A small workspace that is served, and the settings that point a daemon at it."""

    sandbox: Sandbox
    settings: dict[str, str]
    data_source: str
    page: str

    def stored(self, folder: Path) -> dict[str, str]:
        """What the embedded store holds, read by another process."""
        with sqlite3.connect(folder / "data" / "kv.db") as store:
            (table,) = store.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchone()
            return dict(store.execute(f"SELECT key, value FROM {table}").fetchall())


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """One page with a child page, in a sandbox that stamps to the second."""
    sandbox = Sandbox(habits=Habits(stamp_granularity_seconds=1))
    workspace = sandbox.workspace
    database, data_source = workspace.create_database(
        workspace.create_page(None, "Root"), "Pages", {"slug": "rich_text"}
    )
    page = workspace.add_row(data_source, "Hello", {"slug": "hello"}, blocks=[b.paragraph("first")])
    workspace.create_page(page, "Below")
    async with sandbox.serve() as url:
        settings = {
            "NOTION_TOKEN": TOKEN,
            "NOTION_BASE_URL": url,
            "NOTION_PAGES_DB": database,
            "EMBEDDED_KV": "1",
            "EDIT_GRANULARITY_SECONDS": "1",
            "SETTLE_SLACK_SECONDS": "0.2",
            "FEED_LAG_SECONDS": "0.5",
            "POLL_INTERVAL_SECONDS": "0.2",
            "CRON_SECRET": SECRET,
        }
        yield Site(sandbox, settings, data_source, page)


def entries(folder: Path) -> list[str]:
    """What is in a folder."""
    return [entry.name for entry in folder.iterdir()]


async def test_run_publishes_follows_an_edit_and_ends_cleanly(site: Site, tmp_path: Path) -> None:
    """`run` syncs, brings an edit to the store by itself, and exits with 0 within ten seconds of SIGTERM."""
    async with running(tmp_path, site.settings, free_port(), afresh=True) as daemon:
        await daemon.until("/ready")
        assert {"page:hello", "page:hello/below", "pages:index"} <= set(site.stored(tmp_path))
        site.sandbox.workspace.append_blocks(site.page, [b.paragraph("second")])
        async with asyncio.timeout(20.0):
            while "second" not in site.stored(tmp_path)["page:hello"]:
                await asyncio.sleep(0.02)
        assert await daemon.end() == 0
        owner = json.loads(site.stored(tmp_path)["sync:owner"])
        assert owner["released"] is True
    lines = [json.loads(line) for line in daemon.log.read_text().splitlines()]
    assert {"started", "cycle", "stopped"} <= {line.get("action") for line in lines}
    assert SECRET not in daemon.log.read_text() and TOKEN not in daemon.log.read_text()


async def test_a_killed_daemon_goes_on_where_it_was(site: Site, tmp_path: Path) -> None:
    """After SIGKILL and a restart nothing that was stored is read again, and what changed meanwhile is found."""
    async with running(tmp_path, site.settings, free_port()) as daemon:
        await daemon.until("/ready")
        await asyncio.sleep(0)
        daemon.process.kill()
        await daemon.process.wait()
    fresh = site.sandbox.workspace.add_row(site.data_source, "Later", {"slug": "later"})
    before = len(site.sandbox.requests)
    async with running(tmp_path, site.settings, free_port()) as daemon:
        async with asyncio.timeout(20.0):
            while "page:later" not in site.stored(tmp_path):
                await asyncio.sleep(0.02)
        assert await daemon.end() == 0
    listed = [r.path.split("/")[2] for r in site.sandbox.requests[before:] if r.path.endswith("/children")]
    assert fresh in listed


async def test_a_second_signal_ends_the_process_at_once(site: Site, tmp_path: Path) -> None:
    """While Notion hangs, a first signal waits for a bounded time and a second one does not wait at all."""
    site.sandbox.faults.add(hang=True, times=1000)
    async with running(tmp_path, site.settings, free_port()) as daemon:
        await daemon.until("/health?live=1")
        async with asyncio.timeout(5.0):
            while daemon.process.returncode is None:  # a busy machine may deliver two that are close as one
                daemon.process.send_signal(signal.SIGINT)
                await asyncio.sleep(0.05)
        assert daemon.process.returncode in (0, -signal.SIGINT)


async def test_a_hanging_notion_does_not_hold_up_the_end(site: Site, tmp_path: Path) -> None:
    """SIGTERM while every request to Notion hangs: exit code 0 within ten seconds."""
    site.sandbox.faults.add(hang=True, times=1000)
    async with running(tmp_path, site.settings, free_port()) as daemon:
        await daemon.until("/health?live=1")
        assert await daemon.end() == 0


async def test_a_taken_port_is_said(site: Site, tmp_path: Path) -> None:
    """A port that somebody has is exit code 1 and a sentence that names the setting."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = await command(tmp_path, {**site.settings, "HOST": "127.0.0.1", "PORT": port}, "run")
    assert result.code == 1
    assert "PORT" in result.err and "Traceback" not in result.err


async def test_wrong_settings_are_all_said_at_once(tmp_path: Path) -> None:
    """Exit code 2, one line a problem, no secret in it, and nothing is started or written."""
    result = await command(
        tmp_path, {"NOTION_TOKEN": "ntn_private_value", "POLL_INTERVAL_SECONDS": "soon"}, "run"
    )
    assert result.code == 2
    assert len(result.err.strip().splitlines()) == 3
    assert (
        "POLL_INTERVAL_SECONDS" in result.err
        and "NOTION_PAGES_DB" in result.err
        and "KV_REST_API_URL" in result.err
    )
    assert "ntn_private_value" not in result.err + result.out
    assert entries(tmp_path) == []


async def test_sync_ends_when_nothing_is_left(site: Site, tmp_path: Path) -> None:
    """`sync` reads, settles and writes everything, deletions included, and exits with 0; again: nothing to do."""
    first = await command(tmp_path, site.settings, "sync")
    assert first.code == 0, first.err
    assert {"page:hello", "page:hello/below"} <= set(site.stored(tmp_path))
    site.sandbox.workspace.trash(site.page)
    second = await command(tmp_path, site.settings, "sync")
    assert second.code == 0, second.err
    assert not [key for key in site.stored(tmp_path) if key.startswith("page:")]


async def test_sync_of_one_part_looks_at_that_part_only(site: Site, tmp_path: Path) -> None:
    """`--only` with an unknown part is exit code 2 and names the parts there are; with a known one it works."""
    wrong = await command(tmp_path, site.settings, "sync", "--only", "hubs")
    assert wrong.code == 2 and "children" in wrong.err and "pages" in wrong.err
    right = await command(tmp_path, site.settings, "sync", "--only", "pages")
    assert right.code == 0, right.err
    assert "page:hello" in site.stored(tmp_path) and "page:hello/below" not in site.stored(tmp_path)


async def test_sync_with_a_bad_token_fails_and_removes_nothing(site: Site, tmp_path: Path) -> None:
    """Notion refuses the token: exit code 1, a sentence with the next step, and the store keeps what it had."""
    assert (await command(tmp_path, site.settings, "sync")).code == 0
    before = site.stored(tmp_path)
    result = await command(tmp_path, {**site.settings, "NOTION_TOKEN": "ntn_other"}, "sync")
    assert result.code == 1 and "NOTION_TOKEN" in result.err and "Traceback" not in result.err
    after = site.stored(tmp_path)
    assert {key: after[key] for key in before if not key.startswith("sync:")} == {
        key: value for key, value in before.items() if not key.startswith("sync:")
    }


async def test_republish_and_status_ask_notion_nothing(site: Site, tmp_path: Path) -> None:
    """`republish` rebuilds a lost store, `status` tells of it, `db upgrade` says so, all without Notion."""
    assert (await command(tmp_path, site.settings, "sync")).code == 0
    keys = set(site.stored(tmp_path))
    for file in (tmp_path / "data").glob("kv.db*"):
        file.unlink()
    before = len(site.sandbox.requests)
    result = await command(tmp_path, site.settings, "republish")
    assert result.code == 0, result.err
    assert set(site.stored(tmp_path)) == keys
    told = await command(tmp_path, site.settings, "status", "--json")
    assert told.code == 0, told.err
    assert json.loads(told.out)["pages"]["known"] == 2
    shown = await command(tmp_path, site.settings, "status")
    assert shown.code == 0 and "pages" in shown.out
    upgraded = await command(tmp_path, site.settings, "db", "upgrade")
    assert upgraded.code == 0 and "up to date" in upgraded.out
    assert len(site.sandbox.requests) == before


async def test_forced_start_reads_and_rewrites_everything_once(site: Site, tmp_path: Path) -> None:
    """`FORCE_FULL_SYNC=1` at start: every page is read again and every key rewritten, lists included."""
    assert (await command(tmp_path, site.settings, "sync")).code == 0
    before, requests = site.stored(tmp_path), len(site.sandbox.requests)
    assert (await command(tmp_path, {**site.settings, "FORCE_FULL_SYNC": "1"}, "sync")).code == 0
    after = site.stored(tmp_path)
    site_keys = [key for key in before if not key.startswith("sync:")]
    assert [key for key in site_keys if after[key] == before[key]] == []
    listed = [r.path for r in site.sandbox.requests[requests:] if r.path == f"/blocks/{site.page}/children"]
    assert listed


def change(folder: Path, key: str, text: str | None) -> None:
    """Somebody else sets or removes a key in the embedded store."""
    with contextlib.closing(sqlite3.connect(folder / "data" / "kv.db")) as store, store:
        if text is None:
            store.execute("DELETE FROM entries WHERE key = ?", (key,))
        else:
            store.execute("UPDATE entries SET value = ? WHERE key = ?", (text, key))


async def test_verify_says_what_differs_and_mends_it(site: Site, tmp_path: Path) -> None:
    """Exit code 0 when all agrees, 1 with a line for each difference, 0 when they were mended; only then is written."""
    assert (await command(tmp_path, site.settings, "sync")).code == 0
    well = await command(tmp_path, site.settings, "verify")
    assert well.code == 0 and "everything agrees" in well.out, well.out + well.err
    change(tmp_path, "page:hello", '"altered"')
    change(tmp_path, "pages:index", None)
    site.sandbox.workspace.append_blocks(site.page, [b.paragraph("second")])
    before = site.stored(tmp_path)
    told = await command(tmp_path, site.settings, "verify")
    assert told.code == 1 and site.stored(tmp_path) == before
    lines = [line.split()[:2] for line in told.out.splitlines()]
    assert lines[:3] == [["altered", "page:hello"], ["removed", "pages:index"], ["stale", "hello"]]
    assert len(lines) == 4 and "3 differ" in told.out
    mended = await command(tmp_path, site.settings, "verify", "--repair")
    assert mended.code == 0 and "3 differed, 0 are left" in mended.out, mended.out + mended.err
    assert "second" in site.stored(tmp_path)["page:hello"] and "pages:index" in site.stored(tmp_path)
    assert json.loads(site.stored(tmp_path)["sync:owner"])["released"] is True


async def test_verify_beside_a_daemon_leaves_the_writing_to_it(site: Site, tmp_path: Path) -> None:
    """`--repair` marks what differs; the daemon that owns the store writes it, and keeps the store."""
    async with running(tmp_path, site.settings, free_port()) as daemon:
        await daemon.until("/ready")
        change(tmp_path, "page:hello", '"altered"')
        owner = json.loads(site.stored(tmp_path)["sync:owner"])
        mended = await command(tmp_path, site.settings, "verify", "--repair")
        assert mended.code == 0 and "the running daemon" in mended.out, mended.out + mended.err
        assert "first" in site.stored(tmp_path)["page:hello"]
        after = json.loads(site.stored(tmp_path)["sync:owner"])
        assert (after["token"], after["daemonId"]) == (owner["token"], owner["daemonId"])
        assert await daemon.end() == 0


async def test_a_source_out_of_the_settings_keeps_its_keys_until_confirmed(
    site: Site, tmp_path: Path
) -> None:
    """`confirm-removals` shows it by name and asks on a terminal; a no changes nothing, a yes lets its keys go."""
    workspace = site.sandbox.workspace
    database, docs = workspace.create_database(
        workspace.create_page(None, "Docs"), "Docs", {"slug": "rich_text"}
    )
    workspace.add_row(docs, "Manual", {"slug": "manual"})
    assert (await command(tmp_path, site.settings | {"NOTION_SOURCES": f"docs={database}"}, "sync")).code == 0
    assert (await command(tmp_path, site.settings, "sync")).code == 0
    assert {"page:manual", "docs:index"} <= set(site.stored(tmp_path))
    refused = await command(tmp_path, site.settings, "confirm-removals", terminal=b"n\n")
    assert refused.code == 1 and "source 'docs'" in refused.out, refused
    assert {"page:manual", "docs:index"} <= set(site.stored(tmp_path))
    agreed = await command(tmp_path, site.settings, "confirm-removals", terminal=b"y\n")
    assert agreed.code == 0 and "1 removed" in agreed.out, agreed
    assert not {"page:manual", "docs:index"} & set(site.stored(tmp_path))
    assert {"page:hello", "pages:index"} <= set(site.stored(tmp_path))


async def test_status_and_republish_without_anything_known(site: Site, tmp_path: Path) -> None:
    """They claim nothing: no daemon runs, nothing was synced, nothing was written; and looking changes nothing.

    Fails when looking marks an empty ledger as synced, which the next daemon would believe.
    """
    told = await command(tmp_path, site.settings, "status", "--json")
    known = json.loads(told.out)
    assert (known["state"], known["healthy"], known["ready"]) == ("not running", None, False)
    again = await command(tmp_path, site.settings, "status", "--json")
    assert json.loads(again.out) == known
    empty = await command(tmp_path, site.settings, "republish")
    assert empty.code == 1 and "Run `sync` first" in empty.err
    done = await command(tmp_path, site.settings, "sync")
    assert done.code == 0 and done.out.strip() == "In step with Notion."
    assert json.loads((await command(tmp_path, site.settings, "status", "--json")).out)["ready"] is True


async def test_status_beside_a_daemon_says_that_there_is_one(site: Site, tmp_path: Path) -> None:
    """How it is, it says itself."""
    async with running(tmp_path, site.settings, free_port()) as daemon:
        await daemon.until("/ready")
        told = await command(tmp_path, site.settings, "status")
        assert "the daemon: at work" in told.out


async def test_a_token_that_cannot_be_kept_names_the_settings(site: Site, tmp_path: Path) -> None:
    """The embedded store's token goes into a file of the data folder; when that cannot be, both ways out are named."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "kv-token.new").mkdir()
    settings = {name: value for name, value in site.settings.items() if name != "EMBEDDED_KV_TOKEN"}
    done = await command(tmp_path, settings, "run")
    assert done.code == 1 and "EMBEDDED_KV_TOKEN" in done.err and "DATA_DIR" in done.err
    assert "Traceback" not in done.err


async def test_sync_fails_when_the_store_does_not_answer_although_nothing_is_to_be_written(
    site: Site, tmp_path: Path
) -> None:
    """It may be another store, with nothing in it: exit code 1 and why. Fails when a store is only met by writing."""
    assert (await command(tmp_path, site.settings, "sync")).code == 0
    away = {name: value for name, value in site.settings.items() if not name.startswith("EMBEDDED_KV")}
    done = await command(tmp_path, {**away, "KV_URL": f"redis://127.0.0.1:{free_port()}"}, "sync")
    assert done.code == 1 and "connect" in done.err.lower() and "In step" not in done.out
