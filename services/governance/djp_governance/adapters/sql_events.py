"""Events in the ledger's database: each told once, in an order that a watcher can rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select, text

from djp.database import to_us
from djp_governance.adapters.rows import event_row, insert_if_new, to_event
from djp_governance.adapters.tables import events

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_governance.adapters.transactions import Transactions
    from djp_governance.events import Event, Kind, NewEvent

_ORDER_LOCK = 0x65767473  # "evts": the advisory lock under which Postgres gives sequences


async def append_event(connection: AsyncConnection, event: NewEvent) -> bool:
    """Record an event in the transaction, unless one of its key is there; whether it was new.

    The last thing that a transaction does: on Postgres others with an event wait for its end, so that a sequence never
    becomes visible after a higher one, which watchers would take for all there is.
    """
    if (await connection.execute(select(events.c.sequence).where(events.c.key == event.key))).one_or_none():
        return False
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ORDER_LOCK})
    new = insert_if_new(connection.dialect.name, events, events.c.sequence)
    return (await connection.execute(new, event_row(event))).one_or_none() is not None


class SqlEvents:
    """An EventStore on the ledger's database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def append(self, *new: NewEvent) -> None:
        # A run that is refused again and again finds its events there, and waits for no writer.
        keys = [event.key for event in new]
        known = await self._transactions.rows(select(events.c.key).where(events.c.key.in_(keys)))
        missing = set(keys) - {row.key for row in known}

        async def work(connection: AsyncConnection) -> None:
            for event in new:
                if event.key in missing:
                    await append_event(connection, event)

        if missing:
            await self._transactions.change(work)

    async def after(self, sequence: int, tenant: str | None, limit: int) -> Sequence[Event]:
        query = select(events).where(events.c.sequence > sequence).order_by(events.c.sequence).limit(limit)
        query = query if tenant is None else query.where(events.c.tenant == tenant)
        return [to_event(row) for row in await self._transactions.rows(query)]

    async def last_sequence(self) -> int:
        return (await self._transactions.rows(select(func.max(events.c.sequence))))[0][0] or 0

    async def newest(
        self,
        tenant: str | None,
        *,
        kind: Kind | None,
        since: datetime | None,
        until: datetime | None,
        before: int | None,
        limit: int,
    ) -> Sequence[Event]:
        query = select(events).order_by(events.c.sequence.desc()).limit(limit)
        if tenant is not None:
            query = query.where(events.c.tenant == tenant)
        if kind is not None:
            query = query.where(events.c.kind == kind)
        if since is not None:
            query = query.where(events.c.at_us >= to_us(since))
        if until is not None:
            query = query.where(events.c.at_us < to_us(until))
        if before is not None:
            query = query.where(events.c.sequence < before)
        return [to_event(row) for row in await self._transactions.rows(query)]
