"""Which rows of a source are published, and the slugs that pages had before."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0001"
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
    with op.batch_alter_table("sources") as sources:
        sources.add_column(sa.Column("rule", sa.Text(), nullable=True))
        sources.add_column(sa.Column("rule_problem", sa.Text(), nullable=True))
        sources.add_column(sa.Column("frozen", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("pages") as pages:
        pages.add_column(sa.Column("shown", sa.Boolean(), nullable=False, server_default=sa.false()))
    # Until now every page that has its slug was published.
    pages_now = sa.table("pages", sa.column("slug"), sa.column("shown"))
    op.execute(sa.update(pages_now).where(pages_now.c.slug.is_not(None)).values(shown=sa.true()))
