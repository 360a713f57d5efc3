"""The times of artifacts in the indexes of their sizes."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

_INDEXES = {
    "ix_artifacts_size": ["tenant", "size", "workflow", "artifact"],
    "ix_artifacts_workflow_size": ["tenant", "workflow", "size", "artifact"],
    "ix_artifacts_tier_size": ["tenant", "tier", "size", "workflow", "artifact"],
}


def upgrade() -> None:
    """Make the indexes anew."""
    for name, columns in _INDEXES.items():
        op.drop_index(name, "artifacts")
        op.create_index(name, "artifacts", [*columns, "created_us"])
