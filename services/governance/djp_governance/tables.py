"""The ledger's tables. Amounts are nano-dollars, times microseconds since 1970 in UTC."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text

metadata = MetaData()

windows = Table(
    "windows",
    metadata,
    Column("scope", String(100), primary_key=True),
    Column("period", String(10), primary_key=True),
    Column("starts_us", BigInteger, primary_key=True),
    Column("resets_us", BigInteger, nullable=False),
    Column("limit_nano", BigInteger, nullable=False),
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
)
Index("ix_reservations_run", reservations.c.tenant, reservations.c.run_id)
Index("ix_reservations_state", reservations.c.tenant, reservations.c.state, reservations.c.reservation_id)

# Never updated, never deleted. A reservation's rows balance: reserve = charges covered by it + what was given back.
entries = Table(
    "entries",
    metadata,
    Column("entry_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("reservation_id", String(36), ForeignKey("reservations.reservation_id"), nullable=False),
    Column("kind", String(10), nullable=False),  # reserve, charge, settle, release
    Column("amount_nano", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("call_id", String(36), unique=True),  # of a charge
    Column("model", String(200)),
    Column("input_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("usage_unknown", Integer),
)
Index("ix_entries_reservation", entries.c.reservation_id)

requests = Table(
    "requests",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("request_id", String(36), primary_key=True),
    Column("body_sha256", String(64), nullable=False),
    Column("answer", Text, nullable=False),  # JSON
)
