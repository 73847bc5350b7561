"""What is served: health, readiness, status, the page for people and `/kv`, over real HTTP."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from daemon.app import App
from daemon.config import load_settings
from daemon.demo import blocks as b
from daemon.demo.sandbox import Sandbox
from daemon.sync.cycle import Summary
from daemon.web.server import Server

SECRET = "a-secret-of-twenty-four-c"
TITLE = "<b>Nobody</b> & sons"


@asynccontextmanager
async def served(folder: Path, **settings: str) -> AsyncIterator[tuple[App, httpx.AsyncClient]]:
    """A daemon that has synced one page and serves it; its schedule is not running."""
    sandbox = Sandbox()
    workspace = sandbox.workspace
    database, rows = workspace.create_database(
        workspace.create_page(None, "Root"), "Pages", {"slug": "rich_text"}
    )
    workspace.add_row(rows, TITLE, {"slug": "nobody"}, blocks=[b.paragraph("words")])
    workspace.add_row(rows, "Twin", {"slug": "nobody"})
    async with sandbox.serve() as url:
        environment = {
            "NOTION_TOKEN": "ntn_sandbox",
            "NOTION_BASE_URL": url,
            "NOTION_PAGES_DB": database,
            "EMBEDDED_KV": "1",
            "EMBEDDED_KV_TOKEN": "kv-token-of-this-test",
            "DATA_DIR": str(folder),
            "HOST": "127.0.0.1",
            "PORT": "0",
            "CRON_SECRET": SECRET,
        }
        app = App(load_settings(environment | settings))
        try:
            await app.open()
            while not await app.cycle.is_done() or app.cycle.site is None:
                summary = await app.cycle.run(app.clock.monotonic() + 5)
            app.vitals.cycled(summary, app.clock)
            async with Server(app).serving() as address, httpx.AsyncClient(base_url=address) as http:
                yield app, http
        finally:
            await app.close()


async def test_health_follows_the_vitals(tmp_path: Path) -> None:
    """200 while it succeeds, stands by or holds removals; 503 with the reason when Notion refuses or nothing moves."""
    async with served(tmp_path) as (app, http):
        assert (await http.get("/health")).json()["ok"] is True
        app.vitals.held = 3
        held = await http.get("/health")
        assert (held.status_code, held.json()["state"]) == (200, "degraded")
        app.vitals.stopped("the token was revoked")
        stopped = await http.get("/health")
        assert stopped.status_code == 503 and "revoked" in stopped.json()["reason"]
        assert (await http.get("/health?live=1")).status_code == 200
        app.vitals.on_standby = True
        assert (await http.get("/health")).json()["state"] == "standby"
        app.vitals.on_standby, app.vitals.stop_reason = False, None
        app.vitals.last_success = app.cycle.reader.last_progress = app.clock.monotonic() - 1000
        assert (await http.get("/health")).status_code == 503
        app.api.limiter.pause(300)
        assert (await http.get("/health")).status_code == 200


async def test_ready_once_the_first_sync_is_done(tmp_path: Path) -> None:
    """503 before, 200 after."""
    async with served(tmp_path) as (app, http):
        assert (await http.get("/ready")).status_code == 503
        app.vitals.became_ready.set()
        assert (await http.get("/ready")).status_code == 200


async def test_titles_and_slugs_are_shown_only_with_the_secret(tmp_path: Path) -> None:
    """Brief without it, whole with it in any of the three places, 401 with a wrong one."""
    async with served(tmp_path) as (_, http):
        for path in ("/status", "/"):
            brief = await http.get(path)
            assert brief.status_code == 200 and "nobody" not in brief.text.lower()
            assert (await http.get(path, params={"secret": "wrong"})).status_code == 401
            assert (await http.get(path, params={"secret": "é"})).status_code == 401
        for headers in ({"authorization": f"Bearer {SECRET}"}, {"x-sync-secret": SECRET}):
            whole = (await http.get("/status", headers=headers)).json()
            assert whole["conflicts"][0]["slug"] == "nobody" and whole["sources"][0]["rows"] == 2
        page = await http.get("/", params={"secret": SECRET})
        assert page.status_code == 200 and "nobody" in page.text and "<b>Nobody" not in page.text
        assert SECRET not in page.text


async def test_a_reason_names_no_ids_without_the_secret(tmp_path: Path) -> None:
    """What Notion says of a failure may name a database: anybody sees the rest of it, who has the secret all of it.

    Fails when the reason is shown as it is.
    """
    named = (
        "Could not find database with ID: f98ddc84-f59d-4887-956e-ab79e9b161f4, "
        "nor f98ddc84f59d4887956eab79e9b161f4. Nothing at store.example:6379, kv-1:6379 or https://kv.example/x?y."
    )
    async with served(tmp_path) as (app, http):
        app.vitals.cycled(Summary(0.0, looked=True, problem=named), app.clock)
        for path in ("/health", "/ready", "/status", "/"):
            shown = await http.get(path)
            assert "f98ddc84" not in shown.text and "Could not find database" in shown.text
            assert "Nothing at …, … or …" in shown.text
        whole = (await http.get("/status", headers={"x-sync-secret": SECRET})).json()
        assert whole["reason"] == whole["lastCycle"]["problem"] == named


async def test_without_a_configured_secret_nothing_is_opened(tmp_path: Path) -> None:
    """No secret can open what has none."""
    async with served(tmp_path, CRON_SECRET="") as (_, http):
        for params in ({}, {"secret": ""}):
            assert "conflicts" not in (await http.get("/status", params=params)).text


async def test_wrong_paths_and_methods_are_json_and_headers_are_safe(tmp_path: Path) -> None:
    """404 and 405 as JSON, a body over a megabyte refused, and every answer with its security headers."""
    async with served(tmp_path) as (_, http):
        for response, status in ((await http.get("/nothing"), 404), (await http.delete("/health"), 405)):
            assert response.status_code == status and response.json()["ok"] is False
            assert response.headers["x-content-type-options"] == "nosniff"
        large = await http.post("/kv", content=b"x" * 1_100_000, headers={"authorization": "Bearer x"})
        assert large.status_code in (401, 413)
        assert "access-control-allow-origin" not in (await http.get("/")).headers


async def test_the_store_is_readable_at_kv(tmp_path: Path) -> None:
    """The embedded store, in Upstash's protocol, with its own token and no other."""
    async with served(tmp_path) as (_, http):
        asked = ["GET", "page:nobody"]
        right = await http.post("/kv", json=asked, headers={"authorization": "Bearer kv-token-of-this-test"})
        assert "syncedAt" in right.json()["result"]
        assert (
            await http.post("/kv", json=asked, headers={"authorization": f"Bearer {SECRET}"})
        ).status_code == 401


async def test_a_busy_port_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    """Raised before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="PORT"):
        async with served(tmp_path, PORT=str(taken.getsockname()[1])):
            pass


def test_summary_knows_when_nothing_happened() -> None:
    """Idle cycles are not kept."""
    assert Summary(0.0, looked=True).is_idle and not Summary(0.0, looked=True, read=1).is_idle


async def test_reading_on_while_the_store_takes_nothing_is_no_progress(tmp_path: Path) -> None:
    """Progress keeps a daemon healthy for as long as what it reads can be written, and two minutes more.

    Fails when what was read counts however long the store has been refusing.
    """
    async with served(tmp_path) as (app, http):
        publisher, now = app.cycle.publisher, app.clock.monotonic
        app.vitals.last_success = now() - 1000
        app.vitals.problem = "the store refuses"
        app.cycle.reader.last_progress = now()
        publisher.failing_since = now() - 60
        assert (await http.get("/health")).status_code == 200
        publisher.failing_since = now() - 120
        failing = await http.get("/health")
        assert failing.status_code == 503 and failing.json()["reason"] == "the store refuses"
        publisher.failing_since = None
        assert (await http.get("/health")).status_code == 200
