"""The verification tokens that came with handshakes of Notion's webhooks: the last few, until one is configured."""

from dataclasses import dataclass

from sqlalchemy import Connection

from daemon.ledger import meta
from daemon.ledger.meta import Fact

KEPT = 3


@dataclass(frozen=True, slots=True)
class Handshake:
    """A token, as it came, and when (unix seconds)."""

    token: str
    at: float

    def __repr__(self) -> str:
        return f"Handshake(at={self.at})"


def kept(db: Connection) -> list[Handshake]:
    """What is kept, the newest first."""
    found = meta.get(db, Fact.WEBHOOK_HANDSHAKES) or []
    return [Handshake(str(token), float(at)) for token, at in found]


def keep(db: Connection, token: str, now: float) -> list[Handshake]:
    """Keep one more. Out: those that were dropped for it."""
    others = [handshake for handshake in kept(db) if handshake.token != token]
    stays = [Handshake(token, now), *others[: KEPT - 1]]
    meta.put(db, Fact.WEBHOOK_HANDSHAKES, [[handshake.token, handshake.at] for handshake in stays])
    return others[KEPT - 1 :]


def forget(db: Connection) -> None:
    """None is needed any more."""
    meta.put(db, Fact.WEBHOOK_HANDSHAKES, None)
