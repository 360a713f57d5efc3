"""What people order of runs, in the SQL database that has the runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, case, select, update

from djp.database import from_us, now_us
from djp.upserts import insert_if_new
from djp_gateway.adapters.repeats import row_of_request
from djp_gateway.adapters.sql_audit import remember
from djp_gateway.adapters.tables import orders, runs
from djp_gateway.callers import AuditEvent
from djp_gateway.ports import APPROVE, REJECT, Order

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_gateway.adapters.transactions import Transactions
    from djp_gateway.seal import Seal

_REMEMBERED = {APPROVE: "RUN_APPROVED", REJECT: "RUN_REJECTED"}
_FIRST = (
    select(orders)
    .where(
        orders.c.run_id.in_(bindparam("of_runs", expanding=True)),
        orders.c.kind.in_(bindparam("kinds", expanding=True)),
    )
    .order_by(orders.c.ordered_us.desc())
)
# If the run is parked, its time has come. The row is written in any case: so one that is being parked meanwhile is
# either seen here to be, or finds the order.
_NO_LONGER_PARKED = (
    update(runs)
    .where(runs.c.run_id == bindparam("of_run"))
    .values(due_us=case((runs.c.due_us.is_not(None), bindparam("now"))))
)


class SqlRunOrders:
    """RunOrders on SQLAlchemy Core; one transaction a call."""

    def __init__(self, tables: Transactions, seal: Seal) -> None:
        self._tables = tables
        self._seal = seal

    async def earlier(self, tenant: str, request_id: str, request_sha256: str) -> str | None:
        row = await row_of_request(self._tables, self._seal, orders, tenant, request_id, request_sha256)
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

        async def given(connection: AsyncConnection) -> bool:
            new = insert_if_new(self._tables.dialect, orders, orders.c.request_id)
            if (await connection.execute(new, row)).one_or_none() is None:
                return False
            await connection.execute(_NO_LONGER_PARKED, {"of_run": run_id, "now": row["ordered_us"]})
            if kind := _REMEMBERED.get(order.kind):
                await remember(connection, AuditEvent(kind, tenant, order.by, run_id))
            return True

        if not await self._tables.change(given):  # the same request at the same time was quicker
            await self.earlier(tenant, request_id, request_sha256)

    async def first(self, run_ids: Collection[str], *kinds: str) -> Mapping[str, Order]:
        if not run_ids:
            return {}
        rows = await self._tables.rows(_FIRST, {"of_runs": list(run_ids), "kinds": list(kinds)})
        return {row.run_id: self._open(row) for row in rows}

    def _open(self, row: Any) -> Order:
        told = json.loads(self._seal.open(row.sealed_order, _place(row.run_id, row.request_id)))
        return Order(kind=row.kind, by=told["by"], reason=told["reason"], at=from_us(row.ordered_us))


def _place(run_id: str, request_id: str) -> str:
    """What an order is sealed for."""
    return f"{run_id}/order/{request_id}"
