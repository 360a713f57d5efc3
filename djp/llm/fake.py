"""A provider that answers from a script: for trying what stands on the port without a network."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from djp.llm.models import Model
    from djp.llm.provider import ProviderError, Question, Reply


class FakeProvider:
    """Gives what `script` says for a model and a question: pieces, then a Reply, or a ProviderError to raise.

    Where the script gives an event, the answer waits for it. `asked` is every question so far, `open` how many answers
    are being read.
    """

    def __init__(
        self, script: Callable[[Model, Question], Iterable[str | Reply | ProviderError | asyncio.Event]]
    ) -> None:
        self._script = script
        self.asked: list[tuple[Model, Question]] = []
        self.open = 0

    async def ask(self, model: Model, question: Question) -> AsyncGenerator[str | Reply]:
        """What the script says, one piece a turn of the event loop."""
        self.asked.append((model, question))
        self.open += 1
        try:
            for piece in self._script(model, question):
                await asyncio.sleep(0)
                if isinstance(piece, asyncio.Event):
                    await piece.wait()
                elif isinstance(piece, Exception):
                    raise piece
                else:
                    yield piece
        finally:
            self.open -= 1

    async def reachable(self) -> frozenset[str]:
        """Nothing is known about the models of a script."""
        return frozenset()

    async def close(self) -> None:
        """Nothing is open."""
