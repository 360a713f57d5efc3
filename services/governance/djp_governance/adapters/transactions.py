"""How the ledger's tables are changed: one transaction a request, whose answer is remembered with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import and_, bindparam, select, update

from djp.database import reading, to_us
from djp.mesh.errors import FailedPrecondition, RequestIdReused
from djp.transaction_threads import TransactionThreads
from djp.upserts import insert_if_new
from djp_governance.adapters.rows import is_overflow
from djp_governance.adapters.tables import requests

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
    from datetime import datetime

    from pydantic import TypeAdapter
    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from djp_governance.model import RequestKey

Answer = TypeVar("Answer")

# Statements are built once: building one costs as much as running it.
_MINE = and_(requests.c.tenant == bindparam("by"), requests.c.request_id == bindparam("id"))
_FIRST, _ANSWER = select(requests).where(_MINE), update(requests).where(_MINE)


class Transactions:
    """Transactions on one ledger, of this process."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._threads = TransactionThreads(engine)

    async def once(
        self,
        key: RequestKey,
        kind: TypeAdapter[Answer],
        now: datetime,
        work: Callable[[AsyncConnection], Coroutine[Any, Any, Answer]],
    ) -> Answer:
        """Do the work and remember its answer in one transaction, or give the answer of the first time.

        The request is claimed first, so that of two identical ones at once the second waits for the first. What raises
        leaves nothing behind, the claim included. Raises RequestIdReused.
        """
        mine = {"by": key.tenant, "id": key.request_id}
        claim = {
            "tenant": key.tenant,
            "request_id": key.request_id,
            "body_sha256": key.sha256,
            "answer": "",
            "at_us": to_us(now),
        }

        async def answered(connection: AsyncConnection) -> Answer:
            claimed = insert_if_new(connection.dialect.name, requests, requests.c.request_id)
            while (await connection.execute(claimed, claim)).one_or_none() is None:
                first = (await connection.execute(_FIRST, mine)).one_or_none()
                if first is None:  # it was retired right now, so the claim is free
                    continue
                if first.body_sha256 != key.sha256:
                    raise RequestIdReused.by(key.request_id)
                return kind.validate_json(first.answer)
            answer = await work(connection)
            remembered = kind.dump_json(answer).decode()
            await connection.execute(_ANSWER, {**mine, "answer": remembered})
            return answer

        return await self.change(answered)

    async def change(self, work: Callable[[AsyncConnection], Coroutine[Any, Any, Answer]]) -> Answer:
        """Do the work in a transaction. Raises FailedPrecondition for what passes an int64."""
        try:
            return await self._threads.run(work)
        except Exception as error:
            if is_overflow(error):
                raise FailedPrecondition("a sum would pass 2^63 - 1, the most that the ledger can count") from error
            raise

    async def read(self, work: Callable[[AsyncConnection], Awaitable[Answer]]) -> Answer:
        """Do work that only reads, all of one instant; it waits for no writer."""
        async with reading(self._engine).connect() as connection:
            return await work(connection)

    async def rows(self, query: Select[Any], values: Mapping[str, Any] | None = None) -> Sequence[Any]:
        """What a query finds that is no large answer."""

        async def found(connection: AsyncConnection) -> Sequence[Any]:
            return list(await connection.execute(query, values))

        return await self._threads.look(found)
