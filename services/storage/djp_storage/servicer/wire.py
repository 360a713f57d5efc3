"""Between protobuf and the words of storage."""

from __future__ import annotations

import uuid
from hashlib import sha256
from typing import TYPE_CHECKING

from djp.mesh.identity import current_identity
from djp.mesh.times import from_timestamp, to_timestamp
from djp.v1 import common_pb2, storage_pb2
from djp_storage.model import ArtifactKey, RequestKey, Tier
from djp_storage.names import name_violations, refuse

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from djp_storage.artifacts import Artifacts
    from djp_storage.model import Artifact
    from djp_storage.parts import Parts
    from djp_storage.retention import Retention

    MutatingRequest = (
        storage_pb2.RestoreArtifactRequest
        | storage_pb2.PurgeArtifactRequest
        | storage_pb2.UndeleteArtifactRequest
        | storage_pb2.SetLegalHoldRequest
        | storage_pb2.RunLifecycleRequest
    )

PAGE_SIZE = 100

TIER = {
    Tier.HOT: common_pb2.TIER_HOT,
    Tier.WARM: common_pb2.TIER_WARM,
    Tier.COLD: common_pb2.TIER_COLD,
    Tier.TRASH: common_pb2.TIER_TRASH,
}
TIER_BY_NUMBER = {number: tier for tier, number in TIER.items()}


def request_id(given: str) -> str:
    """In one spelling."""
    return str(uuid.UUID(given))


def request_key(request: MutatingRequest) -> RequestKey:
    """What makes a request of the calling tenant itself."""
    digest = sha256(type(request).__name__.encode() + request.SerializeToString(deterministic=True))
    return RequestKey(current_identity().tenant, request_id(request.request_id), digest.hexdigest())


def own_key(key: storage_pb2.ArtifactKey) -> ArtifactKey:
    """Of the calling tenant's artifact."""
    return ArtifactKey(current_identity().tenant, key.workflow, key.artifact)


def checked_key(key: storage_pb2.ArtifactKey) -> ArtifactKey:
    """As `own_key`. Raises InvalidInput for names that no artifact can have."""
    refuse([*name_violations(key.workflow, "key.workflow"), *name_violations(key.artifact, "key.artifact")])
    return own_key(key)


def span(given: common_pb2.TimeRange, field: str) -> tuple[datetime | None, datetime | None]:
    """Both ends; None for an open one."""
    since = from_timestamp(given.since, f"{field}.since") if given.HasField("since") else None
    until = from_timestamp(given.until, f"{field}.until") if given.HasField("until") else None
    return since, until


def clean(text: str) -> str:
    """A text as databases can take it: Postgres knows no NUL."""
    return text.replace("\0", "\ufffd")


class Infos:
    """Makes artifacts messages, as of one moment's legal holds."""

    def __init__(self, artifacts: Artifacts, retention: Retention, held: Collection[str]) -> None:
        self._artifacts = artifacts
        self._retention = retention
        self._held = held

    @classmethod
    async def of(cls, parts: Parts) -> Infos:
        """With the holds of this moment."""
        return cls(parts.artifacts, parts.retention, await parts.catalogue.held_tenants())

    def info(self, artifact: Artifact) -> storage_pb2.ArtifactInfo:
        """An artifact on the wire."""
        held = artifact.hold or artifact.key.tenant in self._held
        due = self._retention.due_at(artifact, held=held)
        return storage_pb2.ArtifactInfo(
            key=storage_pb2.ArtifactKey(workflow=artifact.key.workflow, artifact=artifact.key.artifact),
            tenant=artifact.key.tenant,
            tier=TIER[artifact.tier],
            size=artifact.size,
            sha256=artifact.sha256,
            content_type=artifact.content_type,
            created_at=to_timestamp(artifact.created_at),
            modified_at=to_timestamp(artifact.modified_at),
            tier_since=to_timestamp(artifact.tier_since),
            run_id=artifact.run_id,
            tags=artifact.tags,
            legal_hold=held,
            due_at=to_timestamp(due) if due else None,
            location=self._artifacts.location(artifact.object_name),
        )
