"""Roll-ups for reports, filled from the calls that the ledger has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_KEY = ("tenant", "day", "model", "workflow", "preset")
_SUMS = ("runs", "calls", "input_tokens", "output_tokens", "cost_nano")
_LENGTH = {"tenant": 63, "day": 10, "model": 200, "workflow": 100, "preset": 100}


def upgrade() -> None:
    """Rows by model and, with an empty model, over all models; a run counts in the row of its first call."""
    op.create_table(
        "rollups",
        *(sa.Column(name, sa.String(_LENGTH[name]), primary_key=True) for name in _KEY),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _SUMS),
    )
    op.create_index("ix_rollups_day", "rollups", ["day"])
    for model, per_run in (("c.model", "r.tenant, r.run_id, c.model"), ("''", "r.tenant, r.run_id")):
        op.execute(
            f"""
            INSERT INTO rollups
            SELECT tenant, day, model, workflow, preset,
                   SUM(CASE WHEN place = 1 THEN 1 ELSE 0 END), COUNT(*), SUM(input_tokens), SUM(output_tokens),
                   SUM(cost_nano)
            FROM (
                SELECT r.tenant, r.day, {model} AS model, {_tag("workflow")} AS workflow, {_tag("preset")} AS preset,
                       c.input_tokens, c.output_tokens, c.cost_nano,
                       ROW_NUMBER() OVER (PARTITION BY {per_run} ORDER BY c.at_us, c.call_id) AS place
                FROM calls c JOIN reservations r ON r.reservation_id = c.reservation_id
            ) AS told
            GROUP BY tenant, day, model, workflow, preset
            """  # noqa: S608  the parts are those above
        )


def _tag(name: str) -> str:
    """SQL for the first 100 characters of a reservation's tag, as the service has it.

    A NUL is an escape in JSON that Postgres refuses, and that ends a text for SQLite. What looks like one behind an
    escaped backslash is none, so such backslashes are set aside meanwhile, as a character that JSON has never plain.
    """
    postgres = op.get_bind().dialect.name == "postgresql"
    aside = "chr(1)" if postgres else "char(1)"
    text = rf"replace(replace(replace(r.tags, '\\', {aside}), '\u0000', '\ufffd'), {aside}, '\\')"
    value = f"({text})::json ->> '{name}'" if postgres else f"json_extract({text}, '$.{name}')"
    return f"substr(coalesce({value}, ''), 1, 100)"
