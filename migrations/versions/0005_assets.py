"""Files that Notion hosts: where they are shown, which keys name them, and their copies."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "asset_holds",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("asset_id", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("key", "asset_id"),
    )
    op.create_index("asset_holds_asset", "asset_holds", ["asset_id"], unique=False)
    op.create_table(
        "asset_uses",
        sa.Column("page_id", sa.String(length=36), nullable=False),
        sa.Column("asset_id", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("page_id", "asset_id"),
    )
    op.create_index("asset_uses_asset", "asset_uses", ["asset_id"], unique=False)
    op.create_table(
        "assets",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=True),
        sa.Column("first_seen_at", sa.Float(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("store", sa.String(length=250), nullable=True),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("measured", sa.Boolean(), nullable=False),
        sa.Column("refused", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.Float(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("unused_since", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("assets_digest", "assets", ["digest"], unique=False)
    op.create_index("assets_holder", "assets", ["holder"], unique=False)
    op.create_index("assets_path", "assets", ["path"], unique=False)
    op.create_table(
        "stored_copies",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("store", sa.String(length=250), nullable=False),
        sa.Column("location", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("media_type", sa.String(length=100), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("stored_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "store"),
    )


def downgrade() -> None:
    op.drop_table("stored_copies")
    op.drop_index("assets_path", table_name="assets")
    op.drop_index("assets_holder", table_name="assets")
    op.drop_index("assets_digest", table_name="assets")
    op.drop_table("assets")
    op.drop_index("asset_uses_asset", table_name="asset_uses")
    op.drop_table("asset_uses")
    op.drop_index("asset_holds_asset", table_name="asset_holds")
    op.drop_table("asset_holds")
