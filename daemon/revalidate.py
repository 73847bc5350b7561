"""Tells the site which tags and paths changed, so that it shows what the store holds now.

What is owed lies in the ledger and leaves it only when the site answered with a 2xx: a call that was made and not
marked is made again. One call at a time, in the order of the changes, many tags and paths in each.
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Connection

from daemon import jsontext
from daemon.clock import Clock
from daemon.env import SecretStr
from daemon.ledger import meta, owed
from daemon.ledger.ledger import Ledger
from daemon.ledger.meta import Fact
from daemon.ledger.owed import PATH, TAG, Debt
from daemon.outgoing import Outgoing, Reply
from daemon.sync.plan import retry_delay_seconds

log = structlog.get_logger(__name__)
SIGNATURE_HEADER = "x-revalidate-signature"
MOST_IN_A_CALL = 200
"""Tags and paths together."""
LARGEST_CALL_BYTES = 256 * 1024
BACK_OFF_FIRST_SECONDS = 5
BACK_OFF_LONGEST_SECONDS = 300
STANDBY_LOOK_SECONDS = 60.0
"""How often a daemon that stands by looks whether it is to tell the site by now."""


class Revalidation:
    """What one daemon tells its site. `may_tell`: whether it is this daemon's to tell."""

    def __init__(
        self, ledger: Ledger, clock: Clock, outgoing: Outgoing, url: str, secret: SecretStr | None
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._outgoing = outgoing
        self._url = url
        self._secret = secret
        self._most = MOST_IN_A_CALL
        self._failures = 0
        self._not_before = float("-inf")
        self.may_tell: Callable[[], bool] = lambda: True

    async def turn(self) -> float | None:
        """Tell what is owed until nothing is, or a call fails. Out: when to try again; None: when more is owed.

        Raises LedgerError.
        """
        while self.may_tell():
            debts = await self._ledger.call(owed.first, self._most)
            if not debts:
                return None
            if self._clock.monotonic() < self._not_before or not await self._tell(within(debts)):
                return self._not_before
        return self._clock.monotonic() + STANDBY_LOOK_SECONDS

    async def _tell(self, debts: Sequence[Debt]) -> bool:
        now, body = self._clock.now(), body_of(debts)
        headers = {SIGNATURE_HEADER: signature(self._secret, body, now)} if self._secret else {}
        reply = await self._outgoing.post(self._url, body, headers)
        if reply.problem is not None:
            await self._failed(reply, len(debts))
            return False
        await self._ledger.call(_told, debts, now.timestamp())
        if self._failures:
            log.info("the site listens again", action="site_listens")
        self._failures, self._most = 0, min(2 * self._most, MOST_IN_A_CALL)
        return True

    async def _failed(self, reply: Reply, size: int) -> None:
        self._failures += 1
        wait = retry_delay_seconds(self._failures, BACK_OFF_FIRST_SECONDS, BACK_OFF_LONGEST_SECONDS)
        wait = max(wait, reply.retry_after_seconds or 0.0)
        self._not_before = self._clock.monotonic() + wait
        if reply.is_too_much:
            self._most = max(size // 2, 1)
        hint = hint_for(reply, signed=self._secret is not None)
        log.warning(
            "the site could not be told what changed: it is tried again",
            action="site_not_told",
            problem=reply.problem,
            hint=hint,
            next_try_in_seconds=round(wait, 1),
        )
        now = self._clock.now().timestamp()
        said = {"problem": reply.problem, "hint": hint, "failedAt": now, "nextTry": now + wait}
        await self._ledger.call(_not_told, said)


def within(debts: Sequence[Debt]) -> Sequence[Debt]:
    """As many of the first as one call may hold in bytes; one at least."""
    size = 0
    for number, debt in enumerate(debts):
        size += len(debt.value.encode("utf-8", "surrogatepass")) + 4
        if number and size > LARGEST_CALL_BYTES:
            return debts[:number]
    return debts


def body_of(debts: Sequence[Debt]) -> bytes:
    """The JSON text that the site gets."""
    told = {name: [debt.value for debt in debts if debt.kind == kind] for name, kind in _NAMES}
    return jsontext.dumps(told).encode()


_NAMES = (("tags", TAG), ("paths", PATH))


def signature(secret: SecretStr, body: bytes, now: datetime) -> str:
    """`t=<unix seconds>,v1=<hex>`: HMAC-SHA256 over the seconds, a dot and the body as it is sent."""
    seconds = str(int(now.timestamp()))
    key = secret.get_secret_value().encode()
    return f"t={seconds},v1={hmac.new(key, seconds.encode() + b'.' + body, hashlib.sha256).hexdigest()}"


def hint_for(reply: Reply, *, signed: bool) -> str:
    """What the operator may do about a call that failed."""
    if reply.status in (401, 403):
        if not signed:
            return "Set REVALIDATE_SECRET to the secret that the site expects."
        return "REVALIDATE_SECRET must be the same on both sides, and both clocks right to five minutes."
    if reply.status in (404, 405):
        return "Check REVALIDATE_URL, and that the route is deployed there (docs/revalidation.md)."
    if reply.status is not None and 300 <= reply.status < 400:
        return "Set REVALIDATE_URL to the address that it redirects to: redirects are not followed."
    if reply.status is not None:
        return "The site's own log says more."
    return "Check REVALIDATE_URL, and that the site can be reached from here."


def shown(db: Connection) -> dict[str, Any]:
    """How it stands, for people: how much is owed, and what came of the last call. Times in unix seconds."""
    known = meta.get(db, Fact.REVALIDATION) or {}
    names = ("lastSuccess", "problem", "hint", "failedAt", "nextTry")
    return {"owed": owed.count(db), **{name: known.get(name) for name in names}}


def _told(db: Connection, debts: Sequence[Debt], now: float) -> None:
    owed.settle(db, debts)
    meta.put(db, Fact.REVALIDATION, {"lastSuccess": now})


def _not_told(db: Connection, said: dict[str, Any]) -> None:
    known = meta.get(db, Fact.REVALIDATION) or {}
    meta.put(db, Fact.REVALIDATION, {"lastSuccess": known.get("lastSuccess"), **said})
