"""What is remembered for an audit, in the SQL database that has the runs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select, true

from djp.database import from_us, now_us, to_us
from djp.mesh.paging import page_token as token_of
from djp.mesh.paging import read_page_token
from djp_gateway.adapters.tables import audit
from djp_gateway.callers import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_gateway.adapters.transactions import Transactions

_REFUSED = "SIGN_IN_REFUSED"
_KEPT = timedelta(days=30)
"""Anybody can be refused, as often as they like; all else is remembered for ever."""
_LONGEST = 300  # characters of who and of what
_ADD = insert(audit)


async def remember(connection: AsyncConnection, event: AuditEvent) -> None:
    """Add an event, in the transaction of what it is about."""
    await connection.execute(_ADD, _row(event))


class SqlAudit:
    """Audit on SQLAlchemy Core; one transaction a call."""

    def __init__(self, tables: Transactions) -> None:
        self._tables = tables

    async def refused(self, refusals: Mapping[tuple[str, str], int]) -> None:
        rows = [_row(AuditEvent(_REFUSED, tenant, "", subject, count)) for (tenant, subject), count in refusals.items()]
        old = delete(audit).where(audit.c.kind == _REFUSED, audit.c.at_us < to_us(datetime.now(UTC) - _KEPT))

        async def kept(connection: AsyncConnection) -> None:
            await connection.execute(_ADD, rows)
            await connection.execute(old)

        await self._tables.change(kept)

    async def list(self, tenant: str | None, *, page_size: int, page_token: str) -> tuple[Sequence[AuditEvent], str]:
        (before,) = read_page_token(page_token, int) or (None,)
        query = (
            select(audit)
            .where(
                true() if tenant is None else audit.c.tenant == tenant,
                true() if before is None else audit.c.sequence < before,
            )
            .order_by(audit.c.sequence.desc())
            .limit(page_size + 1)
        )
        rows = await self._tables.rows(query)
        page = rows[:page_size]
        token = token_of(page[-1].sequence) if len(rows) > page_size else ""
        return [_opened(row) for row in page], token


def _opened(row: Any) -> AuditEvent:
    return AuditEvent(
        kind=row.kind,
        tenant=row.tenant,
        actor=row.actor,
        subject=row.subject,
        count=row.number,
        at=from_us(row.at_us),
        sequence=row.sequence,
    )


def _row(event: AuditEvent) -> dict[str, Any]:
    return {
        "at_us": now_us(),
        "kind": event.kind,
        "tenant": event.tenant,
        "actor": event.actor[:_LONGEST],
        "subject": event.subject[:_LONGEST],
        "number": event.count,
    }
