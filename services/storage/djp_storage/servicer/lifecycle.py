"""The RPCs of the lifecycle and of the audit trail."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from djp.mesh.errors import InvalidInput, PermissionDenied
from djp.mesh.identity import current_identity
from djp.mesh.paging import page_token, read_page_token
from djp.mesh.times import from_timestamp, to_timestamp
from djp.v1 import common_pb2, storage_pb2
from djp_storage.lifecycle import Order
from djp_storage.parts import visible_tenant
from djp_storage.servicer.wire import PAGE_SIZE, TIER, Infos, own_key, request_key, span

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

    from djp_storage.model import Event, Job
    from djp_storage.parts import Parts

_ACTION = {
    "": storage_pb2.LIFECYCLE_ACTION_UNSPECIFIED,
    "to_warm": storage_pb2.LIFECYCLE_ACTION_TO_WARM,
    "to_cold": storage_pb2.LIFECYCLE_ACTION_TO_COLD,
    "to_trash": storage_pb2.LIFECYCLE_ACTION_TO_TRASH,
    "erased": storage_pb2.LIFECYCLE_ACTION_ERASED,
    "failed": storage_pb2.LIFECYCLE_ACTION_FAILED,
}


class LifecycleRpcs:
    """Serves a tenant its own runs and events, and operators all."""

    _parts: Parts

    async def RunLifecycle(
        self,
        request: storage_pb2.RunLifecycleRequest,
        context: grpc.aio.ServicerContext[storage_pb2.RunLifecycleRequest, storage_pb2.RunLifecycleResponse],
    ) -> AsyncIterator[storage_pb2.RunLifecycleResponse]:
        """Each artifact as it is moved; the last message has the time of the end."""
        tenant = visible_tenant(request.tenant) or ""
        as_of = from_timestamp(request.as_of, "as_of") if request.HasField("as_of") else None
        if as_of and not current_identity().operates:
            raise PermissionDenied("as_of: only an operator may reckon with another moment", field="as_of")
        if as_of and not tenant:
            raise InvalidInput("as_of: name the tenant of the drill, too", field="tenant")
        order = Order(tenant, request.live, request.confirm, as_of)
        by, infos = self._parts.artifacts.by(""), await Infos.of(self._parts)
        async with aclosing(self._parts.lifecycle.run(order, by, request_key(request))) as steps:
            async for step in steps:
                yield storage_pb2.RunLifecycleResponse(
                    artifact=infos.info(step.artifact) if step.artifact else None,
                    action=_ACTION[step.action],
                    error=step.error,
                    so_far=to_summary(step.so_far),
                )

    async def GetLifecycleStatus(
        self,
        request: storage_pb2.GetLifecycleStatusRequest,
        context: grpc.aio.ServicerContext[
            storage_pb2.GetLifecycleStatusRequest, storage_pb2.GetLifecycleStatusResponse
        ],
    ) -> storage_pb2.GetLifecycleStatusResponse:
        """Of the runs for all tenants, or for one."""
        last, problem = await self._parts.lifecycle.health(visible_tenant(request.tenant) or "")
        return storage_pb2.GetLifecycleStatusResponse(
            last=to_summary(last) if last else None, healthy=not problem, problem=problem
        )

    async def ListStorageEvents(
        self,
        request: storage_pb2.ListStorageEventsRequest,
        context: grpc.aio.ServicerContext[storage_pb2.ListStorageEventsRequest, storage_pb2.ListStorageEventsResponse],
    ) -> storage_pb2.ListStorageEventsResponse:
        """Newest first."""
        size = request.page_size or PAGE_SIZE
        (before,) = read_page_token(request.page_token, int) or (None,)
        since, until = span(request.range, "range")
        found = await self._parts.events.newest(
            visible_tenant(request.tenant),
            key=own_key(request.key) if request.HasField("key") else None,
            action=request.action,
            since=since,
            until=until,
            before=before,
            limit=size + 1,
        )
        more = page_token(found[size - 1].sequence) if len(found) > size else ""
        return storage_pb2.ListStorageEventsResponse(events=map(_to_event, found[:size]), next_page_token=more)


def to_summary(job: Job) -> storage_pb2.LifecycleSummary:
    """A run's counts on the wire."""
    return storage_pb2.LifecycleSummary(
        job_id=job.job_id,
        started_at=to_timestamp(job.started_at),
        finished_at=to_timestamp(job.finished_at) if job.finished_at else None,
        live=job.live,
        to_warm=job.to_warm,
        to_cold=job.to_cold,
        to_trash=job.to_trash,
        erased=job.erased,
        bytes_moved=job.bytes_moved,
        errors=job.errors,
    )


def _to_event(event: Event) -> storage_pb2.StorageEvent:
    return storage_pb2.StorageEvent(
        sequence=event.sequence,
        at=to_timestamp(event.at),
        actor=event.actor,
        action=event.action,
        key=storage_pb2.ArtifactKey(workflow=event.key.workflow, artifact=event.key.artifact)
        if event.key.artifact
        else None,
        tenant=event.key.tenant,
        from_tier=TIER[event.from_tier] if event.from_tier else common_pb2.TIER_UNSPECIFIED,
        to_tier=TIER[event.to_tier] if event.to_tier else common_pb2.TIER_UNSPECIFIED,
        reason=event.reason,
    )
