"""How the gateway's tables are changed and read: short transactions in threads, one pool of them for all adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from djp.transaction_threads import TransactionThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from sqlalchemy import Executable
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

Answer = TypeVar("Answer")


class Transactions:
    """Transactions on one database, of this process."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        """For what is read row by row, since it may be large."""
        self.dialect = engine.dialect.name
        # A run's claim, say, does not count once if it is made twice: who made it takes care of an answer that is lost.
        self._threads = TransactionThreads(engine, repeatable=False)

    async def change(
        self, work: Callable[[AsyncConnection], Coroutine[Any, Any, Answer]], *, urgent: bool = False
    ) -> Answer:
        """Do the work in a transaction; see TransactionThreads.run for what it may and must."""
        return await self._threads.run(work, urgent=urgent)

    async def look(self, work: Callable[[AsyncConnection], Coroutine[Any, Any, Answer]]) -> Answer:
        """Do a short work that only reads; on SQLite it waits for no writer."""
        return await self._threads.look(work)

    async def rows(self, query: Executable, values: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """What a query finds that is no large answer."""

        async def found(connection: AsyncConnection) -> Sequence[Any]:
            return list(await connection.execute(query, values))

        return await self.look(found)
