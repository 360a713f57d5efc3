"""A catalogue on Postgres, where what callers want at the same moment shares a statement and a commit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from djp_storage.adapters.postgres_batches import announce_all, forget_all, look_all, move_all, put_all
from djp_storage.adapters.sql_catalogue import SqlCatalogue
from djp_storage.model import Artifact, Tier
from djp_storage.together import Together

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from datetime import datetime

    from djp_storage.adapters.postgres_batches import Look, Move, Put
    from djp_storage.adapters.transactions import Transactions
    from djp_storage.model import ArtifactKey, By, ObjectName, RequestKey


class PostgresCatalogue(SqlCatalogue):
    """A SqlCatalogue that does what is plain many at a time, and all else one by one as it is.

    SQLite needs none of it: there statements cost little, and TransactionThreads shares commits.
    """

    def __init__(self, transactions: Transactions, *, lease_s: float) -> None:
        super().__init__(transactions, lease_s=lease_s)
        self._puts: Together[Put, Artifact] = Together(self._put_all)
        self._moves: Together[Move, Artifact] = Together(self._move_all)
        self._looks: Together[Look, Artifact | None] = Together(self._look_all)

    async def add(self, artifact: Artifact, request: RequestKey, by: By) -> Artifact:
        return await self._puts.ask((artifact, request, by))

    async def move(self, was: Artifact, now: Artifact, action: str, by: By, request: RequestKey | None) -> Artifact:
        """To the trash by itself: a legal hold that is being set must be seen."""
        if now.tier is Tier.TRASH:
            return await super().move(was, now, action, by, request)
        return await self._moves.ask((was, now, action, by, request))

    async def get(self, key: ArtifactKey) -> Artifact:
        return await self._looks.ask((key, None)) or await super().get(key)

    async def answered(self, request: RequestKey, key: ArtifactKey) -> tuple[Artifact | None, Artifact]:
        found = await self._looks.ask((key, request))
        return (None, found) if found else await super().answered(request, key)

    async def announce(self, worker: str, names: Sequence[ObjectName], now: datetime) -> None:
        await self._transactions.change(lambda one: announce_all(one, worker, names, now))

    async def forget(self, names: Sequence[ObjectName]) -> None:
        if names:
            await self._transactions.change(lambda one: forget_all(one, names))

    async def _put_all(self, puts: Sequence[Put]) -> Sequence[Artifact | Exception]:
        add = super().add
        return await self._shared(lambda: self._transactions.change(lambda one: put_all(one, puts)), add, puts)

    async def _move_all(self, moves: Sequence[Move]) -> Sequence[Artifact | Exception]:
        move = super().move
        return await self._shared(lambda: self._transactions.change(lambda one: move_all(one, moves)), move, moves)

    async def _look_all(self, looks: Sequence[Look]) -> Sequence[Artifact | None]:
        return await self._transactions.look(lambda one: look_all(one, looks))

    async def _shared(
        self,
        together: Callable[[], Awaitable[Sequence[Artifact]]],
        alone: Callable[..., Coroutine[None, None, Artifact]],
        items: Sequence[tuple[object, ...]],
    ) -> Sequence[Artifact | Exception]:
        try:
            return await together()
        except Exception:  # of one of them, or of the database: each is to hear of its own
            return await asyncio.gather(*(_outcome(alone(*item)) for item in items))


async def _outcome(work: Coroutine[None, None, Artifact]) -> Artifact | Exception:
    try:
        return await work
    except Exception as error:  # raised where it is waited for
        return error
