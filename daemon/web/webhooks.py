"""`POST /webhooks/notion`: takes in what Notion says of changes. What it means is decided, and done, elsewhere.

The address is open to anybody by nature. A stranger gets a body of up to a megabyte hashed, and while no token is
configured a handshake kept (see `daemon.handshakes`). Nothing longer than that is parsed, nothing counted as an event
and nothing looked at that Notion did not sign.
"""

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from daemon.handshakes import BETWEEN_SECONDS, Welcome
from daemon.ledger.ledger import LedgerError
from daemon.notion.events import SIGNATURE_HEADER, handshake_token, is_signed, parsed
from daemon.web.answers import error_answer, json_answer
from daemon.web.parts import Parts

log = structlog.get_logger(__name__)
SAID_SECONDS = 60.0
"""How often at most the log says that calls were refused: strangers must not fill it."""


def webhook_routes(parts: Parts) -> list[BaseRoute]:
    """`/webhooks/notion` of one daemon."""
    return [Route("/webhooks/notion", _Webhooks(parts).receive, methods=["POST"])]


class _Webhooks:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._said_at = float("-inf")

    async def receive(self, request: Request) -> Response:
        """200 for whatever Notion signed, known or not: it gives up on who refuses. 401 and 503 for anybody else."""
        body = await request.body()
        configured = self._parts.settings.notion_webhook_verification_token
        if configured and is_signed(
            body, request.headers.get(SIGNATURE_HEADER, ""), configured.get_secret_value()
        ):
            self._parts.hints.receive(parsed(body))
            return json_answer({"ok": True})
        token = handshake_token(body)
        if token is not None:
            return await self._introduce(token)
        if not configured:
            return error_answer(
                503, "not_configured", "Set NOTION_WEBHOOK_VERIFICATION_TOKEN: doctor says to what."
            )
        return self._refuse()

    async def _introduce(self, token: str) -> Response:
        try:
            welcome = await self._parts.handshakes.receive(token)
        except LedgerError as error:
            log.error("a handshake was not kept", action="handshake_failed", cause=error.cause)
            return error_answer(503, "ledger_unavailable", "The token could not be kept; try again.")
        if welcome is Welcome.TOO_SOON:
            wait = {"Retry-After": f"{BETWEEN_SECONDS:.0f}"}
            return error_answer(429, "too_many", "Another handshake came a moment ago; try again.", wait)
        return json_answer({"ok": True})

    def _refuse(self) -> Response:
        """The signature is missing or wrong; it may also be that the subscription is another one by now."""
        hints = self._parts.hints
        hints.refused += 1
        now = self._parts.clock.monotonic()
        if now >= self._said_at + SAID_SECONDS:
            self._said_at = now
            log.warning(
                "a webhook call was refused: its signature is not made with the configured token",
                action="webhook_refused",
                refused=hints.refused,
                hint="If you made a new subscription in Notion, its token is another one: doctor says what to do.",
            )
        return error_answer(401, "unauthorized", "The signature is missing or not Notion's.")
