"""Lets calls that wait while others are under way share the next turn: one commit or request for many of them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Together(Generic[Item, Answer]):
    """Does at once what was asked for meanwhile, one turn after the other.

    `do` has an answer, or the error to raise, for each item that it is given; what it raises is raised to all of them.
    """

    def __init__(
        self, do: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Exception]]], most: int = 100
    ) -> None:
        """`most` is how many may share a turn."""
        self._do = do
        self._most = most
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._turns: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Answer:
        """The answer for an item. Who is cancelled before its turn is left out of it; later it is done all the same."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._turns is None:
            self._turns = asyncio.create_task(self._take_turns())
        return await answer

    async def _take_turns(self) -> None:
        try:
            while self._waiting:
                taken = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                wanted = [one for one in taken if not one[1].done()]
                if wanted:
                    await self._turn(wanted)
        finally:
            self._turns = None

    async def _turn(self, wanted: Sequence[tuple[Item, asyncio.Future[Answer]]]) -> None:
        answers: Sequence[Answer | Exception]
        try:
            answers = await self._do([item for item, _ in wanted])
        except Exception as error:  # raised where it is waited for
            answers = [error] * len(wanted)
        for (_, asked), answer in zip(wanted, answers, strict=True):
            if asked.done():
                continue  # whoever waited is gone
            if isinstance(answer, Exception):
                asked.set_exception(answer)
            else:
                asked.set_result(answer)
