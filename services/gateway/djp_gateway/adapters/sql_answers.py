"""What requests were answered, in the SQL database that has the runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from djp_gateway.adapters.repeats import row_of_request
from djp_gateway.adapters.tables import answers
from djp_gateway.adapters.turn import turn_of

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from djp_gateway.seal import Seal


class SqlAnswers:
    """Answers on SQLAlchemy Core; one transaction a call."""

    def __init__(self, engine: AsyncEngine, seal: Seal) -> None:
        self._engine = engine
        self._seal = seal
        self._turn = turn_of(engine)

    async def earlier(self, tenant: str, request_id: str, request_sha256: str) -> bytes | None:
        row = await row_of_request(self._engine, self._seal, answers, tenant, request_id, request_sha256)
        return None if row is None else bytes(row.answer)

    async def keep(self, tenant: str, request_id: str, request_sha256: str, answer: bytes) -> bytes:
        row = {
            "tenant": tenant,
            "request_id": request_id,
            "request_sha256": self._seal.fingerprint(request_sha256),
            "answer": answer,
        }
        try:
            async with self._turn, self._engine.begin() as connection:
                await connection.execute(insert(answers).values(row))
        except IntegrityError:
            # The same request at the same time was quicker.
            if (known := await self.earlier(tenant, request_id, request_sha256)) is not None:
                return known
            raise
        return answer
