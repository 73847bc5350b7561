"""Single facts of the ledger, by name."""

from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, delete, select

from daemon.ledger.ledger import upsert
from daemon.ledger.tables import Meta


class Fact(StrEnum):
    """Every fact the daemon keeps. Times are unix seconds."""

    LEDGER_ID = "ledger_id"
    CONTENT_ID = "content_id"
    SEARCH_WATERMARK = "search_watermark"
    TRASH_WATERMARK = "trash_watermark"
    FORCE_STARTED_AT = "force_started_at"
    FIRST_SYNC_AT = "first_sync_at"
    SWEPT_AT = "swept_at"
    SWEEP_BEGAN_AT = "sweep_began_at"
    SWEEP_ENDED_AT = "sweep_ended_at"
    STORE_UNSEARCHED = "store_unsearched"
    STORE_COMPARED_AT = "store_compared_at"
    COMMAND_BEGAN_AT = "command_began_at"
    WEBHOOK_EVENT_AT = "webhook_event_at"
    WEBHOOK_HANDSHAKES = "webhook_handshakes"
    OWED_LAST = "owed_last"
    REVALIDATION = "revalidation"
    ALARM = "alarm"
    CARDS_VERSION = "cards_version"
    UNPUBLISHING = "unpublishing"
    FILES_KNOWN = "files_known"


def get(db: Connection, fact: Fact) -> Any:
    """The value of a fact, or None."""
    return db.execute(select(Meta.value).where(Meta.name == fact)).scalar()


def put(db: Connection, fact: Fact, value: Any) -> None:
    """Set a fact; None forgets it."""
    if value is None:
        db.execute(delete(Meta).where(Meta.name == fact))
    else:
        upsert(db, Meta, [{"name": fact, "value": value}], update=["value"])
