"""Whether a request came before, and was the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from djp.mesh.errors import RequestIdReused

if TYPE_CHECKING:
    from sqlalchemy import Table

    from djp_gateway.adapters.transactions import Transactions
    from djp_gateway.seal import Seal


async def row_of_request(
    tables: Transactions, seal: Seal, table: Table, tenant: str, request_id: str, request_sha256: str
) -> Any:
    """What a table of requests has of one, or None if it is new. Raises RequestIdReused: it came with another body."""
    query = select(table).where(table.c.tenant == tenant, table.c.request_id == request_id)
    for row in await tables.rows(query):
        if row.request_sha256 != seal.fingerprint(request_sha256):
            raise RequestIdReused.by(request_id)
        return row
    return None
