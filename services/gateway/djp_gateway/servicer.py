"""The gateway's RPCs about runs."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import ExitStack
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import grpc

from djp.mesh.deadline import bounded_timeout, deadline_scope
from djp.mesh.errors import DjpError
from djp.mesh.identity import current_identity
from djp.run_states import TERMINAL_STATES
from djp.v1 import run_pb2, run_pb2_grpc
from djp_gateway.citing import find_passages
from djp_gateway.hiding import hidden, put_back
from djp_gateway.ordering import Ordering
from djp_gateway.ports import APPROVE, CANCEL, REJECT
from djp_gateway.replaying import Replaying
from djp_gateway.resolving import ANSWER_S
from djp_gateway.spec import new_run
from djp_gateway.steps import bound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.ports import RunOrders, RunStore
    from djp_gateway.resolving import Resolver
    from djp_gateway.runner import Runner
    from djp_gateway.settings import GatewaySettings
    from djp_gateway.templates.making import Templates
    from djp_gateway.watching import Watchers

_MOST_LOOK_S = 1.0
_LOOK_S = 0.2  # until the store is asked again, for no bell rings here for another gateway's run

Context = grpc.aio.ServicerContext[Any, Any]


class RunServicer(run_pb2_grpc.RunServiceServicer):
    """Accepts runs, shows them, and streams their events."""

    def __init__(
        self,
        settings: GatewaySettings,
        resolver: Resolver,
        store: RunStore,
        orders: RunOrders,
        runner: Runner,
        watchers: Watchers,
        leaves: Leaves,
        templates: Templates,
        *,
        alone: bool,
    ) -> None:
        self._settings = settings
        self._resolver = resolver
        self._store = store
        self._ordering = Ordering(store, orders, runner, watchers)
        self._runner = runner
        self._alone = alone
        self._watchers = watchers
        self._leaves = leaves
        self._replaying = Replaying(store, runner, resolver, leaves, templates)

    async def StartRun(self, request: run_pb2.StartRunRequest, context: Context) -> run_pb2.StartRunResponse:
        tenant, request_id = current_identity().tenant, request.request_id
        request_sha256 = sha256(request.run.SerializeToString(deterministic=True)).hexdigest()
        async with self._runner.door.entered(tenant) as entry:
            try:
                spec = await self._resolver.resolve(request.run)
            except DjpError:
                # A preset may have changed since, or a leaf be away, but the answer to an earlier request has not. One
                # that can be done is found when it is to be stored.
                if earlier := await self._store.earlier(tenant, request_id, request_sha256):
                    return run_pb2.StartRunResponse(run=earlier)
                raise
            run = new_run(str(uuid.uuid4()), tenant, spec)
            stored, entry.waits = await self._runner.accept(run, request_id=request_id, request_sha256=request_sha256)
            return run_pb2.StartRunResponse(run=stored)

    async def ProjectRun(self, request: run_pb2.ProjectRunRequest, context: Context) -> run_pb2.ProjectRunResponse:
        return await self.project(request.run)

    async def project(self, request: run_pb2.RunRequest) -> run_pb2.ProjectRunResponse:
        """What a run of the current tenant's would be, and the most that it could cost."""
        spec = await self._resolver.resolve(request)
        with deadline_scope(bounded_timeout(ANSWER_S)):
            passages = await find_passages(spec, self._leaves)
            sent = await hidden(spec, self._leaves, passages)
            projection = await bound(sent, str(uuid.uuid4()), self._leaves)
        return run_pb2.ProjectRunResponse(spec=spec, projection=projection)

    async def GetRun(self, request: run_pb2.GetRunRequest, context: Context) -> run_pb2.GetRunResponse:
        run = await self._store.get(current_identity().tenant, request.run_id)
        if request.restore_values:
            put_back(run, await self._store.hidden(run.run_id))
        return run_pb2.GetRunResponse(run=run)

    async def ListRuns(self, request: run_pb2.ListRunsRequest, context: Context) -> run_pb2.ListRunsResponse:
        page = await self._store.list(current_identity().tenant, request)
        return run_pb2.ListRunsResponse(runs=page.runs, next_page_token=page.next_page_token)

    async def WatchRun(
        self, request: run_pb2.WatchRunRequest, context: Context
    ) -> AsyncIterator[run_pb2.WatchRunResponse]:
        run = await self._store.get(current_identity().tenant, request.run_id)
        sequence, look_s = request.after_sequence, _LOOK_S
        loop, beat_s = asyncio.get_running_loop(), self._settings.heartbeat_s
        said_at = loop.time()
        with self._watchers.follower(run.run_id) as follower, ExitStack() as stack:
            bell = follower.bell
            drafting = stack.enter_context(self._watchers.listener(run.run_id, bell)) if request.deltas else None
            while True:
                bell.clear()
                for event in drafting.take() if drafting else ():
                    yield run_pb2.WatchRunResponse(event=event)
                events: Sequence[run_pb2.RunEvent] = follower.take(sequence)
                if not events and follower.behind:
                    follower.behind = False
                    events = await self._store.events_after(run.run_id, sequence)
                for event in events:
                    sequence = event.sequence
                    last = event.HasField("state") and event.state.state in TERMINAL_STATES
                    answer = run_pb2.WatchRunResponse(event=event)
                    if last:
                        # The whole run; events are kept without the task.
                        answer.event.state.run.spec.CopyFrom(run.spec)
                    yield answer
                    if last:
                        return
                if events:
                    said_at, look_s = loop.time(), _LOOK_S
                    continue
                if run.state in TERMINAL_STATES:
                    return  # the caller had seen the last event before
                if problem := self._watchers.stuck(run.run_id):
                    raise problem
                # No bell rings here for what another gateway does: so the store is asked, ever less often.
                wait_s = beat_s if self._alone or self._runner.has(run.run_id) else min(look_s, beat_s)
                look_s = min(look_s * 1.5, _MOST_LOOK_S)
                try:
                    async with asyncio.timeout(wait_s):
                        await bell.wait()
                except TimeoutError:
                    follower.behind = True
                if loop.time() - said_at >= beat_s:
                    said_at = loop.time()
                    yield run_pb2.WatchRunResponse(event=run_pb2.RunEvent(heartbeat=run_pb2.Heartbeat()))

    async def CancelRun(self, request: run_pb2.CancelRunRequest, context: Context) -> run_pb2.CancelRunResponse:
        return run_pb2.CancelRunResponse(run=await self._ordering.give(CANCEL, request))

    async def ReplayRun(self, request: run_pb2.ReplayRunRequest, context: Context) -> run_pb2.ReplayRunResponse:
        async with self._runner.door.entered(current_identity().tenant) as entry:
            return await self._replaying.replay(request, entry)

    async def ApproveRun(self, request: run_pb2.ApproveRunRequest, context: Context) -> run_pb2.ApproveRunResponse:
        return run_pb2.ApproveRunResponse(run=await self._ordering.give(APPROVE, request))

    async def RejectRun(self, request: run_pb2.RejectRunRequest, context: Context) -> run_pb2.RejectRunResponse:
        return run_pb2.RejectRunResponse(run=await self._ordering.give(REJECT, request))
