"""The ledger's tables. Amounts are nano-dollars, times microseconds since 1970 in UTC."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

# What every window holds now: the sums of the entries of the reservations made in it.
windows = Table(
    "windows",
    metadata,
    Column("scope", String(100), primary_key=True),
    Column("period", String(10), primary_key=True),
    Column("starts_us", BigInteger, primary_key=True),
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
    # JSON list of [scope, period, starts_us]: a run that crosses midnight is charged and settled where it was reserved.
    Column("windows", Text, nullable=False),
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

# The journal, never updated, never deleted. Amounts are signed changes: the reserved_nano of a closed reservation add
# up to zero, its spent_nano to what was charged.
entries = Table(
    "entries",
    metadata,
    Column("entry_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("reservation_id", String(36), ForeignKey("reservations.reservation_id"), nullable=False),
    Column("kind", String(10), nullable=False),  # reserve, charge, settled, released
    Column("reserved_nano", BigInteger, nullable=False),
    Column("spent_nano", BigInteger, nullable=False),
    Column("reserved_tokens", BigInteger, nullable=False),
    Column("spent_tokens", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),  # of a release
)
Index("ix_entries_reservation", entries.c.reservation_id)

# Model calls that were charged, never updated, never deleted. A tenant is charged once for a call_id.
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
)
