"""API keys: who may call, as which tenant and in which role."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(36), primary_key=True),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("role", sa.Integer, nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.String(200), nullable=False),
        sa.Column("expires_us", sa.BigInteger),
        sa.Column("revoked_us", sa.BigInteger),
        sa.Column("revoked_by", sa.String(200), nullable=False),
        sa.Column("last_used_us", sa.BigInteger),
        sa.Column("rate_limit", sa.Integer, nullable=False),
        sa.UniqueConstraint("secret_sha256", name="uq_api_keys_secret"),
    )
    op.create_index("ix_api_keys_tenant", "api_keys", ["tenant", "created_us", "key_id"])
