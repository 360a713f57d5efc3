"""Which version of a run's spec a gateway has to know to work on it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the column; all runs so far, and those that an older gateway adds meanwhile, have the first version."""
    op.add_column("runs", sa.Column("spec_version", sa.Integer, nullable=False, server_default="1"))
