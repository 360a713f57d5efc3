"""The runs that roll-ups count, filled from the calls that the ledger has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """A row for each run and model and, with an empty model, one over all models, with the place of its first call."""
    op.create_table(
        "counted_runs",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("run_id", sa.String(36), primary_key=True),
        sa.Column("model", sa.String(200), primary_key=True),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("workflow", sa.String(100), nullable=False),
        sa.Column("preset", sa.String(100), nullable=False),
    )
    op.create_index("ix_counted_runs_day", "counted_runs", ["day"])
    for model, per_run in (("c.model", "r.tenant, r.run_id, c.model"), ("''", "r.tenant, r.run_id")):
        op.execute(
            f"""
            INSERT INTO counted_runs
            SELECT tenant, run_id, model, many, day, workflow, preset
            FROM (
                SELECT r.tenant, r.run_id, {model} AS model, COUNT(*) OVER (PARTITION BY {per_run}) AS many, r.day,
                       {_tag("workflow")} AS workflow, {_tag("preset")} AS preset,
                       ROW_NUMBER() OVER (PARTITION BY {per_run} ORDER BY c.at_us, c.call_id) AS place
                FROM calls c JOIN reservations r ON r.reservation_id = c.reservation_id
            ) AS told
            WHERE place = 1
            """  # noqa: S608  the parts are those above
        )


def _tag(name: str) -> str:
    """SQL for the first 100 characters of a reservation's tag, as the migration before has it.

    A NUL is an escape in JSON that Postgres refuses, and that ends a text for SQLite. What looks like one behind an
    escaped backslash is none, so such backslashes are set aside meanwhile, as a character that JSON has never plain.
    """
    postgres = op.get_bind().dialect.name == "postgresql"
    aside = "chr(1)" if postgres else "char(1)"
    text = rf"replace(replace(replace(r.tags, '\\', {aside}), '\u0000', '\ufffd'), {aside}, '\\')"
    value = f"({text})::json ->> '{name}'" if postgres else f"json_extract({text}, '$.{name}')"
    return f"substr(coalesce({value}, ''), 1, 100)"
