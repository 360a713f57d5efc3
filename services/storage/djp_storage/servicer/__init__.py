"""StorageService on the wire: protobuf to the domain and back."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from djp.mesh.errors import InvalidInput
from djp.mesh.identity import current_identity
from djp.mesh.streams import heard_out, unless_silent
from djp.mesh.times import to_timestamp
from djp.v1 import storage_pb2
from djp_storage.model import ArtifactHeader, Filter
from djp_storage.parts import visible_tenant
from djp_storage.servicer.lifecycle import LifecycleRpcs
from djp_storage.servicer.reconcile import ReconcileRpcs
from djp_storage.servicer.tiers import TierRpcs
from djp_storage.servicer.transfer import TransferServicer
from djp_storage.servicer.wire import PAGE_SIZE, TIER, TIER_BY_NUMBER, Infos, own_key, request_id, span

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    import grpc

    from djp_storage.parts import Parts


class StorageServicer(TierRpcs, LifecycleRpcs, ReconcileRpcs, TransferServicer):
    """Serves the artifacts of the calling tenant. A put that is silent for `idle_s` seconds is given up."""

    def __init__(self, parts: Parts, *, idle_s: float) -> None:
        super().__init__(parts, idle_s=idle_s)
        self._parts = parts
        self._artifacts = parts.artifacts
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
            async with heard_out(parts), aclosing(_chunks(parts)) as chunks:
                artifact = await self._artifacts.put(_header(first.header), request_id(first.header.request_id), chunks)
        infos = await Infos.of(self._parts)
        return storage_pb2.PutArtifactResponse(artifact=infos.info(artifact))

    async def GetArtifact(
        self,
        request: storage_pb2.GetArtifactRequest,
        context: grpc.aio.ServicerContext[storage_pb2.GetArtifactRequest, storage_pb2.GetArtifactResponse],
    ) -> AsyncIterator[storage_pb2.GetArtifactResponse]:
        """What the catalogue knows, then the bytes."""
        artifact = await self._artifacts.stat(own_key(request.key))
        infos = await Infos.of(self._parts)
        yield storage_pb2.GetArtifactResponse(info=infos.info(artifact))
        async with aclosing(self._artifacts.read(artifact)) as chunks:
            async for chunk in chunks:
                yield storage_pb2.GetArtifactResponse(chunk=chunk)

    async def StatArtifact(
        self,
        request: storage_pb2.StatArtifactRequest,
        context: grpc.aio.ServicerContext[storage_pb2.StatArtifactRequest, storage_pb2.StatArtifactResponse],
    ) -> storage_pb2.StatArtifactResponse:
        """What the catalogue knows."""
        artifact = await self._artifacts.stat(own_key(request.key))
        infos = await Infos.of(self._parts)
        return storage_pb2.StatArtifactResponse(artifact=infos.info(artifact))

    async def ListArtifacts(
        self,
        request: storage_pb2.ListArtifactsRequest,
        context: grpc.aio.ServicerContext[storage_pb2.ListArtifactsRequest, storage_pb2.ListArtifactsResponse],
    ) -> storage_pb2.ListArtifactsResponse:
        """Newest or largest first."""
        since, until = span(request.created, "created")
        wanted = Filter(request.workflow, TIER_BY_NUMBER.get(request.tier), request.run_id, since, until)
        page = await self._artifacts.list(
            current_identity().tenant,
            wanted,
            size=request.page_size or PAGE_SIZE,
            token=request.page_token,
            largest_first=request.largest_first,
        )
        infos = await Infos.of(self._parts)
        return storage_pb2.ListArtifactsResponse(
            artifacts=[infos.info(artifact) for artifact in page.artifacts], next_page_token=page.next_page_token
        )

    async def GetStorageStats(
        self,
        request: storage_pb2.GetStorageStatsRequest,
        context: grpc.aio.ServicerContext[storage_pb2.GetStorageStatsRequest, storage_pb2.GetStorageStatsResponse],
    ) -> storage_pb2.GetStorageStatsResponse:
        """The caller's tenant only; to an operator everybody's, or one's."""
        totals = await self._artifacts.totals(visible_tenant(request.tenant), by_workflow=request.by_workflow)
        return storage_pb2.GetStorageStatsResponse(
            stats=[
                storage_pb2.StorageStat(
                    tier=TIER[total.tier],
                    tenant=total.tenant,
                    workflow=total.workflow,
                    count=total.count,
                    bytes=total.bytes,
                    oldest=to_timestamp(total.oldest),
                )
                for total in totals
            ]
        )


async def _chunks(parts: AsyncIterator[storage_pb2.PutArtifactRequest]) -> AsyncGenerator[bytes, None]:
    async for part in parts:
        if part.WhichOneof("part") != "chunk":
            raise InvalidInput("chunk: missing; after the header every message carries a chunk", field="chunk")
        yield part.chunk


def _header(header: storage_pb2.ArtifactHeader) -> ArtifactHeader:
    return ArtifactHeader(own_key(header.key), header.content_type, header.sha256, header.run_id, dict(header.tags))
