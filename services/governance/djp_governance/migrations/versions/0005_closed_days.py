"""Sums of days that are over. What roll-ups there are become those of closed days; charges begin new ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_SUMS = ("runs", "calls", "input_tokens", "output_tokens", "cost_nano")
_LENGTH = {"tenant": 63, "day": 10, "month": 7, "model": 200, "workflow": 100, "preset": 100}
_ROLLUP = ("tenant", "day", "model", "workflow", "preset")


def upgrade() -> None:
    """The tables change names, so that a ledger of years is not copied."""
    op.drop_index("ix_rollups_day", "rollups")
    op.rename_table("rollups", "closed_rollups")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER INDEX rollups_pkey RENAME TO closed_rollups_pkey")
    op.create_index("ix_closed_rollups_day", "closed_rollups", ["day"])

    closing = sa.Column("closing", sa.Boolean, nullable=False, server_default=sa.false())
    _create("rollups", _ROLLUP, closing)
    op.create_index("ix_rollups_day", "rollups", ["day"])
    op.create_index("ix_rollups_closing", "rollups", ["day"], sqlite_where=closing, postgresql_where=closing)

    for table, key, found, among in (
        ("closed_days", ("day", "model", "workflow", "preset"), "day, model, workflow, preset", "model <> ''"),
        ("closed_tenant_days", ("tenant", "day"), "tenant, day", "model = ''"),
        ("closed_months", ("month", "tenant", "model"), "substr(day, 1, 7), tenant, model", "1 = 1"),
    ):
        _create(table, key)
        sums = ", ".join(f"SUM({name})" for name in _SUMS)
        op.execute(
            f"INSERT INTO {table} SELECT {found}, {sums} FROM closed_rollups WHERE {among} GROUP BY {found}"  # noqa: S608
        )
    op.create_index("ix_closed_tenant_days_day", "closed_tenant_days", ["day"])


def _create(table: str, key: tuple[str, ...], *more: sa.Column[bool]) -> None:
    op.create_table(
        table,
        *(sa.Column(name, sa.String(_LENGTH[name]), primary_key=True) for name in key),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _SUMS),
        *more,
    )
