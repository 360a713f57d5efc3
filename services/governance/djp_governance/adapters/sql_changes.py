"""What changes a reservation: its row, its calls, roll-ups, journal and windows, in the order of the locks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, insert, select, update

from djp.database import to_us
from djp.mesh.errors import NotFound
from djp.upserts import insert_if_new
from djp_governance.adapters.rows import (
    WindowId,
    call_row,
    changing_columns,
    held_in,
    to_call,
    to_open_calls,
    to_reservation,
    to_totals,
)
from djp_governance.adapters.sql_events import append_event
from djp_governance.adapters.sql_reports import roll_up
from djp_governance.adapters.sql_windows import AMOUNTS, move
from djp_governance.adapters.tables import calls, entries, reservations
from djp_governance.events import of_excess, of_lapse
from djp_governance.model import Recorded, Reservation, Statement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_governance.adapters.sql_windows import Change
    from djp_governance.model import Call

# Statements are built once: building one costs as much as running it.
_FIND = select(reservations).where(
    reservations.c.tenant == bindparam("by"), reservations.c.reservation_id == bindparam("name")
)
CHANGE = update(reservations).where(reservations.c.reservation_id == bindparam("name"))
_FIND_AND_LOCK = _FIND.with_for_update()
_JOURNAL = insert(entries).inline()
_CALLS_OF = select(calls).where(calls.c.reservation_id == bindparam("name"))


def is_due(now: datetime) -> Any:
    """As the index of leases has it."""
    return and_(
        reservations.c.state == "held", reservations.c.lease_us.is_not(None), reservations.c.lease_us <= to_us(now)
    )


async def find_reservation(connection: AsyncConnection, tenant: str, reservation_id: str, *, lock: bool = False) -> Any:
    """A reservation's row; with `lock` nobody else changes it until the transaction ends. Raises NotFound."""
    query = _FIND_AND_LOCK if lock else _FIND
    row = (await connection.execute(query, {"by": tenant, "name": reservation_id})).one_or_none()
    if row is None:
        raise NotFound(f"there is no reservation {reservation_id[:40]} of this tenant", field="reservation_id")
    return row


async def record_calls(
    connection: AsyncConnection,
    reservation: Reservation,
    calls_: Sequence[Call],
    now: datetime,
    *,
    by_lapse: bool = False,
) -> list[Recorded]:
    """Store the calls that were not charged before, and those that a lapse has charged while the truth was unknown."""
    by_id = {call.call_id: call for call in reversed(calls_)}  # of one call told twice, the first telling counts
    name, tenant = reservation.reservation_id, reservation.tenant
    rows = [call_row(tenant, name, by_id[one], now, by_lapse=by_lapse) for one in sorted(by_id)]
    stored = await connection.execute(insert_if_new(connection.dialect.name, calls, calls.c.call_id), rows)
    recorded = [Recorded(by_id[row.call_id]) for row in stored]
    if reservation.state != "lapsed" or len(recorded) == len(by_id):
        return recorded
    of_lapse_ = and_(calls.c.reservation_id == name, calls.c.by_lapse, calls.c.call_id.in_(sorted(by_id)))
    for row in (await connection.execute(select(calls).where(of_lapse_))).all():
        truth = by_id[row.call_id]
        this = and_(calls.c.tenant == tenant, calls.c.call_id == row.call_id)
        values = call_row(tenant, name, truth, now, by_lapse=False)
        await connection.execute(update(calls).where(this).values(values))
        recorded.append(Recorded(truth, replaced=to_call(row)))
    return recorded


async def charge_calls(
    connection: AsyncConnection,
    before: Reservation,
    in_windows: Sequence[WindowId],
    recorded: Sequence[Recorded],
    now: datetime,
) -> tuple[Reservation, bool]:
    """Move what was recorded to spent; the reservation after it, and whether not all of it was covered."""
    await roll_up(connection, before, recorded)
    after, fresh, fresh_tokens = before, 0, 0
    for kind in ("adjust", "charge"):
        some = [one for one in recorded if (one.replaced is not None) == (kind == "adjust")]
        if not some:
            continue
        cost = sum(one.cost for one in some)
        tokens = sum(one.tokens for one in some)
        if kind == "charge":
            fresh, fresh_tokens = cost, tokens
        moved = replace(after, charged=after.charged + cost, charged_tokens=after.charged_tokens + tokens)
        await move_reservation(connection, after, moved, in_windows, kind, now)
        after = moved
    beyond = after.charged > after.reserved or after.charged_tokens > after.reserved_tokens
    uncovered = fresh > before.held - after.held or fresh_tokens > before.held_tokens - after.held_tokens
    return after, beyond or uncovered


async def lapse_one(connection: AsyncConnection, reservation_id: str, now: datetime) -> Reservation | None:
    """End one whose lease is over; None where its holder, or another process, was faster."""
    this = and_(reservations.c.reservation_id == reservation_id, is_due(now))
    query = select(reservations).where(this).with_for_update(skip_locked=True)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    before, open_calls = to_reservation(row), to_open_calls(row)
    recorded = await record_calls(connection, before, open_calls, now, by_lapse=True) if open_calls else []
    charged, over = await charge_calls(connection, before, held_in(row), recorded, now)
    after = replace(charged, state="lapsed", closed_at=now)
    await move_reservation(connection, charged, after, held_in(row), "lapsed", now)
    await append_event(connection, of_lapse(after, [one.cost for one in recorded], charged.held, now))
    if over:
        await append_event(connection, of_excess(after, now))
    return after


async def move_reservation(
    connection: AsyncConnection,
    before: Reservation,
    after: Reservation,
    in_windows: Sequence[WindowId],
    kind: str,
    now: datetime,
    reason: str = "",
) -> None:
    """Bring the reservation, its windows and the journal from before to after."""
    change = (
        after.held - before.held,
        after.charged - before.charged,
        after.held_tokens - before.held_tokens,
        after.charged_tokens - before.charged_tokens,
    )
    await connection.execute(CHANGE, {"name": after.reservation_id, **changing_columns(after)})
    await write_journal(connection, after.reservation_id, kind, change, now, reason)
    if any(change):
        await move(connection, in_windows, change)


async def write_journal(
    connection: AsyncConnection, reservation_id: str, kind: str, change: Change, now: datetime, reason: str = ""
) -> None:
    entry = {"reservation_id": reservation_id, "kind": kind, "at_us": to_us(now), "reason": reason}
    await connection.execute(_JOURNAL, {**entry, **dict(zip(AMOUNTS, change, strict=True))})


async def statement_of(connection: AsyncConnection, reservation: Reservation) -> Statement:
    rows = (await connection.execute(_CALLS_OF, {"name": reservation.reservation_id})).all()
    return Statement(reservation, to_totals(rows))
