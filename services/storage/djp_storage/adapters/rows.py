"""Between the catalogue's rows and the words of storage."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam

from djp.database import from_us, to_us
from djp_storage.model import Artifact, ArtifactKey, ObjectName, Tier

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement, Table

_sorted = json.JSONEncoder(sort_keys=True).encode


def of_key(table: Table) -> ColumnElement[bool]:
    """The row of the artifact that `key_values` names."""
    return and_(
        table.c.tenant == bindparam("by_tenant"),
        table.c.workflow == bindparam("by_workflow"),
        table.c.artifact == bindparam("by_artifact"),
    )


def key_values(key: ArtifactKey) -> dict[str, Any]:
    """Values for `of_key`."""
    return {"by_tenant": key.tenant, "by_workflow": key.workflow, "by_artifact": key.artifact}


def key_columns(key: ArtifactKey) -> dict[str, Any]:
    """The key in a row."""
    return {"tenant": key.tenant, "workflow": key.workflow, "artifact": key.artifact}


def artifact_row(artifact: Artifact) -> dict[str, Any]:
    """An artifact as its row."""
    return {
        **key_columns(artifact.key),
        "size": artifact.size,
        "sha256": artifact.sha256,
        "content_type": artifact.content_type,
        "run_id": artifact.run_id,
        "tags": _sorted(dict(artifact.tags)),
        "created_us": to_us(artifact.created_at),
        "modified_us": to_us(artifact.modified_at),
        "hold": int(artifact.hold),
        **place_columns(artifact),
    }


def place_columns(artifact: Artifact) -> dict[str, Any]:
    """What changes of its row when an artifact moves."""
    return {
        "tier": artifact.tier.value,
        "tier_since_us": to_us(artifact.tier_since),
        "object_id": artifact.object_id,
        "encoding": artifact.encoding,
        "came_from": artifact.came_from.value if artifact.came_from else "",
    }


def to_artifact(row: Any) -> Artifact:
    """A row's artifact."""
    return _artifact(row._asdict() if hasattr(row, "_asdict") else row._mapping)


def artifact_json(artifact: Artifact) -> str:
    """An artifact as an answer is remembered."""
    return json.dumps(artifact_row(artifact))


def read_artifact_json(text: str) -> Artifact:
    """The artifact of a remembered answer."""
    return _artifact(json.loads(text))


def _artifact(row: Mapping[str, Any]) -> Artifact:
    return Artifact(
        key=ArtifactKey(row["tenant"], row["workflow"], row["artifact"]),
        tier=Tier(row["tier"]),
        size=row["size"],
        sha256=row["sha256"],
        content_type=row["content_type"],
        run_id=row["run_id"],
        tags=json.loads(row["tags"]),
        created_at=from_us(row["created_us"]),
        modified_at=from_us(row["modified_us"]),
        tier_since=from_us(row["tier_since_us"]),
        object_id=row["object_id"],
        encoding=row["encoding"],
        came_from=Tier(row["came_from"]) if row["came_from"] else None,
        hold=bool(row["hold"]),
    )


def object_columns(name: ObjectName) -> dict[str, Any]:
    """An object in a row."""
    return {"object_id": name.object_id, **key_columns(name.key), "tier": name.tier.value}


def to_object(row: Any) -> ObjectName:
    """A row's object."""
    return ObjectName(Tier(row.tier), ArtifactKey(row.tenant, row.workflow, row.artifact), row.object_id)
