"""Works through accepted runs in the background and sees every one of them to an end."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from opentelemetry.trace import Status, StatusCode, format_trace_id

from djp.mesh.deadline import deadline_scope
from djp.mesh.errors import DjpError
from djp.mesh.identity import Identity, identity_scope
from djp.mesh.rpc_errors import error_from_rpc
from djp.mesh.telemetry import run_scope, service_scope, span
from djp.run_states import TERMINAL_STATES
from djp.v1 import common_pb2, run_pb2
from djp_gateway import ledger, publishing, steps
from djp_gateway.lanes import Lanes
from djp_gateway.live import LiveRun, Watchers
from djp_gateway.patience import may_pass
from djp_gateway.ports import CANCEL, Order

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine, Iterator, Mapping

    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.ports import RunOrders, RunStore

_log = logging.getLogger(__name__)
Answer = TypeVar("Answer")

_DENIALS = frozenset({common_pb2.ERROR_REASON_BUDGET_EXCEEDED, common_pb2.ERROR_REASON_RUN_BUDGET_EXCEEDED})
_ENDS = dict.fromkeys(_DENIALS, run_pb2.RUN_STATE_DENIED) | {
    common_pb2.ERROR_REASON_CANCELLED: run_pb2.RUN_STATE_CANCELLED
}
"""The state of a run that ends for such a reason; FAILED for every other."""
_END_S = 5.0  # one attempt to give a run's money back and to end it
_ENDS_AT_ONCE = 8
_LISTEN_S = 0.5
"""How often a gateway looks for orders that another one took for its runs: a cancelled run is to end within 2 s."""

_INTERRUPTED = run_pb2.RunError(
    reason=common_pb2.ERROR_REASON_INTERRUPTED,
    message="the process that worked on the run ended before the run did; start it again",
    retryable=True,
)


class Runner:
    """Runs in work, at most `max_workers` at once; the others wait their turn, and only their ids are in memory."""

    def __init__(
        self,
        store: RunStore,
        orders: RunOrders,
        leaves: Leaves,
        watchers: Watchers,
        *,
        executor: str,
        max_workers: int,
        lease_s: float,
    ) -> None:
        self._store = store
        self._orders = orders
        self._leaves = leaves
        self._watchers = watchers
        self._executor = executor
        self._lanes = Lanes(max_workers)
        self._lease_s = lease_s
        self._ends = asyncio.Semaphore(_ENDS_AT_ONCE)
        self._accepting: set[asyncio.Task[run_pb2.Run]] = set()
        self._working: set[asyncio.Task[None]] = set()
        self._runs: dict[str, asyncio.Task[None]] = {}
        """Those that wait or are in work here, by id."""
        self._cancelled: dict[str, Order] = {}

    async def accept(self, run: run_pb2.Run, *, request_id: str, request_sha256: str) -> run_pb2.Run:
        """Store a run and queue it, both even if the caller goes away; answers with the run of that request_id.

        Raises:
            RequestIdReused: the request_id came with another body.
        """
        return await asyncio.shield(_keep(self._accepting, self._accept(run, request_id, request_sha256)))

    async def _accept(self, run: run_pb2.Run, request_id: str, request_sha256: str) -> run_pb2.Run:
        stored = await self._store.create(
            run, request_id=request_id, request_sha256=request_sha256, executor=self._executor
        )
        if stored.run_id == run.run_id:
            task = _keep(self._working, self._work(run.tenant, run.run_id))
            self._runs[run.run_id] = task
            task.add_done_callback(lambda _task: self._forget(run.run_id))
        return stored

    def _forget(self, run_id: str) -> None:
        del self._runs[run_id]
        self._cancelled.pop(run_id, None)

    async def listen(self) -> None:
        """Hear of what other gateways were told of the runs here, until cancelled."""
        while True:
            await asyncio.sleep(_LISTEN_S)
            try:
                await self.hear(list(self._runs))
            except Exception as error:
                _log.warning("orders cannot be read (%s); trying again", type(error).__name__)

    async def hear(self, run_ids: Collection[str]) -> None:
        """Do what was ordered of these runs, as far as they wait or are in work here."""
        for run_id, order in (await self._orders.first(run_ids, CANCEL)).items():
            task = self._runs.get(run_id)
            if task and run_id not in self._cancelled:
                self._cancelled[run_id] = order
                task.cancel()

    async def end_left_over(self, *, wait_s: float) -> None:
        """Begin to end the runs that an earlier process left unfinished; wait for that, but not longer than given."""
        tasks = [
            _keep(self._working, self._end_left_over(tenant, run_id))
            for tenant, run_id in await self._store.unfinished(self._executor)
        ]
        if tasks:
            await asyncio.wait(tasks, timeout=wait_s)

    async def stop(self) -> None:
        """End the runs in work as interrupted; each gives its money back."""
        await asyncio.gather(*self._accepting, return_exceptions=True)
        tasks = list(self._working)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, tenant: str, run_id: str) -> None:
        unread = run_pb2.Run(run_id=run_id, tenant=tenant)
        live = LiveRun(unread, self._store, self._watchers, lease_s=self._lease_s)
        with _run(tenant, run_id), span("run") as root:
            try:
                async with self._lanes.turn(tenant):
                    live.run = await self._store.get(tenant, run_id)
                    live.run.trace_id = format_trace_id(root.get_span_context().trace_id)
                    live.run.started_at.GetCurrentTime()
                    await live.enter(run_pb2.RUN_STATE_RUNNING)
                    await steps.work(live, self._leaves, self._lanes)
                return
            except asyncio.CancelledError:
                error = _cancelled(self._cancelled[run_id]) if run_id in self._cancelled else _INTERRUPTED
            except Exception as failure:
                error = await self._error_of(failure, live.run)
            root.set_status(Status(StatusCode.ERROR, common_pb2.ErrorReason.Name(error.reason)))
            if error is not _INTERRUPTED:
                await self._end(tenant, run_id, error, live.owed)
                return
            try:
                async with asyncio.timeout(_END_S):
                    await self._end(tenant, run_id, error, live.owed)
            except TimeoutError:
                _log.warning("run %s is left to be ended at the next start", run_id)

    async def _end_left_over(self, tenant: str, run_id: str) -> None:
        with _run(tenant, run_id):
            order = (await self._orders.first([run_id], CANCEL)).get(run_id)
            await self._end(tenant, run_id, _cancelled(order) if order else _INTERRUPTED, {})

    async def _end(
        self, tenant: str, run_id: str, error: run_pb2.RunError, owed: Mapping[str, common_pb2.ModelCall]
    ) -> None:
        """Give the run's money back, then end it as the store has it; tried again until it is done.

        A run whose artifact is stored has only its settlement left: what could not be done in time is done now, and it
        ends as it would have.
        """
        denied, stopped = error.reason in _DENIALS, error.reason == common_pb2.ERROR_REASON_CANCELLED
        for delay_s in itertools.chain((0.3, 1.0, 3.0, 10.0), itertools.repeat(30.0)):
            try:
                async with self._ends:
                    run = await self._store.get(tenant, run_id)
                    if run.state in TERMINAL_STATES:
                        return  # another process has ended it
                    live = LiveRun(run, self._store, self._watchers)
                    events = await self._store.events_after(run_id, 0)
                    with deadline_scope(_END_S):
                        await ledger.pay_owed(live, self._leaves, owed, events)
                        if run.result.artifact_sha256 and (error.retryable or stopped):
                            try:
                                await ledger.close(run, self._leaves)
                            except grpc.aio.AioRpcError as refusal:
                                if may_pass(refusal):
                                    raise
                                error = await self._error_of(refusal, run)
                            else:
                                await live.enter(steps.outcome(run.result))
                                return
                        if not denied:  # a denied run holds nothing
                            await ledger.release(run, self._leaves, common_pb2.ErrorReason.Name(error.reason))
                    run.error.CopyFrom(error)
                    run.error.stage = run.stage
                    await live.enter(_ENDS.get(error.reason, run_pb2.RUN_STATE_FAILED))
                return
            except Exception as failure:
                problem = error_from_rpc(failure) if isinstance(failure, grpc.RpcError) else failure
                if isinstance(problem, DjpError) and problem.code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                    self._watchers.stop_waiting(run_id, problem)
                reason = problem.reason if isinstance(problem, DjpError) else type(problem).__name__
                _log.warning("run %s cannot be ended yet (%s); trying again in %g s", run_id, reason, delay_s)
            await asyncio.sleep(delay_s)

    async def _error_of(self, failure: Exception, run: run_pb2.Run) -> run_pb2.RunError:
        """What the failure of a step means to the run's owner."""
        if isinstance(failure, TimeoutError):
            limit = run.spec.timeout.ToTimedelta().total_seconds()
            return run_pb2.RunError(
                reason=common_pb2.ERROR_REASON_DEADLINE_EXCEEDED,
                message=f"the run took longer than its {limit:g} s; give it a longer timeout or fewer debaters",
                retryable=True,
            )
        if isinstance(failure, grpc.RpcError):
            error = error_from_rpc(failure)
            return _run_error(error, await publishing.clean_message(error.message, run, self._leaves))
        if isinstance(failure, DjpError):
            return _run_error(failure, failure.message)
        _log.error("run %s failed", run.run_id, exc_info=failure)
        return run_pb2.RunError(
            reason=common_pb2.ERROR_REASON_INTERNAL,
            message="an internal error, see the gateway's log; nothing was published",
        )


@contextmanager
def _run(tenant: str, run_id: str) -> Iterator[None]:
    """Work inside the block is the gateway's, for this run, in the tenant's name."""
    with identity_scope(Identity(tenant=tenant)), service_scope("gateway"), run_scope(run_id):
        yield


def _keep(tasks: set[asyncio.Task[Answer]], work: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
    """Start work that outlives the call it came from: it has a context, hence an identity and a trace, of its own."""
    task = asyncio.create_task(work, context=contextvars.Context())
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task


def _cancelled(order: Order) -> run_pb2.RunError:
    said = f": {order.reason}" if order.reason else ""
    return run_pb2.RunError(reason=common_pb2.ERROR_REASON_CANCELLED, message=f"cancelled by {order.by}{said}")


def _run_error(error: DjpError, message: str) -> run_pb2.RunError:
    name = f"ERROR_REASON_{error.reason}"
    known = name in common_pb2.ErrorReason.keys()  # noqa: SIM118 - an enum wrapper, not a dict
    return run_pb2.RunError(
        reason=common_pb2.ErrorReason.Value(name) if known else common_pb2.ERROR_REASON_INTERNAL,
        message=message,
        retryable=error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"),
    )
