"""Whether a request came before, and was the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, select

from djp.database import reading
from djp.mesh.errors import RequestIdReused

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncEngine

    from djp_gateway.seal import Seal


async def row_of_request(
    engine: AsyncEngine, seal: Seal, table: Table, tenant: str, request_id: str, request_sha256: str
) -> Row[Any] | None:
    """What a table of requests has of one, or None if it is new. Raises RequestIdReused: it came with another body."""
    query = select(table).where(table.c.tenant == tenant, table.c.request_id == request_id)
    async with reading(engine).connect() as connection:
        row = (await connection.execute(query)).one_or_none()
    if row is not None and row.request_sha256 != seal.fingerprint(request_sha256):
        raise RequestIdReused.by(request_id)
    return row
