"""How the daemon is, for programs: `/health` and `/ready` for hosts, `/status` for whoever wants to know more."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from daemon import __version__, jsontext
from daemon.ledger.ledger import LedgerError
from daemon.status import Parts, brief, full, moment, without_names
from daemon.vitals import verdict
from daemon.web.answers import error_answer, json_answer
from daemon.web.auth import Access, access, refusal


def health_routes(parts: Parts) -> list[BaseRoute]:
    """`/health`, `/ready` and `/status` of one daemon."""
    answers = _Health(parts)
    return [
        Route("/health", answers.health, methods=["GET"]),
        Route("/ready", answers.ready, methods=["GET"]),
        Route("/status", answers.status, methods=["GET"]),
    ]


class _Health:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def health(self, request: Request) -> Response:
        """200 while work goes on or waits for a known time, else 503; with `?live=1` 200 as long as it serves."""
        live = request.query_params.get("live", "0").lower() in ("1", "true")
        status, text = health_answer(self._parts, live)
        return Response(text, status, media_type="application/json")

    async def ready(self, _request: Request) -> Response:
        """200 once the first sync has completed."""
        _, facts = _verdict(self._parts)
        ready = self._parts.vitals.ready
        return json_answer({"ok": ready, "ready": ready, **facts}, 200 if ready else 503)

    async def status(self, request: Request) -> Response:
        """The brief form, or with the secret the full one."""
        secret = self._parts.settings.cron_secret
        found = access(request, secret)
        if found is Access.NONE_GIVEN:
            return json_answer(brief(self._parts))
        if found is not Access.GRANTED:
            return refusal(found, secret)
        try:
            return json_answer(await full(self._parts))
        except LedgerError as error:
            return error_answer(503, "ledger_unavailable", str(error))


def health_answer(parts: Parts, live: bool) -> tuple[int, str]:
    """Status and body of `/health`; `live`: 200 as long as it serves."""
    healthy, facts = _verdict(parts)
    return 200 if healthy or live else 503, jsontext.dumps({"ok": healthy or live, **facts})


def _verdict(parts: Parts) -> tuple[bool, dict[str, Any]]:
    """Healthy or not, and why, for anybody."""
    now, vitals = parts.clock.monotonic(), parts.vitals
    healthy, state, reason = verdict(parts)
    return healthy, {
        "state": state,
        "reason": without_names(reason),
        "version": __version__,
        "uptimeSeconds": round(now - vitals.started_at),
        "lastSuccess": moment(vitals.last_success_time),
        "secondsSinceSuccess": None if vitals.last_success is None else round(now - vitals.last_success),
        "pollSeconds": round(vitals.poll_seconds, 1),
    }
