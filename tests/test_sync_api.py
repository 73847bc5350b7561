"""Work started over HTTP, by callers as this daemon stands in for: Vercel Cron, a trigger, a host that waits."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from daemon.ledger import meta, tasks
from daemon.ledger.meta import Fact
from daemon.web import sync_api
from tests.support.web import SECRET, Daemon, a_daemon, a_small_site

BEARER = {"authorization": f"Bearer {SECRET}", "user-agent": "vercel-cron/1.0"}
NUMBERS = {
    *("durationMs", "pagesProcessed", "pagesSynced", "pagesSkipped", "postsProcessed", "postsSynced"),
    *("childPagesSynced", "databaseChildrenSynced", "removed", "failed", "notionRequests", "kvCommands"),
}


@asynccontextmanager
async def turning(daemon: Daemon) -> AsyncIterator[None]:
    """The daemon's loop runs beside the block."""
    loop = asyncio.create_task(daemon.app.schedule.run())
    try:
        async with asyncio.timeout(60):
            yield
    finally:
        daemon.app.schedule.stop()
        loop.cancel()
        with suppress(asyncio.CancelledError):
            await loop


@asynccontextmanager
async def in_step(folder: Path, **settings: str) -> AsyncIterator[Daemon]:
    """A daemon that has synced everything, and works."""
    async with a_daemon(folder, settings=settings) as daemon:
        await daemon.settle()
        turned = asyncio.Event()
        daemon.app.schedule.on_cycle = lambda _: turned.set()
        async with turning(daemon):
            await turned.wait()
            yield daemon


async def over(daemon: Daemon, job_id: str) -> dict[str, Any]:
    """A job, once it is over."""
    while True:
        job: dict[str, Any] = (await daemon.http.get(f"/api/jobs/{job_id}", headers=BEARER)).json()
        if job["state"] in ("done", "failed"):
            return job
        await asyncio.sleep(0.01)


def edit(daemon: Daemon, page: str, title: str) -> None:
    """Somebody renames a page, and time goes on by a minute."""
    daemon.clock.advance(60.0)
    daemon.sandbox.workspace.set_title(page, title)


async def test_the_route_that_is_replaced(tmp_path: Path) -> None:
    """`GET /sync?secret=…` holds the connection until the edit is in the store, and answers in the old form.

    Fails when it answers before the work is done.
    """
    async with in_step(tmp_path) as daemon:
        edit(daemon, daemon.sample.posts["hello"], "Hello again")
        edit(daemon, daemon.sample.pages["lesson"], "Another lesson")
        answer = await daemon.http.get("/sync", params={"secret": SECRET})
        told = answer.json()
        assert (answer.status_code, told["ok"], told["posts"], told["synced"]) == (200, True, 1, 0)
        assert set(told["metrics"]) == NUMBERS
        assert told["metrics"]["postsSynced"] == 1 and told["metrics"]["postsProcessed"] == 12
        assert told["metrics"]["pagesSkipped"] == told["metrics"]["pagesProcessed"] == 10
        assert told["metrics"]["childPagesSynced"] >= 1 and told["metrics"]["notionRequests"] > 0
        assert "Hello again" in (await daemon.app.kv.get("posts:index") or "")


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_force_reads_and_rewrites_everything(tmp_path: Path, method: str) -> None:
    """`?force=1`, or `{"force": true}` in a body: every page is written although nothing changed.

    Fails when force is not passed on.
    """
    async with in_step(tmp_path) as daemon:
        pages = len(await daemon.page_keys())
        body = {"json": {"force": True}} if method == "POST" else {"params": {"force": "1"}}
        quiet = (await daemon.http.request(method, "/api/sync", headers=BEARER)).json()
        assert quiet["ok"] and quiet["metrics"]["pagesSynced"] == quiet["metrics"]["kvCommands"] == 0
        told = (await daemon.http.request(method, "/api/sync", headers=BEARER, **body)).json()
        numbers = told["metrics"]
        written = sum(value for name, value in numbers.items() if name.endswith("Synced"))
        assert told["ok"] and written == pages and numbers["pagesSkipped"] == 0


async def test_parts_look_at_and_read_no_other(tmp_path: Path) -> None:
    """`/api/sync/posts`, `/pages` and `/children`: what was edited elsewhere stays as it is, and due.

    No other part's watermark moves either. Fails when `only` is not passed on, and when publishing is restricted.
    """
    async with in_step(tmp_path, POLL_INTERVAL_SECONDS="3600") as daemon:
        edit(daemon, daemon.sample.posts["hello"], "New post")
        edit(daemon, daemon.sample.pages["about"], "New page")
        edit(daemon, daemon.sample.pages["lesson"], "New lesson")
        searched = await daemon.app.ledger.call(meta.get, Fact.SEARCH_WATERMARK)
        told = (await daemon.http.get("/api/sync/posts", headers=BEARER)).json()
        assert told["posts"] == 1 and told["metrics"]["pagesProcessed"] == 0 == told["synced"]
        assert "New post" in (await daemon.app.kv.get("posts:index") or "")
        assert "New page" not in (await daemon.app.kv.get("pages:index") or "")
        assert await daemon.app.ledger.call(meta.get, Fact.SEARCH_WATERMARK) == searched
        told = (await daemon.http.get("/api/sync/pages", headers=BEARER)).json()
        assert told["synced"] == 1 and told["metrics"]["postsProcessed"] == 0
        assert "New page" in (await daemon.app.kv.get("pages:index") or "")
        told = (await daemon.http.get("/api/sync/children", headers=BEARER)).json()
        assert told["metrics"]["childPagesSynced"] >= 1 and told["metrics"]["pagesProcessed"] == 0
        assert await daemon.app.ledger.call(meta.get, Fact.SEARCH_WATERMARK) > searched
        assert (await daemon.http.get("/api/sync/all", headers=BEARER)).json()["ok"]


async def test_further_sources_have_an_address_of_their_own(tmp_path: Path) -> None:
    """`/api/sync/{source}`; an unknown one is a 404 that names those there are."""
    async with a_daemon(tmp_path) as daemon:
        unknown = await daemon.http.get("/api/sync/hubs", headers=BEARER)
        assert unknown.status_code == 404 and "pages, posts, children" in unknown.json()["message"]
        hubs = {"NOTION_SOURCES": f"hubs={daemon.sample.team.database}"}
    async with in_step(tmp_path / "other", **hubs) as other:
        edit(other, other.sample.pages["about"], "Not asked for")
        told = (await other.http.get("/api/sync/hubs", headers=BEARER)).json()
        assert told["ok"] and told["metrics"]["pagesProcessed"] == len(
            other.sandbox.workspace.rows(other.sample.team.data_source)
        )
        assert "Not asked for" not in (await other.app.kv.get("pages:index") or "")


async def test_a_trigger_answers_at_once(tmp_path: Path) -> None:
    """202 with the job's id while the work has not even begun, and the job is kept until it is done.

    Fails when the answer waits for the work: nothing works here.
    """
    async with a_daemon(tmp_path) as daemon:
        answer = await daemon.http.get("/api/sync/trigger", params={"secret": SECRET, "force": "1"})
        told = answer.json()
        assert (answer.status_code, told["ok"]) == (202, True) and told["jobId"] in told["message"]
        job = (await daemon.http.get(f"/api/jobs/{told['jobId']}", headers=BEARER)).json()
        assert (job["state"], job["force"], job["origin"]) == ("queued", True, "trigger")
        async with turning(daemon):
            done = await over(daemon, told["jobId"])
        assert done["state"] == "done" and done["result"]["ok"]
        assert [step["name"] for step in done["steps"]] == ["mark", "look", "read", "publish"]
        assert {step["state"] for step in done["steps"]} == {"done"}


async def test_triggers_join_and_force_survives(tmp_path: Path) -> None:
    """Twenty triggers before the next turn are one job; one with force is another, which they can join, too.

    Fails when each is a job of its own, and when one that forces joins one that does not.
    """
    async with a_daemon(tmp_path) as daemon:
        plain = [await trigger(daemon) for _ in range(10)]
        forced = [await trigger(daemon, force="1") for _ in range(10)]
        assert len(set(plain)) == len(set(forced)) == 1 and plain[0] != forced[0]
        await daemon.app.jobs.take()
        listed = (await daemon.http.get("/api/jobs", headers=BEARER)).json()["jobs"]
        assert sorted(job["force"] for job in listed) == [False, True]


async def test_a_trigger_does_not_join_what_has_looked_already(tmp_path: Path) -> None:
    """An edit made after the look would be missed. Fails when every open job can be joined."""
    async with a_daemon(tmp_path) as daemon:
        first = await trigger(daemon)
        requests = await daemon.app.jobs.take()
        assert await trigger(daemon) == first
        await daemon.app.jobs.begin(requests)
        assert await trigger(daemon) != first


async def test_one_full_sync_after_the_other(tmp_path: Path) -> None:
    """The second, asked for while the first reads, begins when that is done, and each counts its own work.

    Fails when it begins at once: the first would then be done with the second, and with a third after that one.
    """
    async with in_step(tmp_path) as daemon:
        asked = list[asyncio.Task[str]]()

        def ask_again(method: str, path: str) -> None:
            if path.endswith("/children") and not asked:
                asked.append(asyncio.create_task(trigger(daemon, force="1")))

        daemon.sandbox.watchers.append(ask_again)
        first = await over(daemon, await trigger(daemon, force="1"))
        second = await over(daemon, await asked[0])
        assert second["id"] != first["id"] and second["startedAt"] >= first["startedAt"]
        numbers = [job["result"]["metrics"]["notionRequests"] for job in (first, second)]
        assert max(numbers) < 1.5 * min(numbers)
        marked, done = second["steps"][0]["finishedAt"], first["finishedAt"]
        assert marked >= done


async def trigger(daemon: Daemon, **params: str) -> str:
    """Out: the job's id."""
    return str((await daemon.http.post("/api/sync/trigger", params=params, headers=BEARER)).json()["jobId"])


async def test_a_connection_is_held_for_so_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After fourteen minutes (here: at once) the caller is told that it goes on, and where it can be followed."""
    monkeypatch.setattr(sync_api, "HOLD_SECONDS", 0.05)
    async with a_daemon(tmp_path) as daemon:
        answer = await daemon.http.get("/api/sync", headers=BEARER)
        told = answer.json()
        assert (answer.status_code, told["ok"], told["pending"]) == (202, True, True)
        async with turning(daemon):
            assert (await over(daemon, told["jobId"]))["state"] == "done"


async def test_who_waits_is_let_go_when_the_daemon_ends(tmp_path: Path) -> None:
    """A held connection does not hold up SIGTERM. Fails when waiting ignores that the process is to end."""
    async with a_daemon(tmp_path) as daemon:
        waiting = asyncio.create_task(daemon.http.get("/api/sync", headers=BEARER))
        while not await daemon.app.ledger.call(tasks.newest, 1):
            await asyncio.sleep(0.01)
        daemon.app.schedule.stop()
        async with asyncio.timeout(5):
            assert (await waiting).json()["pending"] is True


async def test_what_goes_wrong_is_said(tmp_path: Path) -> None:
    """Notion refuses: `ok` is false, with the reason, and no 2xx. Fails when errors look like success."""
    async with in_step(tmp_path) as daemon:
        daemon.sandbox.workspace.revoke_token()
        answer = await daemon.http.get("/api/sync", headers=BEARER)
        told = answer.json()
        assert (answer.status_code, told["ok"], told["error"]) == (502, False, "sync_failed")
        assert "NOTION_TOKEN" in told["message"] and set(told["metrics"]) == NUMBERS


@pytest.mark.parametrize(
    "path",
    [
        "/api/sync",
        "/sync",
        "/api/sync/trigger",
        "/api/sync/posts",
        "/api/sync/nothing",
        "/api/jobs",
        "/api/jobs/x",
    ],
)
async def test_nothing_starts_without_the_secret(tmp_path: Path, path: str) -> None:
    """401 without it or with a wrong one, 503 where none is configured, and HEAD starts nothing."""
    async with a_daemon(tmp_path) as daemon:
        wrong = {"authorization": "Bearer wrong"}
        for answer in (await daemon.http.get(path), await daemon.http.get(path, headers=wrong)):
            assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
        if "jobs" not in path:
            assert (await daemon.http.head(path, headers=BEARER)).status_code == 405
        assert await daemon.app.ledger.call(tasks.newest, 1) == []
    async with a_daemon(tmp_path, secret=None) as daemon:
        answer = await daemon.http.get(path, headers=BEARER)
        assert (answer.status_code, answer.json()["error"]) == (503, "not_configured")


@pytest.mark.parametrize("part", ["pages", "posts", "children", "all"])
async def test_a_split_call_is_short(tmp_path: Path, part: str) -> None:
    """With a full budget of 180 requests a minute each part of the sample site is read again in under 30 s.

    The clock is driven: what waits for the budget moves it on. Fails when a part reads more than what belongs to it.
    """
    async with in_step(tmp_path, NOTION_REQUESTS_PER_MINUTE="180", POLL_INTERVAL_SECONDS="3600") as daemon:
        daemon.clock.advance(3_600.0)
        before, requests = daemon.clock.monotonic(), len(daemon.sandbox.requests)
        told = (await daemon.http.get(f"/api/sync/{part}", params={"force": "1"}, headers=BEARER)).json()
        assert told["ok"] and daemon.clock.monotonic() - before < 30.0
        assert 0 < len(daemon.sandbox.requests) - requests < 180


async def test_split_calls_side_by_side(tmp_path: Path) -> None:
    """Three crons at the same minute, as split endpoints have them: all answered, no turn beside another."""
    async with in_step(tmp_path) as daemon:
        edit(daemon, daemon.sample.posts["hello"], "At the same minute")
        paths = ["/api/sync/pages", "/api/sync/posts", "/api/sync/children"]
        answers: list[httpx.Response] = await asyncio.gather(
            *(daemon.http.get(path, headers=BEARER) for path in paths)
        )
        assert [answer.json()["ok"] for answer in answers] == [True] * 3
        assert "At the same minute" in (await daemon.app.kv.get("posts:index") or "")


async def test_a_broken_body_does_not_turn_a_full_sync_into_a_small_one(tmp_path: Path) -> None:
    """What calls itself JSON and is none is refused, what is something else says nothing. Fails when both are alike."""
    async with a_daemon(tmp_path, site=a_small_site) as daemon:
        headers = {"authorization": f"Bearer {SECRET}", "content-type": "application/json"}
        for path in ("/api/sync", "/api/sync/trigger", "/api/sync/pages"):
            broken = await daemon.http.post(path, headers=headers, content='{"force": tru')
            assert broken.status_code == 400 and "JSON" in broken.json()["message"]
        headers["content-type"] = "application/x-www-form-urlencoded"
        other = await daemon.http.post("/api/sync/trigger", headers=headers, content="hello")
        assert other.status_code == 202
