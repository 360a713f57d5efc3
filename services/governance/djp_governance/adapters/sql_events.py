"""Events in the ledger's database: each told once, in an order that a watcher can rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, func, select, text

from djp.database import to_us
from djp.upserts import insert_if_new
from djp_governance.adapters.rows import event_row, to_event
from djp_governance.adapters.tables import events

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_governance.adapters.transactions import Transactions
    from djp_governance.events import Event, Kind, NewEvent

_ORDER_LOCK = 0x65767473  # "evts": the advisory lock under which Postgres gives sequences

_KNOWN = select(events.c.sequence).where(events.c.key == bindparam("name"))
_LAST = select(func.max(events.c.sequence))
_LOCK = text("SELECT pg_advisory_xact_lock(:key)")

_TOLD = 10_000
"""Of so many events a process remembers that they are told; others it looks for in the database."""


async def append_event(connection: AsyncConnection, event: NewEvent) -> bool:
    """Record an event in the transaction, unless one of its key is there; whether it was new.

    The last thing that a transaction does: on Postgres others with an event wait for its end, so that a sequence never
    becomes visible after a higher one, which watchers would take for all there is.
    """
    if (await connection.execute(_KNOWN, {"name": event.key})).one_or_none():
        return False
    if connection.dialect.name == "postgresql":
        await connection.execute(_LOCK, {"key": _ORDER_LOCK})
    new = insert_if_new(connection.dialect.name, events, events.c.sequence)
    return (await connection.execute(new, event_row(event))).one_or_none() is not None


class SqlEvents:
    """An EventStore on the ledger's database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._told: set[str] = set()

    def untold(self, new: Sequence[NewEvent]) -> list[NewEvent]:
        """Those of which this process does not know that they are told."""
        return [event for event in new if event.key not in self._told]

    def remember(self, told: Sequence[NewEvent]) -> None:
        """These are in the database now."""
        if len(self._told) > _TOLD:
            self._told.clear()
        self._told.update(event.key for event in told)

    async def append(self, *new: NewEvent) -> None:
        fresh = self.untold(new)

        async def work(connection: AsyncConnection) -> None:
            for event in fresh:
                await append_event(connection, event)

        if fresh:  # else a run is refused again and again
            await self._transactions.change(work)
            self.remember(fresh)

    async def after(self, sequence: int, tenant: str | None, limit: int) -> Sequence[Event]:
        query = select(events).where(events.c.sequence > sequence).order_by(events.c.sequence).limit(limit)
        query = query if tenant is None else query.where(events.c.tenant == tenant)
        return [to_event(row) for row in await self._transactions.rows(query)]

    async def last_sequence(self) -> int:
        return (await self._transactions.rows(_LAST))[0][0] or 0

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
