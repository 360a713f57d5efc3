"""Runs that wait for an executor, executors that show that they live, and what is kept of a run to resume it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns and make the tables."""
    op.add_column("runs", sa.Column("waiting", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("runs", sa.Column("urgency", sa.Integer, nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("takeovers", sa.Integer, nullable=False, server_default="0"))
    op.create_index(
        "ix_runs_waiting",
        "runs",
        ["tenant", "urgency", "created_us", "run_id"],
        sqlite_where=sa.text("waiting"),
        postgresql_where=sa.text("waiting"),
    )
    op.create_table(
        "executors",
        sa.Column("executor", sa.String(255), primary_key=True),
        sa.Column("beat", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "run_checkpoints",
        sa.Column("run_id", sa.String(36), sa.ForeignKey("runs.run_id"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("sealed_checkpoint", sa.LargeBinary, nullable=False),
    )
