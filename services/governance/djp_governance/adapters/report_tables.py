"""The tables of roll-ups, from which reports are read: they never scan the ledger."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, String, Table

from djp_governance.adapters.tables import metadata

# What was charged, by tenant, the day of the reservation, model, workflow and preset. The row whose model is empty has
# the sum over models, in which a run with several models counts once. A run counts in one row, that of its first call.
rollups = Table(
    "rollups",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("day", String(10), primary_key=True),  # in the deployment's zone: 2026-03-31
    Column("model", String(200), primary_key=True),
    Column("workflow", String(100), primary_key=True),
    Column("preset", String(100), primary_key=True),
    Column("runs", BigInteger, nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
)
Index("ix_rollups_day", rollups.c.day)

# The runs that the roll-ups count: a row for each model that calls of the run were charged of, and one with an empty
# model over all. It says how many calls those are, and in which row of the roll-ups the run counts.
counted_runs = Table(
    "counted_runs",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("run_id", String(36), primary_key=True),
    Column("model", String(200), primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("day", String(10), nullable=False),
    Column("workflow", String(100), nullable=False),
    Column("preset", String(100), nullable=False),
)
Index("ix_counted_runs_day", counted_runs.c.day)
