"""Batches: runs of many rows under one cap."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "batches",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("batch_id", sa.String(100), primary_key=True),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("executor", sa.String(255), nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("checked", sa.Integer, nullable=False),
        sa.Column("refused", sa.Integer, nullable=False),
        sa.Column("next_row", sa.Integer, nullable=False),
        sa.Column("working", sa.Integer, nullable=False),
        sa.Column("published", sa.Integer, nullable=False),
        sa.Column("advisory", sa.Integer, nullable=False),
        sa.Column("failed", sa.Integer, nullable=False),
        sa.Column("no_room", sa.Boolean, nullable=False),
        sa.Column("spent_nano_usd", sa.BigInteger, nullable=False),
        sa.Column("held_nano_usd", sa.BigInteger, nullable=False),
        sa.Column("max_cost_nano_usd", sa.BigInteger),
        sa.Column("concurrency", sa.Integer, nullable=False),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("finished_us", sa.BigInteger),
    )
    op.create_index("ix_batches_newest", "batches", ["tenant", "created_us", "batch_id"])
    op.create_index(
        "ix_batches_live",
        "batches",
        ["tenant", "batch_id"],
        sqlite_where=sa.text("finished_us IS NULL"),
        postgresql_where=sa.text("finished_us IS NULL"),
    )
    op.create_table(
        "batch_rows",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("batch_id", sa.String(100), primary_key=True),
        sa.Column("row", sa.Integer, primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("sealed_request", sa.LargeBinary, nullable=False),
        sa.Column("sealed_spec", sa.LargeBinary),
        sa.Column("sealed_error", sa.LargeBinary),
        sa.Column("bound_nano_usd", sa.BigInteger, nullable=False),
        sa.Column("held_nano_usd", sa.BigInteger, nullable=False),
        sa.Column("run_id", sa.String(36)),
        sa.Column("under_way", sa.Boolean, nullable=False),
        sa.Column("state", sa.Integer, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_batch_rows_changed", "batch_rows", ["tenant", "batch_id", "sequence"])
    op.create_index(
        "ix_batch_rows_under_way",
        "batch_rows",
        ["tenant", "batch_id", "run_id"],
        sqlite_where=sa.text("under_way"),
        postgresql_where=sa.text("under_way"),
    )
