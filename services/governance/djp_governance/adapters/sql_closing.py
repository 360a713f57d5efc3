"""Days that are over leave the roll-ups that charges write, for sums that reports over everybody and a year need."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, bindparam, delete, exists, func, select, update

from djp_governance.adapters.report_tables import (
    SUMS,
    add_to,
    closed_days,
    closed_months,
    closed_rollups,
    closed_tenant_days,
    rollups,
)
from djp_governance.reports import before

if TYPE_CHECKING:
    from datetime import date

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_governance.adapters.transactions import Transactions

OPEN_DAYS = 3
"""Today and the days before it that stay as charges write them: nearly every charge has come by then."""

BATCH = 5000
"""Rows that one transaction moves: others wait for a moment."""


_KEYS = rollups.primary_key.columns
_OLD = (
    select(*_KEYS)
    .where(rollups.c.day < bindparam("open_since"))
    .order_by(rollups.c.day)
    .limit(bindparam("batch", type_=Integer))
    .with_for_update(skip_locked=True)
    .subquery()
)
_MARK = update(rollups).where(exists().where(*(key == _OLD.c[key.name] for key in _KEYS))).values(closing=True)


def _added(*keys: ColumnElement[str]) -> Select[Any]:
    told: list[Any] = [*keys, *(func.sum(rollups.c[name]).label(name) for name in SUMS)]
    # In the order of the keys, so that no two wait for each other.
    return select(*told).where(rollups.c.closing).group_by(*keys).order_by(*keys)


_BY = rollups.c
_MOVED = {
    closed_rollups: _added(_BY.tenant, _BY.day, _BY.model, _BY.workflow, _BY.preset),
    closed_days: _added(_BY.day, _BY.model, _BY.workflow, _BY.preset).where(_BY.model != ""),
    closed_tenant_days: _added(_BY.tenant, _BY.day).where(_BY.model == ""),
    closed_months: _added(func.substr(_BY.day, 1, 7).label("month"), _BY.tenant, _BY.model),
}


class Closing:
    """Moves rows, so that every charge is in one place at every moment, whichever day it is for and whoever moves."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def close_days(self, today: date) -> int:
        """Move what is older than OPEN_DAYS; how many rows went. May be interrupted, and done by several at once."""
        open_since = before(today, OPEN_DAYS - 1).isoformat()
        moved = 0
        while True:
            began = time.monotonic()
            batch = await self._transactions.change(lambda connection: _move(connection, open_since))
            if not batch:
                return moved
            moved += batch
            await asyncio.sleep(time.monotonic() - began)  # the other half of the time is the runs'


async def _move(connection: AsyncConnection, open_since: str) -> int:
    """Mark rows, so that they are locked as they are now; what is charged meanwhile waits, and begins new rows."""
    marked = await connection.execute(_MARK, {"open_since": open_since, "batch": BATCH})
    if marked.rowcount:
        for table, rows in _MOVED.items():
            await connection.execute(add_to(connection.dialect.name, table, rows))
        await connection.execute(delete(rollups).where(rollups.c.closing))
    return marked.rowcount
