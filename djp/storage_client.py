"""The part of the Python client that looks after artifacts: put, get, list, move between tiers, archives, upkeep."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import grpc

from djp.mesh.errors import DjpError
from djp.mesh.rpc_errors import answer_of, error_from_rpc
from djp.v1 import common_pb2, storage_pb2, storage_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

_TIMEOUT_S = 60.0
_STREAM_TIMEOUT_S = 24 * 3600.0
"""Archives and lifecycle runs take as long as there is much to do."""
CHUNK_BYTES = 1 << 20


class StorageClient:
    """Artifacts of the caller's tenant. Every method raises DjpError.

    Give the same `request_id` (a UUID) again to repeat a call whose answer was lost. An empty `tenant` is the caller's
    own, or for an operator all.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._storage = storage_pb2_grpc.StorageServiceStub(channel)

    async def put(
        self,
        workflow: str,
        artifact: str,
        chunks: AsyncIterator[bytes],
        *,
        sha256: str = "",
        content_type: str = "",
        run_id: str = "",
        tags: Mapping[str, str] | None = None,
        request_id: str | None = None,
    ) -> storage_pb2.ArtifactInfo:
        """Store an artifact. Without its `sha256` (hex), bytes that end too early cannot be told from all of them."""
        header = storage_pb2.ArtifactHeader(
            request_id=request_id or str(uuid.uuid4()),
            key=_key(workflow, artifact),
            content_type=content_type,
            sha256=sha256,
            run_id=run_id,
            tags=tags,
        )

        async def parts() -> AsyncIterator[storage_pb2.PutArtifactRequest]:
            yield storage_pb2.PutArtifactRequest(header=header)
            async for chunk in chunks:
                yield storage_pb2.PutArtifactRequest(chunk=chunk)

        answer: storage_pb2.PutArtifactResponse = await _sent(self._storage.PutArtifact, parts())
        return answer.artifact

    async def get(self, workflow: str, artifact: str) -> AsyncGenerator[storage_pb2.ArtifactInfo | bytes, None]:
        """What is known of an artifact, then its bytes in chunks. It ends without an error only if all were right."""
        request = storage_pb2.GetArtifactRequest(key=_key(workflow, artifact))
        async for part in _stream(self._storage.GetArtifact(request, timeout=_STREAM_TIMEOUT_S)):
            yield part.info if part.WhichOneof("part") == "info" else part.chunk

    async def stat(self, workflow: str, artifact: str) -> storage_pb2.ArtifactInfo:
        """What is known of an artifact."""
        request = storage_pb2.StatArtifactRequest(key=_key(workflow, artifact))
        return (await answer_of(self._storage.StatArtifact(request, timeout=_TIMEOUT_S))).artifact

    async def list(self, request: storage_pb2.ListArtifactsRequest) -> storage_pb2.ListArtifactsResponse:
        """A page; its `next_page_token` is the next request's `page_token`."""
        return await answer_of(self._storage.ListArtifacts(request, timeout=_TIMEOUT_S))

    async def stats(self, tenant: str = "", *, by_workflow: bool = False) -> Sequence[storage_pb2.StorageStat]:
        """Count, bytes and oldest of every tier, or of every workflow in it."""
        request = storage_pb2.GetStorageStatsRequest(tenant=tenant, by_workflow=by_workflow)
        return (await answer_of(self._storage.GetStorageStats(request, timeout=_TIMEOUT_S))).stats

    async def restore(
        self,
        workflow: str,
        artifact: str,
        *,
        from_tier: common_pb2.Tier.ValueType,
        to_tier: common_pb2.Tier.ValueType,
        reason: str = "",
        request_id: str | None = None,
    ) -> storage_pb2.ArtifactInfo:
        """Move an artifact to a warmer tier."""
        request = storage_pb2.RestoreArtifactRequest(
            request_id=request_id or str(uuid.uuid4()),
            key=_key(workflow, artifact),
            from_tier=from_tier,
            to_tier=to_tier,
            reason=reason,
        )
        return (await answer_of(self._storage.RestoreArtifact(request, timeout=_STREAM_TIMEOUT_S))).artifact

    async def purge(
        self, workflow: str, artifact: str, *, reason: str = "", request_id: str | None = None
    ) -> storage_pb2.ArtifactInfo:
        """Move an artifact to the trash, from which it can come back for a while."""
        request = storage_pb2.PurgeArtifactRequest(
            request_id=request_id or str(uuid.uuid4()), key=_key(workflow, artifact), reason=reason
        )
        return (await answer_of(self._storage.PurgeArtifact(request, timeout=_STREAM_TIMEOUT_S))).artifact

    async def undelete(
        self, workflow: str, artifact: str, *, reason: str = "", request_id: str | None = None
    ) -> storage_pb2.ArtifactInfo:
        """Bring an artifact back from the trash."""
        request = storage_pb2.UndeleteArtifactRequest(
            request_id=request_id or str(uuid.uuid4()), key=_key(workflow, artifact), reason=reason
        )
        return (await answer_of(self._storage.UndeleteArtifact(request, timeout=_STREAM_TIMEOUT_S))).artifact

    async def hold(
        self, workflow: str, artifact: str, *, hold: bool, reason: str, request_id: str | None = None
    ) -> None:
        """Set or lift the legal hold of an artifact; without names, of the whole tenant."""
        key = _key(workflow, artifact) if workflow or artifact else None
        request = storage_pb2.SetLegalHoldRequest(
            request_id=request_id or str(uuid.uuid4()), key=key, hold=hold, reason=reason
        )
        await answer_of(self._storage.SetLegalHold(request, timeout=_TIMEOUT_S))

    async def run_lifecycle(
        self, *, live: bool, confirm: bool = False, tenant: str = "", as_of: datetime | None = None
    ) -> AsyncGenerator[storage_pb2.RunLifecycleResponse, None]:
        """Move what is due, or only say what is; every artifact as it is done, with the counts so far."""
        request = storage_pb2.RunLifecycleRequest(
            request_id=str(uuid.uuid4()), live=live, confirm=confirm, tenant=tenant
        )
        if as_of:
            request.as_of.FromDatetime(as_of)
        async for response in _stream(self._storage.RunLifecycle(request, timeout=_STREAM_TIMEOUT_S)):
            yield response

    async def lifecycle_status(self, tenant: str = "") -> storage_pb2.GetLifecycleStatusResponse:
        """The last lifecycle run, and whether all is well."""
        request = storage_pb2.GetLifecycleStatusRequest(tenant=tenant)
        return await answer_of(self._storage.GetLifecycleStatus(request, timeout=_TIMEOUT_S))

    async def reconcile(
        self, *, mend: bool, verify: bool = False, forget_lost: bool = False
    ) -> AsyncGenerator[storage_pb2.ReconcileResponse, None]:
        """Every difference between catalogue and objects, mended if asked to; with `verify` every byte is read.

        With `mend` and `forget_lost` artifacts whose bytes are nowhere leave the catalogue.
        """
        request = storage_pb2.ReconcileRequest(
            request_id=str(uuid.uuid4()), mend=mend, verify=verify, forget_lost=forget_lost
        )
        async for response in _stream(self._storage.Reconcile(request, timeout=_STREAM_TIMEOUT_S)):
            yield response

    async def export(self, tenant: str = "") -> AsyncGenerator[bytes, None]:
        """A tenant's artifacts as an archive. Raises DataLoss after all of it if some bytes were not to be had."""
        request = storage_pb2.ExportTenantRequest(tenant=tenant)
        async for response in _stream(self._storage.ExportTenant(request, timeout=_STREAM_TIMEOUT_S)):
            yield response.chunk

    async def take_in(
        self, chunks: AsyncIterator[bytes], *, request_id: str | None = None
    ) -> storage_pb2.ImportTenantResponse:
        """Take an archive in. What is there already stays; see `refused` and `problems` for what was not taken."""

        async def parts() -> AsyncIterator[storage_pb2.ImportTenantRequest]:
            yield storage_pb2.ImportTenantRequest(request_id=request_id or str(uuid.uuid4()))
            async for chunk in chunks:
                yield storage_pb2.ImportTenantRequest(chunk=chunk)

        answer: storage_pb2.ImportTenantResponse = await _sent(self._storage.ImportTenant, parts())
        return answer

    async def list_events(self, request: storage_pb2.ListStorageEventsRequest) -> storage_pb2.ListStorageEventsResponse:
        """A page of the audit trail, newest first."""
        return await answer_of(self._storage.ListStorageEvents(request, timeout=_TIMEOUT_S))


def _key(workflow: str, artifact: str) -> storage_pb2.ArtifactKey:
    return storage_pb2.ArtifactKey(workflow=workflow, artifact=artifact)


async def _sent(call: Callable[..., Awaitable[Any]], messages: AsyncIterator[Any]) -> Any:
    """The answer to a stream of messages. What goes wrong while they are made comes out as it is."""
    broken: list[Exception] = []

    async def kept() -> AsyncIterator[Any]:
        try:
            async for message in messages:
                yield message
        except Exception as error:  # grpc would answer it with a mere cancellation
            broken.append(error)
            raise

    try:
        return await answer_of(call(kept(), timeout=_STREAM_TIMEOUT_S))
    except (DjpError, asyncio.CancelledError) as error:
        if broken:
            raise broken[0] from error
        raise


async def _stream(call: Any) -> AsyncGenerator[Any, None]:
    """The answers of a call; whoever has enough of them ends it."""
    try:
        async for response in call:
            yield response
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error) from error
    finally:
        call.cancel()
