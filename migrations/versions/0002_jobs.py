"""Tasks as jobs: who asked, how far they got, when they are tried again; calls that are delivered twice."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("task_id", sa.String(length=36), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("tasks") as tasks:
        tasks.add_column(sa.Column("origin", sa.String(length=20), nullable=False, server_default="command"))
        tasks.add_column(sa.Column("steps", sa.Text(), nullable=False, server_default="[]"))
        tasks.add_column(sa.Column("numbers", sa.Text(), nullable=False, server_default="{}"))
        tasks.add_column(sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"))
        tasks.add_column(sa.Column("retries_left", sa.Integer(), nullable=False, server_default="0"))
        tasks.add_column(sa.Column("next_try_at", sa.Float(), nullable=True))
        tasks.add_column(sa.Column("problem", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("tasks") as tasks:
        for column in ("problem", "next_try_at", "retries_left", "attempts", "numbers", "steps", "origin"):
            tasks.drop_column(column)
    op.drop_table("deliveries")
