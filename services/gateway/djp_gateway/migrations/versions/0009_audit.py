"""Audit events, and the calls of a key that all gateways count together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column and make the table."""
    op.add_column("api_keys", sa.Column("full_us", sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "audit_events",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("actor", sa.String(300), nullable=False),
        sa.Column("subject", sa.String(300), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_audit_events_tenant", "audit_events", ["tenant", "sequence"])
    op.create_index("ix_audit_events_kind", "audit_events", ["kind", "at_us"])
