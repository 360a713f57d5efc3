"""Windows are named by their local day; limits set at run time, events, leases, and times of answered requests."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_HELD_WITH_LEASE = sa.text("state = 'held' AND lease_us IS NOT NULL")


def upgrade() -> None:
    """Windows were those of UTC, so their first days, and the days of reservations, are the dates of UTC."""
    big = sa.BigInteger
    op.create_table(
        "windows_by_day",
        sa.Column("scope", sa.String(100), primary_key=True),
        sa.Column("period", sa.String(10), primary_key=True),
        sa.Column("starts_on", sa.String(10), primary_key=True),
        sa.Column("reserved_nano", big, nullable=False),
        sa.Column("spent_nano", big, nullable=False),
        sa.Column("reserved_tokens", big, nullable=False),
        sa.Column("spent_tokens", big, nullable=False),
    )
    op.execute(
        f"INSERT INTO windows_by_day SELECT scope, period, {_date('starts_us')}, reserved_nano, spent_nano, "  # noqa: S608
        "reserved_tokens, spent_tokens FROM windows"
    )
    op.drop_table("windows")
    op.rename_table("windows_by_day", "windows")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER INDEX windows_by_day_pkey RENAME TO windows_pkey")

    op.add_column("reservations", sa.Column("day", sa.String(10), nullable=False, server_default=""))
    op.add_column("reservations", sa.Column("scopes", sa.Text, nullable=False, server_default="[]"))
    op.add_column("reservations", sa.Column("lease_s", sa.Float, nullable=False, server_default="0"))
    op.add_column("reservations", sa.Column("lease_us", big))
    op.add_column("reservations", sa.Column("open_calls", sa.Text, nullable=False, server_default="[]"))
    op.execute(
        f"UPDATE reservations SET day = {_date('created_us')}, "  # noqa: S608
        """scopes = '["tenant:' || tenant || '", "global"]'"""
    )
    op.drop_column("reservations", "windows")
    op.create_index("ix_reservations_day", "reservations", ["day"])
    op.create_index(
        "ix_reservations_lease",
        "reservations",
        ["lease_us"],
        sqlite_where=_HELD_WITH_LEASE,
        postgresql_where=_HELD_WITH_LEASE,
    )
    op.add_column("calls", sa.Column("by_lapse", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("requests", sa.Column("at_us", big, nullable=False, server_default="0"))
    op.execute(f"UPDATE requests SET at_us = {time.time_ns() // 1000}")  # noqa: S608  remembered from now on
    op.create_index("ix_requests_at", "requests", ["at_us"])

    op.create_table(
        "budgets",
        sa.Column("scope", sa.String(100), primary_key=True),
        sa.Column("daily_nano", big),
        sa.Column("monthly_nano", big),
        sa.Column("daily_tokens", big),
        sa.Column("monthly_tokens", big),
    )
    op.create_table(
        "events",
        sa.Column("sequence", big().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("key", sa.String(300), nullable=False, unique=True),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("at_us", big, nullable=False),
        sa.Column("scope", sa.String(100), nullable=False),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("run_id", sa.String(36), nullable=False),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("snapshot", sa.Text),
    )
    op.create_index("ix_events_at", "events", ["at_us"])
    op.create_index("ix_events_tenant", "events", ["tenant", "sequence"])


def _date(column: str) -> str:
    """SQL for the date in UTC of a column of microseconds."""
    if op.get_bind().dialect.name == "postgresql":
        return f"to_char(to_timestamp({column} / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD')"
    return f"date({column} / 1000000, 'unixepoch')"
