"""Dead letters: what is known of a run that was denied or failed, and of the run that replays it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the columns, and make the table."""
    op.add_column("runs", sa.Column("died_us", sa.BigInteger))
    op.add_column("runs", sa.Column("error_reason", sa.Integer, nullable=False, server_default="0"))
    op.add_column("runs", sa.Column("replayed_as", sa.String(36)))
    op.add_column("runs", sa.Column("replayed_us", sa.BigInteger))
    op.add_column("runs", sa.Column("share_us", sa.BigInteger))
    op.add_column("runs", sa.Column("share_nano_usd", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index(
        "ix_runs_dead",
        "runs",
        ["tenant", "died_us", "run_id"],
        sqlite_where=sa.text("died_us IS NOT NULL"),
        postgresql_where=sa.text("died_us IS NOT NULL"),
    )
    op.create_index(
        "ix_runs_share",
        "runs",
        ["tenant", "share_us"],
        sqlite_where=sa.text("share_us IS NOT NULL"),
        postgresql_where=sa.text("share_us IS NOT NULL"),
    )
    op.create_table(
        "request_answers",
        sa.Column("tenant", sa.String(63), primary_key=True),
        sa.Column("request_id", sa.String(36), primary_key=True),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
    )
