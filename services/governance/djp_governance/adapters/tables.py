"""The ledger's tables. Amounts are nano-dollars, times microseconds since 1970 in UTC."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    false,
)

metadata = MetaData()

# What every window holds now: the sums of the entries of the reservations made in it.
windows = Table(
    "windows",
    metadata,
    Column("scope", String(100), primary_key=True),
    Column("period", String(10), primary_key=True),
    Column("starts_on", String(10), primary_key=True),  # its first day in the deployment's zone: 2026-03-31
    Column("reserved_nano", BigInteger, nullable=False),
    Column("spent_nano", BigInteger, nullable=False),
    Column("reserved_tokens", BigInteger, nullable=False),
    Column("spent_tokens", BigInteger, nullable=False),
)

reservations = Table(
    "reservations",
    metadata,
    Column("reservation_id", String(36), primary_key=True),
    Column("run_id", String(36), nullable=False),
    Column("tenant", String(63), nullable=False),
    Column("state", String(10), nullable=False),
    Column("reserved_nano", BigInteger, nullable=False),
    Column("reserved_tokens", BigInteger, nullable=False),
    Column("charged_nano", BigInteger, nullable=False),
    Column("charged_tokens", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("closed_us", BigInteger),
    Column("tags", Text, nullable=False),  # JSON object
    # The day of its windows: a run that crosses midnight is charged and settled where it was reserved.
    Column("day", String(10), nullable=False, server_default=""),
    Column("scopes", Text, nullable=False, server_default="[]"),  # JSON list, in the order in which windows are locked
    Column("lease_s", Float, nullable=False, server_default="0"),  # as asked for; 0: the deployment's default
    Column("lease_us", BigInteger),  # until when; none while nobody asked for a lease
    Column("open_calls", Text, nullable=False, server_default="[]"),  # JSON: what a lapse charges
)
Index("ix_reservations_run", reservations.c.tenant, reservations.c.run_id)
Index("ix_reservations_newest", reservations.c.tenant, reservations.c.created_us, reservations.c.reservation_id)
Index(
    "ix_reservations_state",
    reservations.c.tenant,
    reservations.c.state,
    reservations.c.created_us,
    reservations.c.reservation_id,
)

Index("ix_reservations_day", reservations.c.day)
Index(
    "ix_reservations_lease",
    reservations.c.lease_us,
    sqlite_where=and_(reservations.c.state == "held", reservations.c.lease_us.is_not(None)),
    postgresql_where=and_(reservations.c.state == "held", reservations.c.lease_us.is_not(None)),
)

# The journal, never updated. Amounts are signed changes: the reserved_nano of a closed reservation add
# up to zero, its spent_nano to what was charged.
entries = Table(
    "entries",
    metadata,
    Column("entry_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("reservation_id", String(36), ForeignKey("reservations.reservation_id"), nullable=False),
    Column("kind", String(10), nullable=False),  # reserve, charge, adjust, settled, released, lapsed
    Column("reserved_nano", BigInteger, nullable=False),
    Column("spent_nano", BigInteger, nullable=False),
    Column("reserved_tokens", BigInteger, nullable=False),
    Column("spent_tokens", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),  # of a release
)
Index("ix_entries_reservation", entries.c.reservation_id)

# Model calls that were charged. A tenant is charged once for a call_id; only what a lapse charged is put right later.
calls = Table(
    "calls",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("call_id", String(36), primary_key=True),
    Column("reservation_id", String(36), ForeignKey("reservations.reservation_id"), nullable=False),
    Column("model", String(200), nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("usage_unknown", Boolean, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("by_lapse", Boolean, nullable=False, server_default=false()),
)
Index("ix_calls_reservation", calls.c.reservation_id)

# Answered requests, so that a repeated one gets the first answer.
requests = Table(
    "requests",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("request_id", String(36), primary_key=True),
    Column("body_sha256", String(64), nullable=False),
    Column("answer", Text, nullable=False),  # JSON; empty only inside the transaction that answers
    Column("at_us", BigInteger, nullable=False, server_default="0"),
)
Index("ix_requests_at", requests.c.at_us)

# Limits that were set at run time; they win over the configured ones.
budgets = Table(
    "budgets",
    metadata,
    Column("scope", String(100), primary_key=True),
    Column("daily_nano", BigInteger),
    Column("monthly_nano", BigInteger),
    Column("daily_tokens", BigInteger),
    Column("monthly_tokens", BigInteger),
)

# What an operator should know. Sequences are given under a lock, so that they become visible in their order.
events = Table(
    "events",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("key", String(300), nullable=False, unique=True),  # of one key there is one event
    Column("kind", String(20), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("scope", String(100), nullable=False),
    Column("tenant", String(63), nullable=False),  # who may see it beside the operators; empty: nobody
    Column("run_id", String(36), nullable=False),
    Column("actor", String(100), nullable=False),
    Column("message", Text, nullable=False),
    Column("snapshot", Text),  # JSON object: the window as it was
)
Index("ix_events_at", events.c.at_us)
Index("ix_events_tenant", events.c.tenant, events.c.sequence)
