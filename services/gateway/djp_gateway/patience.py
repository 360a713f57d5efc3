"""Calls that must be neither lost nor counted twice: step ids, retries, and work that a cancellation does not cut."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from djp.mesh.deadline import bounded_timeout, deadline_scope, remaining_s
from djp.mesh.rpc_errors import error_from_rpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

Answer = TypeVar("Answer")

# A leaf that restarts is back within seconds; what must not be lost is offered again for about a minute.
RETRY_DELAYS_S = (0.1, 0.3, 1.0, 3.0, 5.0, 10.0, 20.0, 20.0)
_ATTEMPT_S = 30.0  # a leaf that is frozen, not gone, never says so

# What may be otherwise in a moment: room on a disk, bytes that were damaged on their way.
_PASSING_REASONS = frozenset({"DISK_FULL", "HASH_MISMATCH"})

_LAST_S = 5.0  # what a cancelled piece of work gets to end by itself


def step_id(run_id: str, step: str) -> str:
    """The request_id of a run's step: the same on every attempt, so that a step counts once."""
    return str(uuid.uuid5(uuid.UUID(run_id), step))


def may_pass(error: grpc.RpcError) -> bool:
    """Whether the same call may succeed later: the leaf is away or frozen, its disk is full, bytes were damaged."""
    known = error_from_rpc(error)
    return known.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED") or known.reason in _PASSING_REASONS


async def persistently(call: Callable[[], Awaitable[Answer]], tell: Callable[[str], None] | None = None) -> Answer:
    """Make an idempotent call again while what stops it may pass: for about a minute, and not past the deadline.

    `tell` learns what stopped the first attempt.

    Raises:
        grpc.aio.AioRpcError: what stopped the last attempt, or what will not pass.
    """
    for delay in (*RETRY_DELAYS_S, None):
        try:
            with deadline_scope(bounded_timeout(_ATTEMPT_S)):
                return await call()
        except grpc.aio.AioRpcError as error:
            left = remaining_s()
            if delay is None or not may_pass(error) or (left is not None and left <= delay):
                raise
            if tell:
                tell(error_from_rpc(error).told)
                tell = None
        await asyncio.sleep(delay)
    raise AssertionError("the last attempt returns or raises")


async def to_the_end(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Await work that must not be cut in the middle.

    Cancelled meanwhile, it still gets five seconds to end before the cancellation goes on, so that whoever cleans up
    afterwards finds it done and has nothing to guess.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=_LAST_S)
        if not task.cancel() and not task.cancelled():
            task.exception()  # has been seen
        raise
