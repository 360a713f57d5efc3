"""The calls of tokens' subjects, which all gateways count together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "token_rates",
        sa.Column("caller", sa.String(64), primary_key=True),
        sa.Column("full_us", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_token_rates_full", "token_rates", ["full_us"])
