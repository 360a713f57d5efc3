"""How the catalogue is changed and read: short transactions in threads, snapshots for reading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import and_, bindparam, select, update

from djp.database import reading, to_us
from djp.mesh.errors import RequestIdReused
from djp.transaction_threads import TransactionThreads
from djp.upserts import insert_if_new
from djp_storage.adapters.rows import artifact_json, read_artifact_json
from djp_storage.adapters.tables import requests

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from sqlalchemy import Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from djp_storage.model import Artifact, ArtifactKey, By, RequestKey

Answer = TypeVar("Answer")

_MINE = and_(requests.c.tenant == bindparam("by_tenant"), requests.c.request_id == bindparam("by_id"))
_FIRST = select(requests).where(_MINE)
_ANSWER = update(requests).where(_MINE)


class Transactions:
    """Transactions on one catalogue, of this process."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._threads = TransactionThreads(engine)

    async def change(self, work: Callable[[AsyncConnection], Coroutine[Any, Any, Answer]]) -> Answer:
        """Do the work in a transaction; see TransactionThreads.run for what it may and must."""
        return await self._threads.run(work)

    async def read(self, work: Callable[[AsyncConnection], Awaitable[Answer]]) -> Answer:
        """Do work that only reads; it waits for no writer."""
        async with reading(self._engine).connect() as connection:
            return await work(connection)

    async def look(self, work: Callable[[AsyncConnection], Coroutine[Any, Any, Answer]]) -> Answer:
        """Do a short work that only reads, in a thread: it takes a fraction of what the async driver does."""
        return await self._threads.look(work)

    async def rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        """What a query finds; it waits for no writer."""
        async with reading(self._engine).connect() as connection:
            return list(await connection.execute(query))


async def claim_request(connection: AsyncConnection, request: RequestKey, key: ArtifactKey, by: By) -> Any:
    """The row of the same request made before; None if it is new, and claimed now.

    Of two identical ones at once the second waits here for the first. Raises RequestIdReused.
    """
    row = {
        "tenant": request.tenant,
        "request_id": request.request_id,
        "workflow": key.workflow,
        "artifact": key.artifact,
        "body_sha256": request.sha256,
        "answer": "",
        "at_us": to_us(by.at),
    }
    new = insert_if_new(connection.dialect.name, requests, requests.c.request_id)
    if (await connection.execute(new, row)).one_or_none():
        return None
    return await find_request(connection, request, key)


async def find_request(connection: AsyncConnection, request: RequestKey, key: ArtifactKey) -> Any:
    """The row of a request; None if there is none. Raises RequestIdReused.

    Those of the first release, which were puts, have no hash; of these the key must be the same.
    """
    first = (await connection.execute(_FIRST, _values(request))).one_or_none()
    if first is None:
        return None
    same_key = (first.workflow, first.artifact) == (key.workflow, key.artifact)
    if (first.body_sha256 or request.sha256) != request.sha256 or not same_key:
        raise RequestIdReused.by(request.request_id)
    return first


async def remember(connection: AsyncConnection, request: RequestKey, artifact: Artifact) -> None:
    """Keep the answer to a claimed request."""
    await connection.execute(_ANSWER, {**_values(request), "answer": artifact_json(artifact)})


def answer_of(row: Any) -> Artifact:
    """The remembered answer of a request's row."""
    return read_artifact_json(row.answer)


def _values(request: RequestKey) -> dict[str, str]:
    return {"by_tenant": request.tenant, "by_id": request.request_id}
