"""What requests were answered, in the SQL database that has the runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from djp.database import reading
from djp.mesh.errors import RequestIdReused
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
        query = select(answers).where(answers.c.tenant == tenant, answers.c.request_id == request_id)
        async with reading(self._engine).connect() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            return None
        if row.request_sha256 != self._seal.fingerprint(request_sha256):
            raise RequestIdReused.by(request_id)
        answer: bytes = row.answer
        return answer

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
