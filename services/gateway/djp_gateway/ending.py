"""How a run ends that does not get to its end: it pays what it owes, gives back what it holds, and says why."""

from __future__ import annotations

import asyncio
import itertools
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import grpc

from djp.mesh.deadline import deadline_scope
from djp.mesh.errors import DjpError
from djp.mesh.rpc_errors import error_from_rpc
from djp.run_states import TERMINAL_STATES
from djp.v1 import common_pb2, run_pb2
from djp_gateway import ledger, publishing
from djp_gateway.live import ARTIFACT, LiveRun
from djp_gateway.patience import may_pass

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.ports import Order, RunStore
    from djp_gateway.watching import Watchers

_log = logging.getLogger(__name__)

_DENIALS = frozenset({common_pb2.ERROR_REASON_BUDGET_EXCEEDED, common_pb2.ERROR_REASON_RUN_BUDGET_EXCEEDED})
_STATES = dict.fromkeys(_DENIALS, run_pb2.RUN_STATE_DENIED) | {
    common_pb2.ERROR_REASON_CANCELLED: run_pb2.RUN_STATE_CANCELLED,
    common_pb2.ERROR_REASON_APPROVAL_REJECTED: run_pb2.RUN_STATE_REJECTED,
    common_pb2.ERROR_REASON_APPROVAL_EXPIRED: run_pb2.RUN_STATE_REJECTED,
}
"""The state of a run that ends for such a reason; FAILED for every other."""
_PUT_S = 30.0  # one attempt to store its artifact
_END_S = 5.0  # one attempt to give a run's money back and to end it
_ENDS_AT_ONCE = 8

INTERRUPTED = run_pb2.RunError(
    reason=common_pb2.ERROR_REASON_INTERRUPTED,
    message="the process that worked on the run ended before the run did; start it again",
    retryable=True,
)


class Ending:
    """Ends runs, settling a few at once."""

    def __init__(self, store: RunStore, leaves: Leaves, watchers: Watchers, *, outside: bool) -> None:
        """`outside`: a run may be somebody else's than the mesh's owner's, so its error tells nothing of the mesh."""
        self._outside = outside
        self._store = store
        self._leaves = leaves
        self._watchers = watchers
        self._ends = asyncio.Semaphore(_ENDS_AT_ONCE)
        self._puts = asyncio.Semaphore(_ENDS_AT_ONCE)
        """Apart, so that a storage that is frozen does not hold up those who need none."""

    async def end(
        self, tenant: str, run_id: str, attempt: int, error: run_pb2.RunError, owed: Mapping[str, common_pb2.ModelCall]
    ) -> None:
        """Give the run's money back, then end it as the store has it; tried again until it is done.

        A run whose artifact may be stored, heard of or not, ends as it would have, whatever stopped it, unless storage
        refuses the artifact: what is left of it is done now. One that another attempt has taken over is left to that.
        """
        for delay_s in itertools.chain((0.3, 1.0, 3.0, 10.0), itertools.repeat(30.0)):
            try:
                run = await self._store.get(tenant, run_id)
                if run.state not in TERMINAL_STATES and run.attempt == attempt:
                    await self._end(run, error, owed)
                return
            except Exception as failure:
                problem = error_from_rpc(failure) if isinstance(failure, grpc.RpcError) else failure
                if isinstance(problem, DjpError) and problem.code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
                    self._watchers.stop_waiting(run_id, problem)
                reason = problem.reason if isinstance(problem, DjpError) else type(problem).__name__
                _log.warning("run %s cannot be ended yet (%s); trying again in %g s", run_id, reason, delay_s)
            await asyncio.sleep(delay_s)

    async def _end(self, run: run_pb2.Run, error: run_pb2.RunError, owed: Mapping[str, common_pb2.ModelCall]) -> None:
        live = LiveRun(run, self._store, self._watchers)
        try:
            async with self._turn():
                await live.recall()
                await ledger.pay_owed(live, self._leaves, {**live.kept_calls(), **owed}, live.events)
            if run.stage == common_pb2.STAGE_STORE or run.result.artifact_sha256:
                await self._settle(live)
                refusal = None if run.result.artifact_sha256 else await self._put(live)
                if refusal is None:
                    await live.enter(publishing.outcome(run.result))
                    return
                if error.reason != common_pb2.ERROR_REASON_CANCELLED:
                    error = refusal
            elif error.reason not in _DENIALS:  # a denied run holds nothing
                async with self._turn():
                    await ledger.release(run, self._leaves, common_pb2.ErrorReason.Name(error.reason))
            run.error.CopyFrom(error)
            run.error.stage = run.stage
            await live.enter(_STATES.get(error.reason, run_pb2.RUN_STATE_FAILED))
        finally:
            await live.close()

    async def _settle(self, live: LiveRun) -> None:
        """Settle the run, which gives back what it holds; if that is refused for good, only give it back."""
        run = live.run
        async with self._turn():
            try:
                await ledger.close(run, self._leaves)
            except grpc.aio.AioRpcError as refusal:
                if may_pass(refusal):
                    raise
                error = await self.error_of(refusal, run)
                await ledger.release(run, self._leaves, common_pb2.ErrorReason.Name(error.reason))
                warning = f"the run could not be settled, so what it held was given back: {error.message}"
                if warning not in run.warnings:
                    live.warn(warning)

    async def _put(self, live: LiveRun) -> run_pb2.RunError | None:
        """Have the artifact stored, if an attempt before has not; why storage does not take it for good."""
        run, content = live.run, live.kept(ARTIFACT)[-1]
        async with self._puts:
            with deadline_scope(_PUT_S):
                try:
                    await publishing.put(run, self._leaves, content)
                except grpc.aio.AioRpcError as failure:
                    refusal = await self.error_of(failure, run)
                    if refusal.retryable:
                        raise
                    return None if await publishing.is_stored(run, self._leaves, content) else refusal
        return None

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """The block reads the run or asks the ledger, for not longer than an attempt may take."""
        async with self._ends:
            with deadline_scope(_END_S):
                yield

    async def error_of(self, failure: Exception, run: run_pb2.Run) -> run_pb2.RunError:
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
            return _run_error(error, await publishing.clean_message(self._told(error, run), run, self._leaves))
        if isinstance(failure, DjpError):
            return _run_error(failure, self._told(failure, run))
        _log.error("run %s failed", run.run_id, exc_info=failure)
        return run_pb2.RunError(
            reason=common_pb2.ERROR_REASON_INTERNAL,
            message="an internal error, see the gateway's log; nothing was published",
        )

    def _told(self, error: DjpError, run: run_pb2.Run) -> str:
        if not (self._outside and error.outside):
            return error.message
        _log.warning("run %s fails: %s", run.run_id, error.message)
        return error.outside


def cancelled(order: Order) -> run_pb2.RunError:
    """Why a run has ended that somebody cancelled."""
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
