"""The tables of roll-ups, from which reports are read: they never scan the ledger."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Boolean, Column, Index, String, Table, false

from djp.upserts import insert_into
from djp_governance.adapters.tables import metadata

if TYPE_CHECKING:
    from sqlalchemy import Select

SUMS = ("runs", "calls", "input_tokens", "output_tokens", "cost_nano")


_LENGTHS = {"tenant": 63, "day": 10, "month": 7, "model": 200, "workflow": 100, "preset": 100}


def _columns(*key: str) -> list[Column[Any]]:
    """The key of a row, and its sums. Days are those of the deployment's zone: 2026-03-31, months 2026-03."""
    names = [Column(name, String(_LENGTHS[name]), primary_key=True) for name in key]
    return [*names, *(Column(name, BigInteger, nullable=False) for name in SUMS)]


# What was charged, by tenant, the day of the reservation, model, workflow and preset. The row whose model is empty has
# the sum over models, in which a run with several models counts once. A run counts in one row, that of its first call.
# A day that is over moves to the closed tables (sql_closing.py); what is charged for it later begins a new row here, so
# what is true of a day is the sum of both.
rollups = Table(
    "rollups",
    metadata,
    *_columns("tenant", "day", "model", "workflow", "preset"),
    Column(
        "closing", Boolean, nullable=False, server_default=false()
    ),  # true only inside the transaction that moves it
)
Index("ix_rollups_day", rollups.c.day)
Index("ix_rollups_closing", rollups.c.day, sqlite_where=rollups.c.closing, postgresql_where=rollups.c.closing)

# The same rows of days that are over. No charge writes them, so they may have indexes that a charge could not afford.
closed_rollups = Table(
    "closed_rollups",
    metadata,
    *_columns("tenant", "day", "model", "workflow", "preset"),
)
Index("ix_closed_rollups_day", closed_rollups.c.day)

# Their sums over all tenants, by model.
closed_days = Table(
    "closed_days",
    metadata,
    *_columns("day", "model", "workflow", "preset"),
)

# What a tenant spent on a day that is over, in all.
closed_tenant_days = Table(
    "closed_tenant_days",
    metadata,
    *_columns("tenant", "day"),
)
Index("ix_closed_tenant_days_day", closed_tenant_days.c.day)

# Their sums over a month, workflows and presets; with an empty model, over all models.
closed_months = Table(
    "closed_months",
    metadata,
    *_columns("month", "tenant", "model"),
)

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


@cache
def add_to(dialect: str, table: Table, rows: Select[Any] | None = None) -> Any:
    """An INSERT of rows, given with it or found by a query, that adds its sums to those of a row that is there."""
    new = insert_into(dialect, table)
    if rows is not None:
        new = new.from_select(rows.selected_columns.keys(), rows)
    return new.on_conflict_do_update(
        index_elements=list(table.primary_key.columns), set_={name: table.c[name] + new.excluded[name] for name in SUMS}
    )
