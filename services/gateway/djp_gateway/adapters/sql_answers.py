"""What requests were answered, in the SQL database that has the runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from djp.upserts import insert_if_new
from djp_gateway.adapters.repeats import row_of_request
from djp_gateway.adapters.tables import answers

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_gateway.adapters.transactions import Transactions
    from djp_gateway.seal import Seal


class SqlAnswers:
    """Answers on SQLAlchemy Core; one transaction a call."""

    def __init__(self, tables: Transactions, seal: Seal) -> None:
        self._tables = tables
        self._seal = seal

    async def earlier(self, tenant: str, request_id: str, request_sha256: str) -> bytes | None:
        row = await row_of_request(self._tables, self._seal, answers, tenant, request_id, request_sha256)
        return None if row is None else bytes(row.answer)

    async def keep(self, tenant: str, request_id: str, request_sha256: str, answer: bytes) -> bytes:
        row = {
            "tenant": tenant,
            "request_id": request_id,
            "request_sha256": self._seal.fingerprint(request_sha256),
            "answer": answer,
        }

        async def kept(connection: AsyncConnection) -> bool:
            new = insert_if_new(self._tables.dialect, answers, answers.c.request_id)
            return (await connection.execute(new, row)).one_or_none() is not None

        if not await self._tables.change(kept):  # the same request at the same time was quicker
            return cast("bytes", await self.earlier(tenant, request_id, request_sha256))
        return answer
