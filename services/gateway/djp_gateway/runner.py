"""Works through accepted runs in the background and sees every one of them to an end."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from functools import partial
from typing import TYPE_CHECKING

import grpc
from opentelemetry.trace import format_trace_id

from djp.mesh.errors import DjpError
from djp.mesh.identity import Identity, identity_scope
from djp.mesh.rpc_errors import error_from_rpc
from djp.mesh.telemetry import run_scope, service_scope, span
from djp.v1 import common_pb2, run_pb2
from djp_gateway import steps
from djp_gateway.adapters.leaves import Leaves, persistently
from djp_gateway.live import LiveRun, Watchers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp_gateway.ports import RunStore

_log = logging.getLogger(__name__)

_DENIALS = frozenset({"BUDGET_EXCEEDED", "RUN_BUDGET_EXCEEDED"})
_RELEASE_S = 5.0  # a run that is stopped may take this long to give its money back


class Runner:
    """Runs in work, at most `max_workers` at once; the others wait their turn."""

    def __init__(self, store: RunStore, leaves: Leaves, watchers: Watchers, *, max_workers: int) -> None:
        self._store = store
        self._leaves = leaves
        self._watchers = watchers
        self._slots = asyncio.Semaphore(max_workers)
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, run: run_pb2.Run) -> None:
        """Queue a run that the store has."""
        # A context of its own: the run outlives the call that started it and has a trace and an identity of its own.
        task = asyncio.create_task(self._work(run), name=f"run {run.run_id}", context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End the runs in work as interrupted; each gives its money back."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def end_interrupted(self, runs: Sequence[run_pb2.Run]) -> None:
        """End runs whose process died: release what they hold, then say so in the run."""
        for run in runs:
            with identity_scope(Identity(tenant=run.tenant)):
                await persistently(partial(steps.release, run, self._leaves, _INTERRUPTED.message))
                await self._fail(LiveRun(run, self._store, self._watchers), _INTERRUPTED)

    async def _work(self, run: run_pb2.Run) -> None:
        live = LiveRun(run, self._store, self._watchers)
        error: run_pb2.RunError | None = None
        with (
            identity_scope(Identity(tenant=run.tenant)),
            service_scope("gateway"),
            run_scope(run.run_id),
            span("run") as root,
        ):
            try:
                async with self._slots:
                    run.trace_id = format_trace_id(root.get_span_context().trace_id)
                    run.started_at.GetCurrentTime()
                    await live.enter(run_pb2.RUN_STATE_RUNNING)
                    await steps.work(live, self._leaves)
                return
            except asyncio.CancelledError:
                error = _INTERRUPTED
            except TimeoutError:
                limit = run.spec.timeout.ToTimedelta().total_seconds()
                error = run_pb2.RunError(
                    reason=common_pb2.ERROR_REASON_DEADLINE_EXCEEDED,
                    message=f"the run took longer than its {limit:g} s; give it a longer timeout or fewer debaters",
                    retryable=True,
                )
            except grpc.RpcError as failure:
                error = _error_of(error_from_rpc(failure))
            except DjpError as failure:
                error = _error_of(failure)
            except Exception:
                _log.exception("run %s failed", run.run_id)
                error = run_pb2.RunError(
                    reason=common_pb2.ERROR_REASON_INTERNAL,
                    message="an internal error, see the gateway's log; nothing was published",
                )
            await self._end(live, error)

    async def _end(self, live: LiveRun, error: run_pb2.RunError) -> None:
        """Give the run's money back, then end it; money that cannot be given back now is at the next start."""
        try:
            async with asyncio.timeout(_RELEASE_S):
                await steps.release(live.run, self._leaves, error.message)
                await self._fail(live, error)
        except (TimeoutError, DjpError, grpc.RpcError):
            _log.warning("run %s is left to be ended at the next start", live.run.run_id, exc_info=True)

    async def _fail(self, live: LiveRun, error: run_pb2.RunError) -> None:
        run = live.run
        run.error.CopyFrom(error)
        run.error.stage = run.stage
        denied = common_pb2.ErrorReason.Name(error.reason).removeprefix("ERROR_REASON_") in _DENIALS
        await live.enter(run_pb2.RUN_STATE_DENIED if denied else run_pb2.RUN_STATE_FAILED)


_INTERRUPTED = run_pb2.RunError(
    reason=common_pb2.ERROR_REASON_INTERRUPTED,
    message="the process that worked on the run ended before the run did; start it again",
    retryable=True,
)


def _error_of(error: DjpError) -> run_pb2.RunError:
    name = f"ERROR_REASON_{error.reason}"
    known = name in common_pb2.ErrorReason.keys()  # noqa: SIM118 - an enum wrapper, not a dict
    return run_pb2.RunError(
        reason=common_pb2.ErrorReason.Value(name) if known else common_pb2.ERROR_REASON_INTERNAL,
        message=str(error),
        retryable=error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED"),
    )
