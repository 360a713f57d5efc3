"""Indexes by which no look at the queue reads the runs of a tenant that waits for its own ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

_TURN = ["tenant", "urgency", "created_us", "run_id", "spec_version"]


def upgrade() -> None:
    """Make them, and drop those that they replace."""
    op.drop_index("ix_runs_unfinished")
    op.drop_index("ix_runs_waiting")
    for name, columns, sqlite, postgres in (
        ("queue", _TURN, "waiting IS 1 AND executor != 'command'", "waiting IS TRUE AND executor != 'command'"),
        (
            "queue_of_commands",
            _TURN,
            "waiting IS 1 AND executor = 'command'",
            "waiting IS TRUE AND executor = 'command'",
        ),
        (
            "queue_depth",
            ["spec_version", "queued_us"],
            "waiting IS 1 AND executor != 'command'",
            "waiting IS TRUE AND executor != 'command'",
        ),
        (
            "working_at",
            ["executor"],
            "terminal IS 0 AND waiting IS 0 AND due_us IS NULL",
            "terminal IS FALSE AND waiting IS FALSE AND due_us IS NULL",
        ),
    ):
        op.create_index(
            f"ix_runs_{name}", "runs", columns, sqlite_where=sa.text(sqlite), postgresql_where=sa.text(postgres)
        )
