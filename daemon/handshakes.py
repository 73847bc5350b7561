"""Keeps the tokens of webhook handshakes until one of them is in the settings; `doctor` shows them, nothing else does.

A handshake is not signed, so anybody may send one. All that a stranger gets by it is that one of the three texts which
`doctor` shows is theirs, at most every ten seconds: Notion's form refuses any token but Notion's own.
"""

from enum import Enum

import structlog

from daemon import log as logs
from daemon.clock import Clock
from daemon.env import SecretStr
from daemon.ledger import handshakes
from daemon.ledger.ledger import Ledger

log = structlog.get_logger(__name__)
BETWEEN_SECONDS = 10.0
"""How far apart two tokens have to come to be kept both: the ledger is not written for every stranger."""


class Welcome(Enum):
    """What became of a handshake."""

    KEPT = "kept"
    NOT_NEEDED = "a token is configured already"
    TOO_SOON = "another one came a moment ago"


class Handshakes:
    """`configured`: the token in the settings; while there is one nothing is kept."""

    def __init__(self, ledger: Ledger, clock: Clock, configured: SecretStr | None) -> None:
        self._ledger = ledger
        self._clock = clock
        self._is_configured = bool(configured)
        self._not_before = float("-inf")

    async def open(self) -> None:
        """Hide what is kept from the log, or forget it when it is not needed any more. Raises LedgerError."""
        found = await self._ledger.call(handshakes.kept)
        if self._is_configured and found:
            await self._ledger.call(handshakes.forget)
        logs.register_secrets(handshake.token for handshake in found)

    async def receive(self, token: str) -> Welcome:
        """Somebody introduces themselves as a new subscription of Notion's. Raises LedgerError."""
        if self._is_configured:
            return Welcome.NOT_NEEDED
        now = self._clock.monotonic()
        if now < self._not_before:
            return Welcome.TOO_SOON
        self._not_before = now + BETWEEN_SECONDS
        logs.register_secret(token)
        at = self._clock.now().timestamp()
        for dropped in await self._ledger.call(handshakes.keep, token, at):
            logs.forget_secret(dropped.token)
        log.info("a webhook subscription wants to be verified: doctor shows its token", action="handshake")
        return Welcome.KEPT
