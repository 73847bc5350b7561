"""Jobs: steps that survive a crash, retries with back-off, a history, progress as events, schedules that join."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from alembic import command
from sqlalchemy import create_engine

from daemon.app import App
from daemon.jobs import RETRIES, RETRY_FIRST_SECONDS, Request
from daemon.kv.base import KVUnavailable
from daemon.ledger import migrate, tasks
from daemon.ledger.ledger import Ledger
from daemon.ledger.tasks import Kind, Origin, State
from daemon.steps import Name, Steps, added, planned
from daemon.web.server import Server
from tests.support.web import SECRET, Daemon, a_daemon
from tests.test_sync_api import BEARER, in_step, over, trigger, turning

UNAVAILABLE = KVUnavailable("the store does not answer")


# Steps, which are pure -----------------------------------------------------------------------------------------


def test_a_step_that_is_done_stays_done() -> None:
    """Whatever happens later. Fails when a step that is done can be begun, or interrupted, again."""
    steps = Steps(planned(Kind.SYNC, {"force": True}))
    steps.done(Name.MARK, 1.0)
    steps.begin(Name.LOOK, 2.0)
    steps.interrupted("away", 3.0, for_good=False)
    steps.begin(Name.MARK, 4.0)
    steps.begin(Name.LOOK, 4.0)
    again = Steps(planned(Kind.SYNC, {"force": True}), steps.as_list())
    assert again.as_list() == steps.as_list()
    mark, look, read, _ = again.as_list()
    assert (mark["state"], mark["attempts"], mark["finished_at"]) == (State.DONE, 1, 1.0)
    assert (look["state"], look["attempts"], look["started_at"]) == (State.RUNNING, 2, 2.0)
    assert read["state"] == State.QUEUED and not again.is_open(Name.MARK) and again.is_open(Name.READ)


def test_the_numbers_of_several_lives_are_added() -> None:
    """Sums are added, also by kind; what is no sum is the later one's."""
    earlier = {"read": 2, "written": {"page": 2}, "pending": 9, "problem": "away", "looked": True}
    later = {"read": 3, "written": {"page": 1, "index": 1}, "pending": 0, "problem": None, "looked": False}
    both = {"read": 5, "written": {"page": 3, "index": 1}, "pending": 0, "problem": None, "looked": False}
    assert added(earlier, later) == both and added({}, later) == later


# Crashes -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def next_process(daemon: Daemon) -> AsyncIterator[Daemon]:
    """The daemon was killed; another one starts on what it left."""
    await daemon.app.cycle.abandon()
    await daemon.app.ledger.call(tasks.leave, daemon.app.cycle.lease.daemon_id)
    app = App(daemon.app.settings, daemon.clock)
    try:
        await app.open()
        async with Server(app).serving() as url, httpx.AsyncClient(base_url=url) as http:
            yield Daemon(app, daemon.sandbox, daemon.sample, daemon.clock, url, http)
    finally:
        await app.close()


@pytest.mark.parametrize("is_turn_over", [False, True])
async def test_whoever_goes_on_begins_with_the_next_step(tmp_path: Path, is_turn_over: bool) -> None:
    """Killed in the middle of a forced sync of the posts: what was read by then is not read again.

    Fails when the steps are not kept before anything is read: everything would be marked, and read, anew.
    """
    async with a_daemon(tmp_path) as daemon:
        await daemon.settle()
        daemon.clock.advance(3_600.0)
        job_id = await trigger_part(daemon, "posts")
        requests = await daemon.app.jobs.take()
        before = len(daemon.sandbox.requests)
        look = await daemon.app.jobs.begin(requests)
        reading = daemon.app.cycle.reader

        def enough() -> None:
            if reading.tally.read >= 5:
                daemon.app.cycle.hurry()

        reading.on_progress = enough
        summary = await daemon.app.cycle.run(daemon.clock.monotonic() + 60.0, look=look, only="posts")
        if is_turn_over:
            daemon.app.jobs.note(requests, summary)
            assert await daemon.app.jobs.answer(requests, requests, None) == requests
            job = await daemon.app.ledger.call(tasks.find, job_id)
            assert job is not None and job.state is State.RUNNING and job.numbers["read"] >= 5
        async with next_process(daemon) as later, turning(later):
            done = await over(later, job_id)
        assert done["state"] == "done" and (done["result"]["posts"] == 12) is is_turn_over
        listed = [r.path for r in daemon.sandbox.requests[before:] if r.path.endswith("/children")]
        post_ids = daemon.sample.posts.values()
        reads = [sum(post in path for path in listed) for post in post_ids]
        assert min(reads) == 1 and sum(reads) <= len(reads) + 8
        assert done["steps"][0]["attempts"] == 1


async def trigger_part(daemon: Daemon, only: str) -> str:
    """A forced sync of one part, that nobody waits for."""
    return await daemon.app.jobs.ask({"force": True, "only": only}, Origin.TRIGGER, retries=RETRIES)


async def test_jobs_outlive_the_process(tmp_path: Path) -> None:
    """What is over can still be asked for after a restart, with its result and its steps."""
    async with in_step(tmp_path) as daemon:
        job_id = await trigger(daemon)
        before = await over(daemon, job_id)
        async with next_process(daemon) as later:
            answer = await later.http.get(f"/api/jobs/{job_id}", headers=BEARER)
            assert answer.json() == before and before["result"]["ok"]
            listed = (await later.http.get("/api/jobs", params={"limit": "5"}, headers=BEARER)).json()
            assert [job["id"] for job in listed["jobs"]] == [job_id]
            missing = await later.http.get("/api/jobs/none", headers=BEARER)
            assert (missing.status_code, missing.json()["error"]) == (404, "unknown_job")


# Retries -------------------------------------------------------------------------------------------------------


async def until_state(daemon: Daemon, job_id: str, **wanted: Any) -> dict[str, Any]:
    """The job once these of its fields have these values."""
    while True:
        job: dict[str, Any] = (await daemon.http.get(f"/api/jobs/{job_id}", headers=BEARER)).json()
        if all(job[name] == value for name, value in wanted.items()):
            return job
        await asyncio.sleep(0.01)


async def test_a_job_is_tried_again_until_it_works(tmp_path: Path) -> None:
    """Notion refuses twice: the job waits, longer each time, says why, and is done when Notion is well again.

    Fails when the first failure is the end of it, and when it does not wait.
    """
    async with in_step(tmp_path, POLL_INTERVAL_SECONDS="3600") as daemon:
        daemon.sandbox.workspace.revoke_token()
        job_id = await trigger(daemon)
        waited = []
        for attempts in (1, 2):
            job = await until_state(daemon, job_id, state="queued", attempts=attempts)
            assert "NOTION_TOKEN" in job["problem"] and job["retriesLeft"] == RETRIES - attempts
            assert [step["state"] for step in job["steps"]] == ["queued"] * 3
            task = await daemon.app.ledger.call(tasks.find, job_id)
            assert task is not None and task.next_try_at is not None
            waited.append(task.next_try_at - daemon.clock.now().timestamp())
            turn(daemon)
            await until_idle(daemon)
            assert (await until_state(daemon, job_id, attempts=attempts))["state"] == "queued"
            if attempts == 2:
                daemon.sandbox.workspace.restore_token()
            daemon.clock.advance(waited[-1] + 61.0)
            turn(daemon)
        done = await over(daemon, job_id)
        assert done["state"] == "done" and done["problem"] is None and done["attempts"] == 3
        assert RETRY_FIRST_SECONDS - 2 < waited[0] <= RETRY_FIRST_SECONDS < waited[1]


def turn(daemon: Daemon) -> None:
    """What a tick of the poll does."""
    daemon.app.schedule._wish(look=True)


async def until_idle(daemon: Daemon) -> None:
    """The loop has done what it was woken for."""
    while daemon.app.schedule._wake.is_set():
        await asyncio.sleep(0)


async def test_a_job_fails_for_good_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its last retry, with the reason at the step that failed. Fails when it is tried for ever."""
    monkeypatch.setattr("daemon.web.sync_api.RETRIES", 0)
    async with in_step(tmp_path) as daemon:
        daemon.sandbox.workspace.revoke_token()
        done = await over(daemon, await trigger(daemon))
        assert done["state"] == "failed" and done["result"]["ok"] is False
        look = done["steps"][0]
        assert (look["name"], look["state"]) == ("look", "failed") and "NOTION_TOKEN" in look["problem"]


async def test_a_store_that_is_away_costs_no_request_to_notion(tmp_path: Path) -> None:
    """Reading is done, publishing is not: the retry writes what was read, and asks Notion nothing for it.

    Fails when a retry begins with the first step.
    """
    async with in_step(tmp_path, POLL_INTERVAL_SECONDS="3600") as daemon:
        cycle, store = daemon.app.cycle, daemon.app.kv
        daemon.clock.advance(3_600.0)
        daemon.sandbox.workspace.set_title(daemon.sample.posts["hello"], "While the store is away")
        daemon.clock.advance(400.0)  # what is read now need not be read again to settle
        apply, away = store.apply, True

        async def refusing(*args: Any) -> bool:
            if away:
                raise UNAVAILABLE
            return await apply(*args)

        setattr(store, "apply", refusing)  # noqa: B010 - the real one, with a door in front
        job_id = await trigger(daemon)
        job = await until_state(daemon, job_id, state="queued", attempts=1)
        assert [step["state"] for step in job["steps"]] == ["done", "done", "queued"]
        away, before = False, len(daemon.sandbox.requests)
        daemon.clock.advance(900.0)
        daemon.app.jobs.wake()
        assert (await over(daemon, job_id))["state"] == "done"
        assert len(daemon.sandbox.requests) == before
        assert "While the store" in (await store.get("posts:index") or "") and cycle.publisher.problem is None


# Events --------------------------------------------------------------------------------------------------------


async def test_progress_is_told_as_server_sent_events(tmp_path: Path) -> None:
    """From the moment it is asked for to its end: `progress` with each step's state, then `done`; then it closes.

    The secret may be in the address, as `EventSource` needs it.
    """
    async with a_daemon(tmp_path) as daemon:
        job_id = await trigger(daemon, force="1")
        address = f"/api/jobs/{job_id}/events"
        assert (await daemon.http.get(address)).status_code == 401
        told: list[tuple[str, dict[str, Any]]] = []
        async with daemon.http.stream("GET", address, params={"secret": SECRET}) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            async with turning(daemon):
                async for line in stream.aiter_lines():
                    if line.startswith("event: "):
                        name = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        told.append((name, json.loads(line.removeprefix("data: "))))
        assert [name for name, _ in told[:-1]] == ["progress"] * (len(told) - 1) and told[-1][0] == "done"
        assert told[0][1]["state"] == "queued" and told[-1][1]["result"]["ok"] is True
        seen = [[step["state"] for step in job["steps"]] for _, job in told]
        assert ["done", "running", "queued", "queued"] in seen


async def test_a_stream_ends_with_the_daemon(tmp_path: Path) -> None:
    """Fails when it waits for a job that nobody works at any more."""
    async with a_daemon(tmp_path) as daemon:
        job_id = await trigger(daemon)
        async with (
            asyncio.timeout(5),
            daemon.http.stream("GET", f"/api/jobs/{job_id}/events", headers=BEARER) as stream,
        ):
            lines = stream.aiter_lines()
            assert await anext(lines) == "event: progress"
            daemon.app.jobs.close()
            assert [line async for line in lines][-1] == ""


# Schedules -----------------------------------------------------------------------------------------------------


async def test_scheduled_full_syncs_join(tmp_path: Path) -> None:
    """FULL_SYNC_CRON fires while the last one has not begun: one job, with a sweep. On standby it is the writer's.

    Fails when every firing is a job of its own.
    """
    async with a_daemon(tmp_path, settings={"FULL_SYNC_CRON": "* * * * *"}) as daemon:
        await daemon.settle()
        before = len(await daemon.page_keys())
        for _ in range(2):
            await daemon.app.schedule._full_sync()
        (task,) = await daemon.app.ledger.call(tasks.newest, 9)
        assert (task.origin, task.options) == ("cron", {"force": True, "sweep": True})
        async with turning(daemon):
            done = await over(daemon, task.id)
        assert [step["name"] for step in done["steps"]] == ["mark", "look", "sweep", "read", "publish"]
        assert done["state"] == "done" and done["steps"][4]["outcome"]["written"]["page"] == before
        daemon.app.cycle.lease._stand_by()
        await daemon.app.schedule._full_sync()
        assert len(await daemon.app.ledger.call(tasks.newest, 9)) == 1


# Upgrades ------------------------------------------------------------------------------------------------------


async def test_a_task_of_the_version_before_is_done(tmp_path: Path) -> None:
    """What waited in an older ledger is taken after the upgrade, from its first step on, and found by who asked.

    Fails when the new columns have no value in old rows.
    """
    file = tmp_path / "ledger.db"
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as db:
        command.upgrade(migrate.config(db), "0001")
        old = ("one", "sync", '{"force": true}', "queued", 1.0)
        db.exec_driver_sql(
            "INSERT INTO tasks (id, kind, options, state, created_at) VALUES (?, ?, ?, ?, ?)", old
        )
    engine.dispose()
    ledger = Ledger(f"sqlite:///{file}")
    await ledger.open()
    (task,) = await ledger.call(tasks.take, "worker", 2.0)
    request = Request.of(task)
    assert (task.id, task.origin, task.retries_left, request.numbers()) == ("one", Origin.COMMAND, 0, {})
    assert request.steps.is_open(Name.MARK) and request.wants_look
    await ledger.call(tasks.finish, "one", "worker", {"ok": True, "problem": None}, 3.0)
    found = await ledger.call(tasks.find, "one")
    assert found is not None and found.state is State.DONE
    await ledger.close()
