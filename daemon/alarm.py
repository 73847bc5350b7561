"""Tells the operator once when syncing starts to fail, and once when it works again; likewise of held removals.

It fails when three cycles in a row went wrong and none went well for two minutes (eight poll intervals if that is
less, three if that is more), when Notion refused the token twice, or as soon as `/health` says that nothing is done any
more: a single blip is nobody's business. It works again when all went well for as long; whoever fails again within an
hour has to go well for twice as long, and so on, up to an hour. What was told is kept in the ledger, so that a restart
does not repeat it, and in memory while the ledger is the trouble.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import Connection

from daemon import __version__, jsontext
from daemon.env import SecretStr
from daemon.ledger import meta
from daemon.ledger.ledger import Ledger, LedgerError
from daemon.ledger.meta import Fact
from daemon.log import redact
from daemon.outgoing import Outgoing
from daemon.sync.plan import retry_delay_seconds
from daemon.vitals import STALE_SECONDS, Watched, verdict

log = structlog.get_logger(__name__)
LOOK_SECONDS = 5.0
FAILURES_IN_A_ROW = 3
REFUSALS_IN_A_ROW = 2
"""They are a minute apart."""
DAMPED_SECONDS = 3600.0
"""Failing again so soon after it worked again is flapping; nor is it ever asked to go well for longer."""
GIVE_UP_SECONDS = 3600.0
"""A message that could not be delivered for so long is old news."""
BACK_OFF_FIRST_SECONDS = 5
BACK_OFF_LONGEST_SECONDS = 300
MOST_WAITING = 10
LONGEST_REASON = 500


@dataclass(frozen=True)
class Seen:
    """How the daemon is at a moment. `trouble`: what goes wrong; `is_well`: it worked; neither: nothing is known yet.

    `is_unhealthy`: as `/health` says, Notion's refusal apart. `held`: removals that wait for a person, None before the
    first cycle. `span_seconds`: how long a trouble has to last.
    """

    state: str
    span_seconds: float
    trouble: str | None = None
    failures: int = 0
    is_unhealthy: bool = False
    is_well: bool = False
    held: int | None = None


@dataclass(frozen=True)
class State:
    """What was told, and what that depends on. Times are unix seconds.

    `failing`, `held`: what the receiver knows. `doublings`: how often the time to go well was doubled.
    """

    failing: bool = False
    since: float | None = None
    failures: int = 0
    well_since: float | None = None
    recovered_at: float | None = None
    doublings: int = 0
    held: bool = False
    held_since: float | None = None
    none_held_since: float | None = None
    waiting: tuple[Mapping[str, Any], ...] = ()
    """Messages on their way, each with the moment (`madeAt`) from which on its patience counts."""


def look_at(parts: Watched) -> Seen:
    """How the daemon is, from memory alone."""
    vitals = parts.vitals
    healthy, state, reason = verdict(parts)
    span = max(3 * vitals.poll_seconds, min(8 * vitals.poll_seconds, STALE_SECONDS))
    cycled, is_refused = vitals.last_summary is not None, vitals.stop_reason is not None
    is_unhealthy = not healthy and not is_refused
    trouble = vitals.trouble if vitals.failures else reason if is_unhealthy else None
    if not is_refused and parts.api.limiter.paused_for_seconds > 0:
        trouble = None  # Notion asked to wait: that is known, and ends by itself
    return Seen(
        state="stopped" if is_refused else "failing" if trouble else state,
        span_seconds=span,
        trouble=trouble,
        failures=vitals.failures,
        is_unhealthy=is_unhealthy,
        is_well=cycled and healthy and not vitals.failures,
        held=vitals.held if cycled else None,
    )


# Deciding: pure ----------------------------------------------------------------------------------------------------


def decide(state: State, seen: Seen, now: float) -> State:
    """The state after a look, with the messages that follow from it among those that wait."""
    return _held(_works(state, seen, now), seen, now)


def _works(state: State, seen: Seen, now: float) -> State:
    if seen.trouble is not None:
        return _in_trouble(state, seen, now)
    if not seen.is_well:
        return state
    if not state.failing:
        return replace(state, since=None, failures=0)
    well_since = now if state.well_since is None else state.well_since
    if now - well_since < calm_seconds(state, seen):
        return replace(state, well_since=well_since)
    told = _with_message(state, seen, now, "recovered", "", since=state.since)
    return replace(told, failing=False, since=None, failures=0, well_since=None, recovered_at=now)


def calm_seconds(state: State, seen: Seen) -> float:
    """How long it has to go well before it is said to work again."""
    return min(seen.span_seconds * 2.0**state.doublings, max(DAMPED_SECONDS, seen.span_seconds))


def _in_trouble(state: State, seen: Seen, now: float) -> State:
    since = now if state.since is None else state.since
    state = replace(state, since=since, failures=seen.failures, well_since=None)
    lasts = seen.failures >= FAILURES_IN_A_ROW and now - since >= seen.span_seconds
    is_refused = seen.state == "stopped" and seen.failures >= REFUSALS_IN_A_ROW
    if state.failing or not (lasts or is_refused or seen.is_unhealthy):
        return state
    again = state.recovered_at is not None and now - state.recovered_at < DAMPED_SECONDS
    told = _with_message(state, seen, now, "failing", seen.trouble or "", since=since)
    return replace(told, failing=True, doublings=min(state.doublings + 1, 10) if again else 0)


def _held(state: State, seen: Seen, now: float) -> State:
    if seen.held is None or (not seen.held and not state.held):
        return state
    if seen.held and state.held:
        return replace(state, none_held_since=None)
    if seen.held:
        reason = f"{seen.held} removals are held: too much disappeared at once to be believed"
        told = _with_message(state, seen, now, "held", reason, since=now)
        return replace(told, held=True, held_since=now, none_held_since=None)
    none_since = now if state.none_held_since is None else state.none_held_since
    if now - none_since < seen.span_seconds:
        return replace(state, none_held_since=none_since)
    told = _with_message(
        state, seen, now, "recovered", "no removals are held any more", since=state.held_since
    )
    return replace(told, held=False, held_since=None, none_held_since=None)


_HINTS = {
    "stopped": "Check NOTION_TOKEN; `notion-kv-sync doctor` says what is wrong. What is published stays.",
    "failing": "`notion-kv-sync doctor` looks at everything that may be in the way. What is published stays.",
    "held": "Nothing was removed. `notion-kv-sync confirm-removals` shows them, and lets go what is to go.",
}


def _with_message(
    state: State, seen: Seen, now: float, event: str, reason: str, *, since: float | None
) -> State:
    reason = redact(" ".join(reason.split()))[:LONGEST_REASON]
    begun = None if since is None else datetime.fromtimestamp(since, UTC)
    fields: dict[str, Any] = {
        "event": event,
        "state": "degraded" if event == "held" else seen.state,
        "reason": reason or None,
        "since": None if begun is None else begun.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "version": __version__,
        "failures": state.failures if event != "held" else 0,
    }
    hint = _HINTS.get(seen.state if event == "failing" else event)
    fields |= {} if hint is None else {"hint": hint}
    message = {"text": _text(fields, begun), **fields, "madeAt": now}
    return replace(state, waiting=(*state.waiting, message)[-MOST_WAITING:])


def _text(fields: Mapping[str, Any], since: datetime | None) -> str:
    """The message for people. Slack reads `&`, `<` and `>` as its own."""
    reason, moment = fields["reason"], f"{since:%Y-%m-%d %H:%M} UTC" if since else "a while ago"
    said = {
        "failing": f"notion-kv-sync fails since {moment}: {reason}",
        "held": f"notion-kv-sync: {reason}.",
        "recovered": f"notion-kv-sync: {reason}."
        if reason
        else f"notion-kv-sync works again (failed since {moment}).",
    }[fields["event"]]
    text = f"{said} {fields['hint']}" if "hint" in fields else said
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# Telling -----------------------------------------------------------------------------------------------------------


@dataclass
class _Delivery:
    """How delivering goes. `not_before` is monotonic."""

    failures: int = 0
    not_before: float = float("-inf")


class Alarm:
    """One daemon's. `turn` looks, decides, keeps and tells; it never raises for what ledger or receiver do."""

    def __init__(self, parts: Watched, ledger: Ledger, outgoing: Outgoing, url: SecretStr) -> None:
        self._parts = parts
        self._ledger = ledger
        self._outgoing = outgoing
        self._url = url
        self._state: State | None = None
        self._kept: State | None = None
        self._failures_before = 0
        self._delivery = _Delivery()

    async def turn(self) -> float:
        """Out: when to look again (monotonic). A daemon that stands by tells nothing."""
        if self._parts.vitals.on_standby:
            self._state = None  # the daemon that writes may change what is kept
        else:
            await self._look()
            await self._deliver()
        return self._parts.clock.monotonic() + LOOK_SECONDS

    async def _look(self) -> None:
        state = self._state if self._state is not None else await self._load()
        seen = look_at(self._parts)
        if seen.is_well:
            self._failures_before = 0
        seen = replace(seen, failures=seen.failures + self._failures_before)
        self._state = decide(state, seen, self._now())
        await self._keep()

    async def _load(self) -> State:
        """What was kept; failures of the process before count on, else one that crashes again and again never fails."""
        try:
            self._kept = await self._ledger.call(load)
        except LedgerError:
            self._kept = None
        state = self._kept or State()
        self._failures_before = state.failures
        return state

    async def _keep(self) -> None:
        if self._state is None or self._state == self._kept:
            return
        try:
            await self._ledger.call(meta.put, Fact.ALARM, asdict(self._state))
            self._kept = self._state
        except LedgerError:
            pass  # the cycles meet it too, and say so; it is kept as soon as that is possible again

    async def _deliver(self) -> None:
        while self._state is not None and self._state.waiting:
            if self._parts.clock.monotonic() < self._delivery.not_before:
                return
            message = self._state.waiting[0]
            if not await self._post(message):
                return
            self._state = replace(self._state, waiting=self._state.waiting[1:])
            await self._keep()

    async def _post(self, message: Mapping[str, Any]) -> bool:
        """Whether a message is done with: delivered, or given up."""
        body = {name: value for name, value in message.items() if name != "madeAt"}
        reply = await self._outgoing.post(self._url.get_secret_value(), jsontext.dumps(body).encode())
        event, delivery = message["event"], self._delivery
        if reply.problem is None:
            self._delivery = _Delivery()
            log.info("the operator was told", action="alarm_told", event_told=event)
            return True
        delivery.failures += 1
        wait = retry_delay_seconds(delivery.failures, BACK_OFF_FIRST_SECONDS, BACK_OFF_LONGEST_SECONDS)
        wait = max(wait, reply.retry_after_seconds or 0.0)
        delivery.not_before = self._parts.clock.monotonic() + wait
        gives_up = self._now() - float(message["madeAt"]) >= GIVE_UP_SECONDS
        log.warning(
            "SYNC_FAILURE_WEBHOOK could not be told" + (", and is not told any more" if gives_up else ""),
            action="alarm_failed",
            event_told=event,
            problem=reply.problem,
        )
        return gives_up

    def _now(self) -> float:
        return self._parts.clock.now().timestamp()


def load(db: Connection) -> State | None:
    """What the ledger knows was told."""
    known = meta.get(db, Fact.ALARM)
    return None if known is None else State(**{**known, "waiting": tuple(known["waiting"])})


def shown(db: Connection) -> dict[str, Any]:
    """For people: what the receiver was told of, and how many messages are still on their way."""
    state = load(db) or State()
    return {"failing": state.failing, "held": state.held, "waiting": len(state.waiting)}
