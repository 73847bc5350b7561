"""Jobs over HTTP: the history of runs, one job with its steps, and its progress as server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from daemon import jsontext
from daemon.ledger import tasks
from daemon.ledger.ledger import LedgerError
from daemon.ledger.tasks import Task
from daemon.status import job_in_short, moment
from daemon.steps import Steps, outcome, planned
from daemon.web.answers import error_answer, json_answer
from daemon.web.auth import protected
from daemon.web.parts import Parts
from daemon.web.sync_api import sync_numbers

SHOWN = 50
MOST_SHOWN = tasks.KEPT
ALIVE_SECONDS = 15.0
"""How often a silent stream says that it lives: proxies cut what they hear nothing of for a minute."""


def job_routes(parts: Parts) -> list[BaseRoute]:
    """`/api/jobs`, `/api/jobs/{id}` and its events."""
    answers, secret = _JobsApi(parts), parts.settings.cron_secret
    return [
        Route("/api/jobs", protected(answers.jobs, secret), methods=["GET"]),
        Route("/api/jobs/{id}", protected(answers.job, secret), methods=["GET"]),
        Route("/api/jobs/{id}/events", protected(answers.events, secret), methods=["GET"]),
    ]


class _JobsApi:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def jobs(self, request: Request) -> Response:
        """The last jobs, newest first."""
        wanted = request.query_params.get("limit", "")
        limit = min(int(wanted[:6]), MOST_SHOWN) if wanted.isascii() and wanted.isdigit() else SHOWN
        try:
            found = await self._parts.ledger.call(tasks.newest, limit)
        except LedgerError as error:
            return error_answer(503, "ledger_unavailable", str(error))
        return json_answer({"ok": True, "jobs": [shown(task) for task in found]})

    async def job(self, request: Request) -> Response:
        """One job."""
        try:
            task = await self._find(request)
        except LedgerError as error:
            return error_answer(503, "ledger_unavailable", str(error))
        return _no_job() if task is None else json_answer(shown(task))

    async def events(self, request: Request) -> Response:
        """`progress` whenever something changed, at last `done` or `failed`."""
        try:
            task = await self._find(request)
        except LedgerError as error:
            return error_answer(503, "ledger_unavailable", str(error))
        if task is None:
            return _no_job()
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._stream(task.id), media_type="text/event-stream", headers=headers)

    async def _find(self, request: Request) -> Task | None:
        return await self._parts.ledger.call(tasks.find, request.path_params["id"])

    async def _stream(self, job_id: str) -> AsyncIterator[str]:
        changes = self._parts.jobs.watch(job_id)
        coming: asyncio.Task[Task] | None = None
        try:
            while True:
                coming = coming or asyncio.ensure_future(anext(changes))
                done, _ = await asyncio.wait({coming}, timeout=ALIVE_SECONDS)
                if not done:
                    yield ": still there\n\n"
                    continue
                task, coming = coming.result(), None
                yield event(task)
        except (StopAsyncIteration, LedgerError):
            return
        finally:
            if coming is not None:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
            await changes.aclose()


def _no_job() -> Response:
    return error_answer(404, "unknown_job", "There is no such job; it may have been over long ago.")


def event(task: Task) -> str:
    """One server-sent event."""
    name = task.state.value if task.is_over else "progress"
    return f"event: {name}\ndata: {jsontext.dumps(shown(task))}\n\n"


def shown(task: Task) -> dict[str, Any]:
    """A job as people and programs see it; times as ISO 8601."""
    job = {
        **job_in_short(task),
        "startedAt": moment(task.started_at),
        "attempts": task.attempts,
        "retriesLeft": task.retries_left,
        "steps": [_step(step, task.numbers) for step in _steps(task)],
    }
    if task.result is not None:
        job["result"] = {"ok": task.result["ok"], **sync_numbers(task.result, task)}
    return job


def _steps(task: Task) -> list[dict[str, Any]]:
    return Steps(planned(task.kind, task.options), task.steps).as_list()


def _step(step: Mapping[str, Any], numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": step["name"],
        "state": step["state"],
        "attempts": step["attempts"],
        "startedAt": moment(step["started_at"]),
        "finishedAt": moment(step["finished_at"]),
        "problem": step["problem"],
        "outcome": outcome(step["name"], numbers),
    }
