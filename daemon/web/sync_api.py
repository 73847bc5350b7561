"""Starting work over HTTP: `/api/sync` and its parts hold the connection until it is done, triggers answer at once.

Whatever is asked for is a job in the ledger before anything is answered, so that a caller who hangs up, a restart or a
kill loses nothing.
"""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing, suppress
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from daemon.env import TRUE_WORDS
from daemon.jobs import RETRIES, NobodyWorksError
from daemon.ledger.ledger import LedgerError
from daemon.ledger.tasks import Origin, Task
from daemon.status import NOT_TYPES
from daemon.web.answers import error_answer, json_answer
from daemon.web.auth import protected
from daemon.web.parts import Parts
from daemon.web.qstash import NotSignedError, verified

HOLD_SECONDS = 14 * 60.0
"""How long a connection is held: hosts cut one that is silent for fifteen minutes."""
WORKER_PATH = "/api/sync/worker"
METHODS = ["GET", "POST"]
MESSAGE_ID_HEADER = "upstash-message-id"
LONGEST_ID = 180
_NO_JSON = 'The body is no JSON object such as {"force": true}.'
_OWN_TYPES = ("post", "child", "row")
"""Types of pages that have a number of their own; all others are pages of a source."""


def sync_routes(parts: Parts) -> list[BaseRoute]:
    """Every address under which work can be started."""
    answers, secret = _SyncApi(parts), parts.settings.cron_secret
    routes = [
        Route("/api/sync", protected(answers.sync, secret), methods=METHODS),
        Route("/sync", protected(answers.sync, secret), methods=METHODS),
        Route("/api/sync/trigger", protected(answers.trigger, secret), methods=METHODS),
        Route(WORKER_PATH, answers.worker, methods=["POST"]),
        Route(WORKER_PATH, _only_posted, methods=["GET", "PUT", "PATCH", "DELETE"]),
        Route("/api/sync/{part}", protected(answers.part, secret), methods=METHODS),
    ]
    for route in routes:
        assert route.methods is not None
        route.methods.discard("HEAD")  # which starts nothing, ever
    return list(routes)


async def _only_posted(_request: Request) -> Response:
    """Else it would be taken for a part of the site."""
    raise HTTPException(405, headers={"Allow": "POST"})


class _SyncApi:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def sync(self, request: Request) -> Response:
        """Look for changes everywhere; answer when what was found is done."""
        return await self._run(request, None)

    async def part(self, request: Request) -> Response:
        """The same, looking at one part and reading no other."""
        part = request.path_params["part"]
        if part == "all":
            return await self._run(request, None)
        known = ["pages", "posts", "children", *(source.name for source in self._parts.settings.sources)]
        if part not in known:
            names = ", ".join(dict.fromkeys([*known, "all"]))
            return error_answer(404, "unknown_part", f"There is no such part of the site; there are {names}.")
        return await self._run(request, part)

    async def trigger(self, request: Request) -> Response:
        """Ask for a sync, answer at once."""
        return await self._accept({"force": await _wants_force(request), "only": None}, Origin.TRIGGER)

    async def worker(self, request: Request) -> Response:
        """A call that QStash delivers: 2xx only once it is in the ledger, 5xx when it is to be delivered again."""
        settings, body = self._parts.settings, await request.body()
        keys = (settings.qstash_current_signing_key, settings.qstash_next_signing_key)
        address = settings.public_url.rstrip("/") + WORKER_PATH if settings.public_url else None
        try:
            call_id = verified(request.headers.get("upstash-signature", ""), body, keys, address)
        except NotSignedError as error:
            return error_answer(401, "unauthorized", f"The call does not come from QStash. {error}")
        try:
            options = {"force": _is_true(_json_object(body).get("force")), "only": None}
        except ValueError:
            return error_answer(400, "bad_request", _NO_JSON)
        message = request.headers.get(MESSAGE_ID_HEADER)
        ids = [f"jti:{call_id}"[:LONGEST_ID], *([f"message:{message}"[:LONGEST_ID]] if message else [])]
        return await self._accept(options, Origin.QSTASH, ids)

    async def _accept(
        self, options: Mapping[str, Any], origin: Origin, deliveries: list[str] | None = None
    ) -> Response:
        try:
            job_id = await self._parts.jobs.ask(options, origin, retries=RETRIES, deliveries=deliveries or [])
        except (LedgerError, NobodyWorksError) as error:
            return _cannot_start(error)
        what = "Everything is read again and rewritten" if options["force"] else "Changes are looked for"
        message = f"{what}; /api/jobs/{job_id} tells how far it is."
        return json_answer({"ok": True, "jobId": job_id, "message": message}, 202)

    async def _run(self, request: Request, only: str | None) -> Response:
        options = {"force": await _wants_force(request), "only": only}
        try:
            job_id = await self._parts.jobs.ask(options, Origin.HTTP)
            task = await self._wait(job_id)
        except (LedgerError, NobodyWorksError) as error:
            return _cannot_start(error)
        if task is not None and (task.is_over or task.problem is not None):
            return sync_answer(task)
        return json_answer({"ok": True, "jobId": job_id, "pending": True}, 202)

    async def _wait(self, job_id: str) -> Task | None:
        """The job when it is over, or waits to be tried again, or as it is when patience or the process ends."""
        task, watching = None, self._parts.jobs.watch(job_id)
        with suppress(TimeoutError):
            async with asyncio.timeout(HOLD_SECONDS), aclosing(watching):
                async for task in watching:
                    if task.problem is not None:
                        break
        return task


def sync_answer(task: Task) -> Response:
    """How a job went, in the form of the route that this replaces."""
    told = task.result or {**task.numbers, "ok": False, "problem": task.problem}
    content = {"ok": bool(told["ok"]), "jobId": task.id, **sync_numbers(told, task)}
    if told["ok"]:
        return json_answer(content)
    return json_answer({**content, "error": "sync_failed", "message": str(told.get("problem"))}, 502)


def sync_numbers(told: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """`synced`, `posts` and `metrics`. A page counts as processed where the job looked at the source it belongs to."""
    written, only = told.get("pages") or {}, task.options.get("only")
    looked_at = _looked_at(told.get("site") or {}, only)
    synced, processed, posts = _of_sources(written), _of_sources(looked_at), looked_at.get("post", 0)
    metrics = {
        "durationMs": round(1000 * ((task.finished_at or task.created_at) - task.created_at)),
        "pagesProcessed": max(processed, synced),
        "pagesSynced": synced,
        "pagesSkipped": max(processed - synced, 0),
        "postsProcessed": max(posts, written.get("post", 0)),
        "postsSynced": written.get("post", 0),
        "childPagesSynced": written.get("child", 0),
        "databaseChildrenSynced": written.get("row", 0),
        "removed": told.get("removed", 0),
        "failed": told.get("failed", 0),
        "notionRequests": told.get("notion_requests", 0),
        "kvCommands": told.get("kv_commands", 0),
    }
    return {"synced": synced, "posts": metrics["postsSynced"], "metrics": metrics}


def _looked_at(site: Mapping[str, int], only: str | None) -> Mapping[str, int]:
    """How many pages of each type there are in the part that was looked at."""
    if only is None:
        return site
    kind = {"pages": "page", "posts": "post", "children": "child"}.get(only, only)
    return {kind: site.get(kind, 0)}


def _of_sources(by_type: Mapping[str, int]) -> int:
    """How many pages of the sources, but for posts."""
    others = {*NOT_TYPES, *_OWN_TYPES}
    return sum(count for kind, count in by_type.items() if kind not in others)


def _cannot_start(error: LedgerError | NobodyWorksError) -> Response:
    if isinstance(error, LedgerError):
        return error_answer(503, "ledger_unavailable", str(error))
    message = "This daemon stands by, because another one writes to the key-value store: call that one."
    return error_answer(503, "standby", message)


async def _wants_force(request: Request) -> bool:
    """`?force=1`, or `{"force": true}` in a body. Raises HTTPException when what calls itself JSON is none.

    Any other body says nothing: schedulers send what they like.
    """
    if "force" in request.query_params:
        return _is_true(request.query_params["force"])
    try:
        return _is_true(_json_object(await request.body()).get("force"))
    except ValueError:
        if "json" in request.headers.get("content-type", ""):
            raise HTTPException(400, _NO_JSON) from None
        return False


def _json_object(body: bytes) -> dict[str, Any]:
    """Raises ValueError when there is a body and it is no JSON object."""
    found = orjson.loads(body) if body.strip() else {}
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def _is_true(value: object) -> bool:
    return value is True or value == 1 or (isinstance(value, str) and value.strip().lower() in TRUE_WORDS)
