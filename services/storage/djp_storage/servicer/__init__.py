"""StorageService on the wire: protobuf to the domain and back."""

from __future__ import annotations

import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING

from djp.mesh.errors import InvalidInput
from djp.mesh.identity import current_identity
from djp.mesh.streams import unless_silent
from djp.mesh.times import from_timestamp, to_timestamp
from djp.v1 import common_pb2, storage_pb2
from djp_storage.model import ArtifactHeader, ArtifactKey, Filter, Tier
from djp_storage.servicer.transfer import TransferServicer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    import grpc

    from djp_storage.artifacts import Artifacts
    from djp_storage.model import Artifact

_PAGE_SIZE = 100

_TIER = {
    Tier.HOT: common_pb2.TIER_HOT,
    Tier.WARM: common_pb2.TIER_WARM,
    Tier.COLD: common_pb2.TIER_COLD,
    Tier.TRASH: common_pb2.TIER_TRASH,
}
_TIER_BY_NUMBER = {number: tier for tier, number in _TIER.items()}


class StorageServicer(TransferServicer):
    """Serves the artifacts of the calling tenant. A put that is silent for `idle_s` seconds is given up."""

    def __init__(self, artifacts: Artifacts, *, idle_s: float) -> None:
        super().__init__(artifacts, idle_s=idle_s)
        self._artifacts = artifacts
        self._idle_s = idle_s

    async def PutArtifact(
        self,
        request_iterator: AsyncIterator[storage_pb2.PutArtifactRequest],
        context: grpc.aio.ServicerContext[storage_pb2.PutArtifactRequest, storage_pb2.PutArtifactResponse],
    ) -> storage_pb2.PutArtifactResponse:
        """The header, then the bytes."""
        async with aclosing(unless_silent(request_iterator, self._idle_s)) as parts:
            first = await anext(parts, None)
            if first is None or first.WhichOneof("part") != "header":
                raise InvalidInput("header: missing; the first message names the artifact", field="header")
            async with aclosing(_chunks(parts)) as chunks:
                artifact = await self._artifacts.put(_header(first.header), _request_id(first.header), chunks)
        return storage_pb2.PutArtifactResponse(artifact=self._info(artifact))

    async def GetArtifact(
        self,
        request: storage_pb2.GetArtifactRequest,
        context: grpc.aio.ServicerContext[storage_pb2.GetArtifactRequest, storage_pb2.GetArtifactResponse],
    ) -> AsyncIterator[storage_pb2.GetArtifactResponse]:
        """What the catalogue knows, then the bytes."""
        artifact = await self._artifacts.stat(_key(request.key))
        yield storage_pb2.GetArtifactResponse(info=self._info(artifact))
        async with aclosing(self._artifacts.read(artifact)) as chunks:
            async for chunk in chunks:
                yield storage_pb2.GetArtifactResponse(chunk=chunk)

    async def StatArtifact(
        self,
        request: storage_pb2.StatArtifactRequest,
        context: grpc.aio.ServicerContext[storage_pb2.StatArtifactRequest, storage_pb2.StatArtifactResponse],
    ) -> storage_pb2.StatArtifactResponse:
        """What the catalogue knows."""
        artifact = await self._artifacts.stat(_key(request.key))
        return storage_pb2.StatArtifactResponse(artifact=self._info(artifact))

    async def ListArtifacts(
        self,
        request: storage_pb2.ListArtifactsRequest,
        context: grpc.aio.ServicerContext[storage_pb2.ListArtifactsRequest, storage_pb2.ListArtifactsResponse],
    ) -> storage_pb2.ListArtifactsResponse:
        """Newest or largest first."""
        wanted = Filter(
            workflow=request.workflow,
            tier=_TIER_BY_NUMBER.get(request.tier),
            run_id=request.run_id,
            since=from_timestamp(request.created.since, "created.since") if request.created.HasField("since") else None,
            until=from_timestamp(request.created.until, "created.until") if request.created.HasField("until") else None,
        )
        page = await self._artifacts.list(
            current_identity().tenant,
            wanted,
            size=request.page_size or _PAGE_SIZE,
            token=request.page_token,
            largest_first=request.largest_first,
        )
        return storage_pb2.ListArtifactsResponse(
            artifacts=[self._info(artifact) for artifact in page.artifacts], next_page_token=page.next_page_token
        )

    async def GetStorageStats(
        self,
        request: storage_pb2.GetStorageStatsRequest,
        context: grpc.aio.ServicerContext[storage_pb2.GetStorageStatsRequest, storage_pb2.GetStorageStatsResponse],
    ) -> storage_pb2.GetStorageStatsResponse:
        """The caller's tenant only."""
        tenant = current_identity().tenant
        totals = await self._artifacts.totals(tenant, by_workflow=request.by_workflow)
        return storage_pb2.GetStorageStatsResponse(
            stats=[
                storage_pb2.StorageStat(
                    tier=_TIER[total.tier],
                    tenant=tenant,
                    workflow=total.workflow,
                    count=total.count,
                    bytes=total.bytes,
                    oldest=to_timestamp(total.oldest),
                )
                for total in totals
            ]
        )

    def _info(self, artifact: Artifact) -> storage_pb2.ArtifactInfo:
        return storage_pb2.ArtifactInfo(
            key=storage_pb2.ArtifactKey(workflow=artifact.key.workflow, artifact=artifact.key.artifact),
            tenant=artifact.key.tenant,
            tier=_TIER[artifact.tier],
            size=artifact.size,
            sha256=artifact.sha256,
            content_type=artifact.content_type,
            created_at=to_timestamp(artifact.created_at),
            modified_at=to_timestamp(artifact.modified_at),
            tier_since=to_timestamp(artifact.tier_since),
            run_id=artifact.run_id,
            tags=artifact.tags,
            location=self._artifacts.location(artifact),
        )


async def _chunks(parts: AsyncIterator[storage_pb2.PutArtifactRequest]) -> AsyncGenerator[bytes, None]:
    async for part in parts:
        if part.WhichOneof("part") != "chunk":
            raise InvalidInput("chunk: missing; after the header every message carries a chunk", field="chunk")
        yield part.chunk


def _header(header: storage_pb2.ArtifactHeader) -> ArtifactHeader:
    return ArtifactHeader(_key(header.key), header.content_type, header.sha256, header.run_id, dict(header.tags))


def _request_id(header: storage_pb2.ArtifactHeader) -> str:
    return str(uuid.UUID(header.request_id))  # one spelling


def _key(key: storage_pb2.ArtifactKey) -> ArtifactKey:
    return ArtifactKey(current_identity().tenant, key.workflow, key.artifact)
