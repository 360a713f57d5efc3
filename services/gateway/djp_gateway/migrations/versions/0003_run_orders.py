"""What people ordered of runs: to cancel them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "run_orders",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("request_id", sa.String(36), primary_key=True),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("run_id", sa.String(36), sa.ForeignKey("runs.run_id"), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("ordered_us", sa.BigInteger, nullable=False),
        sa.Column("sealed_order", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_run_orders_run", "run_orders", ["run_id", "ordered_us"])
