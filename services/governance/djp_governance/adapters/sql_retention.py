"""Old months leave the ledger: reservations with their calls and entries, windows, events, answered requests."""

from __future__ import annotations

import asyncio
import time
from datetime import date, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, exists, func, select

from djp.database import to_us
from djp_governance.adapters.report_tables import counted_runs
from djp_governance.adapters.tables import calls, entries, events, requests, reservations, windows
from djp_governance.windows import day_of

if TYPE_CHECKING:
    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_governance.adapters.transactions import Transactions

BATCH = 500
"""Reservations, or other rows, that one transaction takes away: others wait for milliseconds, not for minutes."""


class Retention:
    """Whole months go, and only when all their reservations have ended; `ledger_days` 0 keeps them for ever."""

    def __init__(self, transactions: Transactions, zone: tzinfo, *, ledger_days: int, request_days: int) -> None:
        self._transactions = transactions
        self._zone = zone
        self._ledger_days = ledger_days
        self._request_days = request_days

    async def retire(self, now: datetime) -> int:
        """Take away all that is old enough; how many reservations went. May be interrupted and done again."""
        forgotten = to_us(now - timedelta(days=self._request_days))
        await self._thin(requests, requests.c.at_us < forgotten)
        if not self._ledger_days:
            return 0
        before = day_of(now - timedelta(days=self._ledger_days), self._zone).replace(day=1)
        before = await self._first_kept_month(before)
        gone = 0
        while True:
            began = time.monotonic()
            batch = await self._transactions.change(lambda connection: _retire_batch(connection, before))
            if not batch:
                break
            gone += batch
            await asyncio.sleep(time.monotonic() - began)  # the other half of the time is the runs'
        # One that a charge has locked at this moment was skipped, and its windows wait for it.
        all_gone = ~exists().where(reservations.c.day < before.isoformat())
        await self._thin(windows, and_(windows.c.starts_on < before.isoformat(), all_gone))
        of_run = and_(reservations.c.tenant == counted_runs.c.tenant, reservations.c.run_id == counted_runs.c.run_id)
        await self._thin(counted_runs, and_(counted_runs.c.day < before.isoformat(), ~exists().where(of_run)))
        await self._thin(events, events.c.at_us < to_us(datetime.combine(before, datetime.min.time(), self._zone)))
        return gone

    async def _first_kept_month(self, before: date) -> date:
        """A month with a reservation that is still held stays, and so do those after it."""
        held = select(func.min(reservations.c.day)).where(
            reservations.c.day < before.isoformat(), reservations.c.state == "held"
        )
        day = (await self._transactions.rows(held))[0][0]
        return date.fromisoformat(day).replace(day=1) if day else before

    async def _thin(self, table: Table, old: Any) -> None:
        keys = list(table.primary_key.columns)

        async def work(connection: AsyncConnection) -> int:
            chosen = select(*keys).where(old).limit(BATCH).with_for_update(skip_locked=True).subquery()
            same = [table.c[key.name] == chosen.c[key.name] for key in keys]
            return (await connection.execute(delete(table).where(exists().where(*same)))).rowcount

        while await self._transactions.change(work):
            pass


async def _retire_batch(connection: AsyncConnection, before: date) -> int:
    old = (
        select(reservations.c.reservation_id)
        .where(reservations.c.day < before.isoformat(), reservations.c.state != "held")
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    names = list((await connection.execute(old)).scalars())
    for table in (entries, calls, reservations) if names else ():
        await connection.execute(delete(table).where(table.c.reservation_id.in_(names)))
    return len(names)
