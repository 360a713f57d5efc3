"""Indexes that know which dead letters are replayed, and what replays have used, without a look at the runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Make them anew with more columns."""
    for name, columns, where in (
        ("ix_runs_dead", ["tenant", "died_us", "run_id", "replayed_as"], "died_us IS NOT NULL"),
        (
            "ix_runs_share",
            ["tenant", "share_us", "terminal", "cost_nano_usd", "share_nano_usd"],
            "share_us IS NOT NULL",
        ),
    ):
        op.drop_index(name)
        op.create_index(name, "runs", columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
