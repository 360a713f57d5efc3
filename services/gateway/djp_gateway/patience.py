"""Calls that must be neither lost nor counted twice: step ids, retries, and work that a cancellation does not cut."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

Answer = TypeVar("Answer")

# A leaf that restarts is back within seconds; what must not be lost is offered again for about a minute.
_RETRY_DELAYS_S = (0.1, 0.3, 1.0, 3.0, 5.0, 10.0, 20.0, 20.0)

_LAST_S = 5.0  # what a cancelled piece of work gets to end by itself


def step_id(run_id: str, step: str) -> str:
    """The request_id of a run's step: the same on every attempt, so that a step counts once."""
    return str(uuid.uuid5(uuid.UUID(run_id), step))


async def persistently(call: Callable[[], Awaitable[Answer]]) -> Answer:
    """Make an idempotent call again while its leaf is away, for about a minute."""
    for delay in _RETRY_DELAYS_S:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        await asyncio.sleep(delay)
    return await call()


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
