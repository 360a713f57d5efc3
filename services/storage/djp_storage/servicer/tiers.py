"""The RPCs that move one artifact, and legal holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.v1 import storage_pb2
from djp_storage.model import ArtifactKey
from djp_storage.servicer.wire import TIER_BY_NUMBER, Infos, checked_key, clean, request_key

if TYPE_CHECKING:
    import grpc

    from djp_storage.model import Artifact
    from djp_storage.parts import Parts


class TierRpcs:
    """Serves the artifacts of the calling tenant."""

    _parts: Parts

    async def RestoreArtifact(
        self,
        request: storage_pb2.RestoreArtifactRequest,
        context: grpc.aio.ServicerContext[storage_pb2.RestoreArtifactRequest, storage_pb2.RestoreArtifactResponse],
    ) -> storage_pb2.RestoreArtifactResponse:
        """To the hot tier, unless told; not out of the trash."""
        restored = await self._parts.moves.restore(
            checked_key(request.key),
            TIER_BY_NUMBER.get(request.from_tier),
            TIER_BY_NUMBER.get(request.to_tier),
            self._parts.artifacts.by(clean(request.reason)),
            request_key(request),
        )
        return storage_pb2.RestoreArtifactResponse(artifact=await self._told(restored))

    async def PurgeArtifact(
        self,
        request: storage_pb2.PurgeArtifactRequest,
        context: grpc.aio.ServicerContext[storage_pb2.PurgeArtifactRequest, storage_pb2.PurgeArtifactResponse],
    ) -> storage_pb2.PurgeArtifactResponse:
        """To the trash."""
        by = self._parts.artifacts.by(clean(request.reason))
        purged = await self._parts.moves.purge(checked_key(request.key), by, request_key(request))
        return storage_pb2.PurgeArtifactResponse(artifact=await self._told(purged))

    async def UndeleteArtifact(
        self,
        request: storage_pb2.UndeleteArtifactRequest,
        context: grpc.aio.ServicerContext[storage_pb2.UndeleteArtifactRequest, storage_pb2.UndeleteArtifactResponse],
    ) -> storage_pb2.UndeleteArtifactResponse:
        """To the tier where it was."""
        by = self._parts.artifacts.by(clean(request.reason))
        back = await self._parts.moves.undelete(checked_key(request.key), by, request_key(request))
        return storage_pb2.UndeleteArtifactResponse(artifact=await self._told(back))

    async def SetLegalHold(
        self,
        request: storage_pb2.SetLegalHoldRequest,
        context: grpc.aio.ServicerContext[storage_pb2.SetLegalHoldRequest, storage_pb2.SetLegalHoldResponse],
    ) -> storage_pb2.SetLegalHoldResponse:
        """On one artifact, or on all that the tenant has and will have."""
        by, asked = self._parts.artifacts.by(clean(request.reason)), request_key(request)
        key = checked_key(request.key) if request.HasField("key") else ArtifactKey(asked.tenant, "", "")
        await self._parts.catalogue.hold(key, request.hold, by, asked)
        return storage_pb2.SetLegalHoldResponse()

    async def _told(self, artifact: Artifact) -> storage_pb2.ArtifactInfo:
        return (await Infos.of(self._parts)).info(artifact)
