"""What recent cycles did, for people."""

from typing import Any

from sqlalchemy import Connection, delete, insert, select

from daemon.ledger.tables import CycleRow

KEPT = 500


def keep(db: Connection, started_at: float, summary: dict[str, Any]) -> None:
    """Keep a cycle, and forget the oldest beyond a few hundred."""
    db.execute(insert(CycleRow).values(started_at=started_at, summary=summary))
    newest = db.execute(select(CycleRow.id).order_by(CycleRow.id.desc()).limit(1)).scalar() or 0
    db.execute(delete(CycleRow).where(CycleRow.id <= newest - KEPT))


def recent(db: Connection, limit: int = 20) -> list[dict[str, Any]]:
    """The last cycles that did something, newest first."""
    found = db.execute(select(CycleRow.summary).order_by(CycleRow.id.desc()).limit(limit))
    return [summary for (summary,) in found]
