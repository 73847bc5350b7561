"""Which tables a ledger has and which this version wants, found out without Alembic: importing it takes long, and
nearly every start finds that nothing is to be done."""

from importlib import resources
from pathlib import Path

from sqlalchemy import Connection, inspect, text


class NewerLedgerError(Exception):
    """The ledger was written by a newer version. The message is that version's migration."""


def migrations_folder() -> Path:
    """Where the migrations are: beside the package in a checkout, inside it once installed."""
    package = Path(str(resources.files("daemon")))
    installed = package / "_migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def newest() -> str:
    """The newest migration. Each file's name begins with its revision, and they are numbered."""
    return max(path.name.partition("_")[0] for path in (migrations_folder() / "versions").glob("[0-9]*_*.py"))


def current(db: Connection) -> str | None:
    """The migration a database is at, or None where there is no ledger yet."""
    if not inspect(db).has_table("alembic_version"):
        return None
    version: str | None = db.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return version


def is_newest(db: Connection) -> bool:
    """Whether the tables are those of this version."""
    return current(db) == newest()
