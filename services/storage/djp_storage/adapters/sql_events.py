"""The audit trail, in the catalogue's database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select

from djp.database import from_us, to_us
from djp_storage.adapters.tables import events
from djp_storage.model import ArtifactKey, Event, Tier

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import Any

    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_storage.adapters.transactions import Transactions
    from djp_storage.model import By

_NEW, _LAST = insert(events).inline(), select(func.max(events.c.sequence))


async def append_event(
    connection: AsyncConnection,
    action: str,
    key: ArtifactKey,
    by: By,
    *,
    from_tier: Tier | None = None,
    to_tier: Tier | None = None,
) -> None:
    """Record an event in the transaction that does what it tells."""
    row = {
        "at_us": to_us(by.at),
        "actor": by.actor,
        "action": action,
        "tenant": key.tenant,
        "workflow": key.workflow,
        "artifact": key.artifact,
        "from_tier": from_tier.value if from_tier else "",
        "to_tier": to_tier.value if to_tier else "",
        "reason": by.reason,
    }
    await connection.execute(_NEW, row)


class SqlEvents:
    """An EventStore."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def append(self, action: str, key: ArtifactKey, by: By) -> None:
        async def work(connection: AsyncConnection) -> None:
            await append_event(connection, action, key, by)

        await self._transactions.change(work)

    async def after(self, sequence: int, limit: int) -> Sequence[Event]:
        query = select(events).where(events.c.sequence > sequence).order_by(events.c.sequence).limit(limit)
        return [_event(row) for row in await self._transactions.rows(query)]

    async def last_sequence(self) -> int:
        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(_LAST)).one()[0] or 0

        return await self._transactions.look(work)

    async def newest(
        self,
        tenant: str | None,
        *,
        key: ArtifactKey | None = None,
        action: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        before: int | None = None,
        limit: int,
    ) -> Sequence[Event]:
        query = select(events).order_by(events.c.sequence.desc()).limit(limit)
        if tenant is not None:
            query = query.where(events.c.tenant == tenant)
        if key is not None:
            query = query.where(events.c.workflow == key.workflow, events.c.artifact == key.artifact)
        if action:
            query = query.where(events.c.action == action)
        if since is not None:
            query = query.where(events.c.at_us >= to_us(since))
        if until is not None:
            query = query.where(events.c.at_us < to_us(until))
        if before is not None:
            query = query.where(events.c.sequence < before)
        return [_event(row) for row in await self._transactions.rows(query)]


def _event(row: Any) -> Event:
    return Event(
        row.sequence,
        from_us(row.at_us),
        row.actor,
        row.action,
        ArtifactKey(row.tenant, row.workflow, row.artifact),
        Tier(row.from_tier) if row.from_tier else None,
        Tier(row.to_tier) if row.to_tier else None,
        row.reason,
    )
