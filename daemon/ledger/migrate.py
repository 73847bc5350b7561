"""Brings a ledger to this version's tables, with Alembic, in one transaction; several daemons may start at once."""

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from daemon.ledger.version import NewerLedgerError, current, migrations_folder

POSTGRES_LOCK = 5_126_418_337
"""Any number of our own: only daemons that migrate the same ledger wait for each other."""


def config(db: Connection | None = None) -> Config:
    """Alembic's configuration, without a file; `db` is the connection whose transaction it runs in."""
    settings = Config()
    settings.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    settings.attributes["connection"] = db
    return settings


def upgrade(engine: Engine) -> None:
    """Upgrade to the newest tables. Raises NewerLedgerError and leaves a newer ledger as it is."""
    with engine.begin() as db:
        if db.dialect.name == "postgresql":
            db.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": POSTGRES_LOCK})
        if is_behind(db):
            command.upgrade(config(db), "head")


def is_behind(db: Connection) -> bool:
    """Whether there is no ledger yet, or one that an upgrade would change. Raises NewerLedgerError."""
    script = ScriptDirectory.from_config(config(db))
    present = current(db)
    known = {revision.revision for revision in script.walk_revisions()}
    if present is not None and present not in known:
        raise NewerLedgerError(present)
    return present != script.get_current_head()
