"""Which rows of a source are published, and the slugs that pages had before."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "former_slugs",
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("page_id", sa.String(length=36), nullable=False),
        sa.Column("since", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("slug"),
    )
    # Not in batch mode: that makes SQLite drop and copy the table, and what refers to pages (their content) goes along.
    op.add_column("sources", sa.Column("rule", sa.Text(), nullable=True))
    op.add_column("sources", sa.Column("rule_problem", sa.Text(), nullable=True))
    for table, column in (("sources", "frozen"), ("pages", "shown")):
        op.add_column(table, sa.Column(column, sa.Boolean(), nullable=False, server_default=sa.false()))
    # Until now every page that has its slug was published.
    pages_now = sa.table("pages", sa.column("slug"), sa.column("shown"))
    op.execute(sa.update(pages_now).where(pages_now.c.slug.is_not(None)).values(shown=sa.true()))
