"""A ledger of the version before knows, after the upgrade, below which source every page's key stands."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, select

from daemon.ledger import owed
from daemon.ledger.ledger import Ledger
from daemon.ledger.migrate import config
from daemon.ledger.tables import Record

MIGRATION = "0003"
OLD_COLUMNS = ("key", "kind", "owner_id", "written_owner_id", "level", "wanted", "written", "attempts")

UNREAD: dict[str, Any] = {
    **{"card": "{}", "shows": "[]", "trusted": False, "cost_requests": 0, "priority": 0, "reason": ""},
    **{"asked": 0, "attempts": 0, "forced": False},
}


def before(db: Connection) -> None:
    """A ledger as the version before left it: two pages, one of which has taken the other's key, and a list."""
    previous = ScriptDirectory.from_config(config(db)).get_revision(MIGRATION).down_revision
    command.upgrade(config(db), str(previous))
    for page, source in (("a", "pages"), ("b", "posts")):
        put(db, "pages", {"id": page, "source": source, **UNREAD})
    rows = [
        ("page:a", "page", "a", "a", 0, "h", "h", 0),
        ("page:b", "page", "b", "a", 0, "h", "outdated", 0),
        ("page:new", "page", "b", None, 0, "h", None, 0),
        ("pages:index", "index", "pages", "pages", 0, "h", "h", 0),
    ]
    for values in rows:
        put(db, "records", dict(zip(OLD_COLUMNS, values, strict=True)))


def put(db: Connection, table: str, row: dict[str, Any]) -> None:
    """A row of a table as it was then, whatever it has become."""
    columns, values = ", ".join(row), ", ".join(f":{name}" for name in row)
    db.exec_driver_sql(f"INSERT INTO {table} ({columns}) VALUES ({values})", row)


async def test_an_upgraded_ledger_tells_of_old_places(tmp_path: Path) -> None:
    """Fails when the new columns stay empty: a page that leaves right after the upgrade has no path to be told of."""
    engine = create_engine(f"sqlite:///{tmp_path / 'ledger.db'}")
    with engine.begin() as db:
        before(db)
    engine.dispose()
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    await ledger.open()

    def look(db: Connection) -> tuple[list[tuple[str | None, ...]], list[str]]:
        question = select(Record.key, Record.source, Record.written_source).order_by(Record.key)
        found = [tuple(row) for row in db.execute(question)]
        owed.owe(db, ["page:a", "page:b"], {"pages": "/{slug}", "posts": "/blog/{slug}"})
        return found, [debt.value for debt in owed.first(db, 10)]

    found, debts = await ledger.call(look)
    assert found == [
        ("page:a", "pages", "pages"),
        ("page:b", "posts", "pages"),
        ("page:new", "posts", None),
        ("pages:index", None, None),
    ]
    assert debts == ["page:a", "/a", "page:b", "/b", "/blog/b"]
    await ledger.close()
