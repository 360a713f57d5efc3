"""Tiers, holds, strays, tombstones, events and jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_WIDE = sa.BigInteger


def _key() -> list[sa.Column[str]]:
    return [
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("workflow", sa.String(200), primary_key=True),
        sa.Column("artifact", sa.String(200), primary_key=True),
    ]


def upgrade() -> None:
    """Add to the tables that are there, and make the new ones."""
    with op.batch_alter_table("artifacts", recreate="never") as batch:
        for name, length in (("object_id", 12), ("encoding", 10), ("came_from", 10)):
            batch.add_column(sa.Column(name, sa.String(length), nullable=False, server_default=""))
        batch.add_column(sa.Column("hold", sa.Integer, nullable=False, server_default="0"))
    with op.batch_alter_table("requests", recreate="never") as batch:
        batch.add_column(sa.Column("body_sha256", sa.String(64), nullable=False, server_default=""))
        batch.add_column(sa.Column("answer", sa.Text, nullable=False, server_default=""))
        batch.add_column(sa.Column("at_us", _WIDE, nullable=False, server_default="0"))
    op.create_index("ix_requests_at", "requests", ["at_us"])
    op.create_index("ix_artifacts_workflow_size", "artifacts", ["tenant", "workflow", "size", "artifact"])
    op.create_index("ix_artifacts_tier", "artifacts", ["tenant", "tier", "created_us", "workflow", "artifact"])
    op.create_index("ix_artifacts_tier_size", "artifacts", ["tenant", "tier", "size", "workflow", "artifact"])
    op.create_index("ix_artifacts_due", "artifacts", ["tier", "tier_since_us"])
    op.create_index("ix_artifacts_tenant_due", "artifacts", ["tenant", "tier", "tier_since_us"])
    op.create_index("ix_artifacts_age", "artifacts", ["created_us"])
    op.create_table(
        "tombstones",
        *_key(),
        sa.Column("sha256", sa.String(64), nullable=False),
        *(sa.Column(name, _WIDE, nullable=False) for name in ("size", "created_us", "erased_us")),
    )
    op.create_table(
        "holds",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("since_us", _WIDE, nullable=False),
        sa.Column("reason", sa.String(1000), nullable=False),
    )
    op.create_table(
        "strays",
        sa.Column("object_id", sa.String(12), primary_key=True),
        *_key(),
        sa.Column("tier", sa.String(10), primary_key=True),
        sa.Column("worker", sa.String(36), nullable=False),
        sa.Column("since_us", _WIDE, nullable=False),
    )
    op.create_index("ix_strays_worker", "strays", ["worker", "since_us"])
    op.create_table("claims", *_key(), sa.Column("worker", sa.String(36), nullable=False))
    op.create_index("ix_claims_worker", "claims", ["worker"])
    op.create_table(
        "workers",
        sa.Column("worker", sa.String(36), primary_key=True),
        sa.Column("seen_us", _WIDE, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("sequence", _WIDE().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("at_us", _WIDE, nullable=False),
        *(
            sa.Column(name, sa.String(length), nullable=False)
            for name, length in (
                ("actor", 100),
                ("action", 40),
                ("tenant", 63),
                ("workflow", 200),
                ("artifact", 200),
                ("from_tier", 10),
                ("to_tier", 10),
            )
        ),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_index("ix_events_key", "events", ["tenant", "workflow", "artifact", "sequence"])
    op.create_index("ix_events_tenant", "events", ["tenant", "sequence"])
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(36), primary_key=True),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("live", sa.Integer, nullable=False),
        sa.Column("started_us", _WIDE, nullable=False),
        sa.Column("finished_us", _WIDE, nullable=True),
        *(
            sa.Column(name, _WIDE, nullable=False)
            for name in ("to_warm", "to_cold", "to_trash", "erased", "bytes_moved", "errors")
        ),
        sa.Column("stopped", sa.Integer, nullable=False),
    )
    op.create_index("ix_jobs_started", "jobs", ["tenant", "live", "started_us"])
