"""What a run has to tell and to keep, stored in groups: what comes while one is stored goes into the next, together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from djp.v1 import run_pb2
    from djp_gateway.ports import Checkpoint

_LAST_S = 5.0  # what a group that is being stored gets to end when the run is given up


@dataclass
class Group:
    """What is stored in one transaction, with the run as it is then."""

    events: list[run_pb2.RunEvent] = field(default_factory=list)
    kept: list[Checkpoint] = field(default_factory=list)
    hidden: Mapping[str, str] | None = None
    parked_until: datetime | None = None


class Writer:
    """Stores groups one after the other, in the order in which their parts came. What fails once fails for good: then
    the store may have the last group or not, and whoever goes on with the run begins with what it has."""

    def __init__(self, store: Callable[[Group], Awaitable[None]]) -> None:
        self._store = store
        self._next: Group | None = None
        self._task: asyncio.Task[None] | None = None
        self._failure: Exception | None = None

    def group(self) -> Group:
        """What is stored next, and soon: to be added to.

        Raises:
            Exception: what an earlier one failed with.
        """
        if self._failure:
            raise self._failure
        if self._next is None:
            self._next = Group()
        if self._task is None:
            self._task = asyncio.create_task(self._write())
        return self._next

    async def written(self) -> None:
        """Wait until all is stored that was to be. Who is cancelled meanwhile does not stop it.

        Raises:
            Exception: what it failed with.
        """
        while self._task:
            await asyncio.wait([self._task])
        if self._failure:
            raise self._failure

    async def close(self) -> None:
        """See to it that nothing is being stored any more, so that who goes on has nothing to guess."""
        if self._task:
            await asyncio.wait([self._task], timeout=_LAST_S)
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._failure = self._failure or RuntimeError("the run was given up here")

    async def _write(self) -> None:
        try:
            while self._next:
                group, self._next = self._next, None
                await self._store(group)
        except Exception as error:
            self._failure = error
        finally:
            self._task = None
