"""What the site is still to be told, and the source of every page's key."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "owed",
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "value"),
    )
    op.create_index("owed_position", "owed", ["position"], unique=False)
    op.create_index("owed_version", "owed", ["version"], unique=False)
    op.add_column("records", sa.Column("source", sa.String(length=200), nullable=True))
    op.add_column("records", sa.Column("written_source", sa.String(length=200), nullable=True))
    records = sa.table(
        "records",
        *map(sa.column, ("kind", "owner_id", "written_owner_id", "written", "source", "written_source")),
    )
    pages = sa.table("pages", sa.column("id"), sa.column("source"))
    for to, owner in (("source", records.c.owner_id), ("written_source", records.c.written_owner_id)):
        found = sa.select(pages.c.source).where(pages.c.id == owner).scalar_subquery()
        op.execute(sa.update(records).where(records.c.kind == "page").values({to: found}))


def downgrade() -> None:
    op.drop_column("records", "written_source")
    op.drop_column("records", "source")
    op.drop_index("owed_version", table_name="owed")
    op.drop_index("owed_position", table_name="owed")
    op.drop_table("owed")
