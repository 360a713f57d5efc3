"""What people order of runs, in the SQL database that has the runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, insert, select
from sqlalchemy.exc import IntegrityError

from djp.database import from_us, now_us, reading
from djp_gateway.adapters.repeats import row_of_request
from djp_gateway.adapters.sql_audit import remember
from djp_gateway.adapters.tables import orders
from djp_gateway.adapters.turn import turn_of
from djp_gateway.callers import AuditEvent
from djp_gateway.ports import APPROVE, REJECT, Order

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy.ext.asyncio import AsyncEngine

    from djp_gateway.seal import Seal

_REMEMBERED = {APPROVE: "RUN_APPROVED", REJECT: "RUN_REJECTED"}


class SqlRunOrders:
    """RunOrders on SQLAlchemy Core; one transaction a call."""

    def __init__(self, engine: AsyncEngine, seal: Seal) -> None:
        self._engine = engine
        self._seal = seal
        self._turn = turn_of(engine)

    async def earlier(self, tenant: str, request_id: str, request_sha256: str) -> str | None:
        row = await row_of_request(self._engine, self._seal, orders, tenant, request_id, request_sha256)
        return None if row is None else str(row.run_id)

    async def give(self, tenant: str, run_id: str, order: Order, *, request_id: str, request_sha256: str) -> None:
        told = json.dumps({"by": order.by, "reason": order.reason}).encode()
        row = {
            "tenant": tenant,
            "request_id": request_id,
            "request_sha256": self._seal.fingerprint(request_sha256),
            "run_id": run_id,
            "kind": order.kind,
            "ordered_us": now_us(),
            "sealed_order": self._seal.close(told, _place(run_id, request_id)),
        }
        try:
            async with self._turn, self._engine.begin() as connection:
                await connection.execute(insert(orders).values(row))
                if kind := _REMEMBERED.get(order.kind):
                    await remember(connection, AuditEvent(kind, tenant, order.by, run_id))
        except IntegrityError:
            # The same request at the same time was quicker.
            if not await self.earlier(tenant, request_id, request_sha256):
                raise

    async def first(self, run_ids: Collection[str], *kinds: str) -> Mapping[str, Order]:
        if not run_ids:
            return {}
        query = (
            select(orders)
            .where(orders.c.run_id.in_(list(run_ids)), orders.c.kind.in_(kinds))
            .order_by(orders.c.ordered_us.desc())
        )
        async with reading(self._engine).connect() as connection:
            rows = (await connection.execute(query)).all()
        return {row.run_id: self._open(row) for row in rows}

    def _open(self, row: Row[Any]) -> Order:
        told = json.loads(self._seal.open(row.sealed_order, _place(row.run_id, row.request_id)))
        return Order(kind=row.kind, by=told["by"], reason=told["reason"], at=from_us(row.ordered_us))


def _place(run_id: str, request_id: str) -> str:
    """What an order is sealed for."""
    return f"{run_id}/order/{request_id}"
