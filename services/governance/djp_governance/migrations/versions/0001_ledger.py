"""Windows, reservations, entries, charged calls and answered requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    big = sa.BigInteger
    op.create_table(
        "windows",
        sa.Column("scope", sa.String(100), primary_key=True),
        sa.Column("period", sa.String(10), primary_key=True),
        sa.Column("starts_us", big, primary_key=True),
        sa.Column("reserved_nano", big, nullable=False),
        sa.Column("spent_nano", big, nullable=False),
        sa.Column("reserved_tokens", big, nullable=False),
        sa.Column("spent_tokens", big, nullable=False),
    )
    op.create_table(
        "reservations",
        sa.Column("reservation_id", sa.String(36), primary_key=True),
        sa.Column("run_id", sa.String(36), nullable=False),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("reserved_nano", big, nullable=False),
        sa.Column("reserved_tokens", big, nullable=False),
        sa.Column("charged_nano", big, nullable=False),
        sa.Column("charged_tokens", big, nullable=False),
        sa.Column("created_us", big, nullable=False),
        sa.Column("closed_us", big),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("windows", sa.Text, nullable=False),
    )
    op.create_index("ix_reservations_run", "reservations", ["tenant", "run_id"])
    op.create_index("ix_reservations_newest", "reservations", ["tenant", "created_us", "reservation_id"])
    op.create_index("ix_reservations_state", "reservations", ["tenant", "state", "created_us", "reservation_id"])
    op.create_table(
        "entries",
        sa.Column("entry_id", big().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("reservation_id", sa.String(36), sa.ForeignKey("reservations.reservation_id"), nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("reserved_nano", big, nullable=False),
        sa.Column("spent_nano", big, nullable=False),
        sa.Column("reserved_tokens", big, nullable=False),
        sa.Column("spent_tokens", big, nullable=False),
        sa.Column("at_us", big, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_index("ix_entries_reservation", "entries", ["reservation_id"])
    op.create_table(
        "calls",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("call_id", sa.String(36), primary_key=True),
        sa.Column("reservation_id", sa.String(36), sa.ForeignKey("reservations.reservation_id"), nullable=False),
        sa.Column("model", sa.String(200), nullable=False),
        sa.Column("cost_nano", big, nullable=False),
        sa.Column("input_tokens", big, nullable=False),
        sa.Column("output_tokens", big, nullable=False),
        sa.Column("usage_unknown", sa.Boolean, nullable=False),
        sa.Column("at_us", big, nullable=False),
    )
    op.create_index("ix_calls_reservation", "calls", ["reservation_id"])
    op.create_table(
        "requests",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("request_id", sa.String(36), primary_key=True),
        sa.Column("body_sha256", sa.String(64), nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
    )
