"""Runs what blocks in a thread, and never leaves it behind."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


async def in_thread(function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    """As `in_thread_of`, with the threads that all share."""
    return await in_thread_of(None, function, *arguments)


async def in_thread_of(
    threads: Executor | None, function: Callable[[*Arguments], Result], *arguments: *Arguments
) -> Result:
    """The result of `function`, run in a thread.

    A cancelled caller waits for the thread before it goes on. With asyncio.to_thread it would go on at once, and close
    a file under the thread, or give up a claim to a name while the thread is still writing there.
    """
    work = asyncio.get_running_loop().run_in_executor(threads, function, *arguments)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        work.exception()  # seen: the caller is gone and nobody else would ask
        raise
