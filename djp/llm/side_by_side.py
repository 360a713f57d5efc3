"""Works that go on side by side and tell what happens meanwhile, as one stream of events."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

Told = TypeVar("Told")
Ended = TypeVar("Ended")


async def side_by_side(
    works: Sequence[Callable[[Callable[[Told], None]], Awaitable[Ended]]],
) -> AsyncGenerator[Told | Ended]:
    """What the works tell while they go on, as it comes, and what each ends with. What one raises is raised here.

    Closing the generator, or a work that raises, cancels those that still go on.
    """
    events: asyncio.Queue[Told | Ended | Exception | None] = asyncio.Queue()

    async def run(work: Callable[[Callable[[Told], None]], Awaitable[Ended]]) -> None:
        try:
            events.put_nowait(await work(events.put_nowait))
            events.put_nowait(None)
        except Exception as error:  # raised where it is waited for: nobody waits for an end that cannot come
            events.put_nowait(error)

    tasks = [asyncio.create_task(run(work)) for work in works]
    left = len(tasks)
    try:
        while left:
            event = await events.get()
            if event is None:
                left -= 1
            elif isinstance(event, Exception):
                raise event
            else:
                yield event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
