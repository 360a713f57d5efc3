"""A catalogue on Postgres, where what callers want at the same moment shares a statement and a commit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from djp_storage.adapters.postgres_batches import (
    Change,
    Move,
    Put,
    change_all,
    forget_all,
    look_all,
)
from djp_storage.adapters.sql_catalogue import SqlCatalogue
from djp_storage.model import Artifact, Tier
from djp_storage.together import Together

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from djp_storage.adapters.postgres_batches import Look
    from djp_storage.adapters.transactions import Transactions
    from djp_storage.model import ArtifactKey, By, ObjectName, RequestKey


class PostgresCatalogue(SqlCatalogue):
    """A SqlCatalogue that does what is plain many at a time, and all else one by one as it is.

    SQLite needs none of it: there statements cost little, and TransactionThreads shares commits.
    """

    def __init__(self, transactions: Transactions, *, lease_s: float) -> None:
        super().__init__(transactions, lease_s=lease_s)
        self._changes: Together[Change, Artifact] = Together(self._change_all)
        self._looks: Together[Look, Artifact | None] = Together(self._look_all)

    async def add(self, artifact: Artifact, request: RequestKey, by: By) -> Artifact:
        return await self._changes.ask(Put(artifact, request, by))

    async def move(self, was: Artifact, now: Artifact, action: str, by: By, request: RequestKey | None) -> Artifact:
        """To the trash by itself: a legal hold that is being set must be seen."""
        if now.tier is Tier.TRASH:
            return await super().move(was, now, action, by, request)
        return await self._changes.ask(Move(was, now, action, by, request))

    async def get(self, key: ArtifactKey) -> Artifact:
        return await self._looks.ask((key, None)) or await super().get(key)

    async def answered(self, request: RequestKey, key: ArtifactKey) -> tuple[Artifact | None, Artifact]:
        found = await self._looks.ask((key, request))
        return (None, found) if found else await super().answered(request, key)

    async def forget(self, names: Sequence[ObjectName]) -> None:
        if names:
            await self._transactions.change(lambda one: forget_all(one, names))

    async def _change_all(self, changes: Sequence[Change]) -> Sequence[Artifact | Exception]:
        try:
            return await self._transactions.change(lambda one: change_all(one, changes))
        except Exception:  # of one of them, or of the database: each is to hear of its own
            return await asyncio.gather(*(_outcome(self._alone(one)) for one in changes))

    async def _alone(self, change: Change) -> Artifact:
        match change:
            case Put():
                return await super().add(*change)
            case Move():
                return await super().move(*change)

    async def _look_all(self, looks: Sequence[Look]) -> Sequence[Artifact | None]:
        return await self._transactions.look(lambda one: look_all(one, looks))


async def _outcome(work: Coroutine[None, None, Artifact]) -> Artifact | Exception:
    try:
        return await work
    except Exception as error:  # raised where it is waited for
        return error
