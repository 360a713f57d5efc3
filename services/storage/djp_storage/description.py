"""What is kept beside an object's bytes: all of the artifact that the catalogue could not learn from the bytes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from djp_storage.model import Artifact, ArtifactKey, Tier

if TYPE_CHECKING:
    from typing import Any


_to_line = json.JSONEncoder(separators=(",", ":")).encode


def describe(artifact: Artifact) -> str:
    """As one line of ASCII, without what changes while the object stays."""
    return _to_line(
        {
            "tenant": artifact.key.tenant,
            "workflow": artifact.key.workflow,
            "artifact": artifact.key.artifact,
            "size": artifact.size,
            "sha256": artifact.sha256,
            "content_type": artifact.content_type,
            "run_id": artifact.run_id,
            "tags": dict(artifact.tags),
            "created_at": artifact.created_at.isoformat(),
            "encoding": artifact.encoding,
        }
    )


def describe_key(key: ArtifactKey) -> str:
    """What is kept beside bytes that are still on their way: whose they are."""
    return _to_line({"tenant": key.tenant, "workflow": key.workflow, "artifact": key.artifact})


def described_key(text: str) -> ArtifactKey | None:
    """Whose bytes a description is of; None for a text that describes none."""
    try:
        told: dict[str, Any] = json.loads(text)
        return ArtifactKey(str(told["tenant"]), str(told["workflow"]), str(told["artifact"]))
    except (ValueError, KeyError, TypeError):
        return None


def read_description(text: str, tier: Tier, object_id: str, since: datetime) -> Artifact | None:
    """The artifact whose object is in that tier since then; None for a text that describes none."""
    try:
        told: dict[str, Any] = json.loads(text)
        created = datetime.fromisoformat(told["created_at"]).astimezone(UTC)
        return Artifact(
            key=ArtifactKey(str(told["tenant"]), str(told["workflow"]), str(told["artifact"])),
            tier=tier,
            size=int(told["size"]),
            sha256=str(told["sha256"]),
            content_type=str(told["content_type"]),
            run_id=str(told["run_id"]),
            tags={str(name): str(value) for name, value in told["tags"].items()},
            created_at=created,
            modified_at=created,
            tier_since=since,
            object_id=object_id,
            encoding=str(told["encoding"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
