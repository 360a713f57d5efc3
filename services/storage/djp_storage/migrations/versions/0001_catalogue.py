"""Artifacts and answered requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "artifacts",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("workflow", sa.String(200), primary_key=True),
        sa.Column("artifact", sa.String(200), primary_key=True),
        sa.Column("tier", sa.String(10), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("content_type", sa.String(200), nullable=False),
        sa.Column("run_id", sa.String(36), nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("modified_us", sa.BigInteger, nullable=False),
        sa.Column("tier_since_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_artifacts_created", "artifacts", ["tenant", "created_us", "workflow", "artifact"])
    op.create_index("ix_artifacts_size", "artifacts", ["tenant", "size", "workflow", "artifact"])
    op.create_index("ix_artifacts_workflow", "artifacts", ["tenant", "workflow", "created_us", "artifact"])
    op.create_index("ix_artifacts_run", "artifacts", ["tenant", "run_id", "created_us", "workflow", "artifact"])
    op.create_table(
        "requests",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("request_id", sa.String(36), primary_key=True),
        sa.Column("workflow", sa.String(200), nullable=False),
        sa.Column("artifact", sa.String(200), nullable=False),
    )
