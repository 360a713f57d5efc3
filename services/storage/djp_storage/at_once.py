"""Several pieces of work at once, but not too many."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Coroutine


class AtOnce:
    """A block in which up to `most` pieces of work go on; it ends when all have.

    The first error of one comes out of `start` or of the block, after what was begun has ended. A cancelled block
    cancels them.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, work: Coroutine[None, None, None]) -> None:
        """Begin it, and return when there is room for the next."""
        self._tasks.add(asyncio.create_task(work))
        if len(self._tasks) == self._most:
            done, self._tasks = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            for task in self._tasks:
                task.cancel()
        found = await asyncio.gather(*self._tasks, return_exceptions=True)
        for one in found:
            if error is None and isinstance(one, BaseException):
                raise one
