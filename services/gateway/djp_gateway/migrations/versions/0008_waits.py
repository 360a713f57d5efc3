"""Since when a run waits, which tenants are slowed, and an index over the runs in work."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column, which says of runs that wait now that they always did; make the table and the index."""
    op.add_column("runs", sa.Column("queued_us", sa.BigInteger, nullable=False, server_default="0"))
    op.execute("UPDATE runs SET queued_us = created_us WHERE waiting")
    op.create_index(
        "ix_runs_working",
        "runs",
        ["tenant"],
        sqlite_where=sa.text("terminal IS 0 AND waiting IS 0 AND due_us IS NULL"),
        postgresql_where=sa.text("terminal IS FALSE AND waiting IS FALSE AND due_us IS NULL"),
    )
    op.create_table(
        "slowed_tenants",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("until_us", sa.BigInteger, nullable=False),
    )
