"""The ledger in a SQL database (SQLite or Postgres): one transaction a change.

Two runs that start at the same instant can never both take the last dollar: a window's sums change in one statement,
whose condition the database checks under the row's lock. The locks are always taken in the same order (the request, the
reservation, then the windows as `rules.windows_at` lists them), so that no two transactions wait for each other.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import and_, insert, literal, or_, select, update

from djp.database import reading, to_us
from djp.mesh.errors import FailedPrecondition, NotFound, RequestIdReused
from djp_governance.adapters.rows import (
    WindowId,
    call_row,
    changing_columns,
    held_in,
    insert_if_new,
    is_window,
    reservation_row,
    to_reservation,
    to_totals,
    to_window,
    window_id,
)
from djp_governance.adapters.tables import calls, entries, requests, reservations, windows
from djp_governance.model import MAX_SUM, Charged, Grant, Reservation, Statement
from djp_governance.rules import check_calls, check_order, denial, is_throttled, pace_ms, windows_at

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from djp.mesh.errors import DjpError
    from djp_governance.model import Call, Limits, ModelTotal, Order, RequestKey, State, Window, WindowKey

Answer = TypeVar("Answer")

_GRANT, _CHARGED, _STATEMENT = TypeAdapter(Grant), TypeAdapter(Charged), TypeAdapter(Statement)

# reserved + spent never passes MAX_SUM, so neither of these can overflow an int64 on its way.
_LEFT_NANO = literal(MAX_SUM) - windows.c.reserved_nano - windows.c.spent_nano
_LEFT_TOKENS = literal(MAX_SUM) - windows.c.reserved_tokens - windows.c.spent_tokens


class SqlLedger:
    """A Ledger on SQLAlchemy Core."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        # SQLite has one writer: those of this process queue here, first come first served, where its own busy handler
        # would have them sleep and try again in no order.
        self._turn = asyncio.Lock() if engine.dialect.name == "sqlite" else nullcontext()

    async def reserve(self, key: RequestKey, order: Order, limits: Limits, now: datetime) -> Grant:
        warnings = check_order(order)
        keys = windows_at(key.tenant, now)

        async def work(connection: AsyncConnection) -> Grant:
            held: list[Window] = []
            for window_key in keys:
                window = await _hold(connection, window_key, limits, order)
                if window is None:
                    raise await _refusal(connection, keys, held, limits, order)
                held.append(window)
            reservation = Reservation(
                reservation_id=str(uuid.uuid4()),
                run_id=order.run_id,
                tenant=key.tenant,
                state="held",
                reserved=order.amount,
                reserved_tokens=order.tokens,
                charged=0,
                charged_tokens=0,
                created_at=now,
                tags=order.tags,
            )
            row = reservation_row(reservation, [window_id(one) for one in keys])
            await connection.execute(insert(reservations).values(row))
            await _journal(connection, reservation.reservation_id, "reserve", (order.amount, 0, order.tokens, 0), now)
            # A run that costs nothing wears no budget out.
            slow = [pace_ms(one, order.amount, now) for one in held if order.amount and is_throttled(one, limits)]
            return Grant(reservation, throttled=bool(slow), warnings=warnings, pace_ms=max(slow, default=0))

        return await self._once(key, _GRANT, work)

    async def charge(self, key: RequestKey, reservation_id: str, calls_: Sequence[Call], now: datetime) -> Charged:
        check_calls(calls_)

        async def work(connection: AsyncConnection) -> Charged:
            before, in_windows = await _lock(connection, key.tenant, reservation_id)
            new = await _record(connection, key, reservation_id, calls_, now)
            cost = sum(call.cost for call in new)
            after = replace(
                before,
                charged=before.charged + cost,
                charged_tokens=before.charged_tokens + sum(call.tokens for call in new),
            )
            if new:
                await _move(connection, before, after, in_windows, "charge", now)
            over = after.charged > after.reserved or after.charged_tokens > after.reserved_tokens
            return Charged(after, over_reservation=over or cost > before.held - after.held)

        return await self._once(key, _CHARGED, work)

    async def close(
        self, key: RequestKey, reservation_id: str, state: State, now: datetime, reason: str = ""
    ) -> Statement:
        async def work(connection: AsyncConnection) -> Statement:
            reservation, in_windows = await _lock(connection, key.tenant, reservation_id)
            if reservation.state == "held":
                after = replace(reservation, state=state, closed_at=now)
                await _move(connection, reservation, after, in_windows, state, now, reason)
                reservation = after
            return Statement(reservation, await _totals(connection, reservation_id))

        return await self._once(key, _STATEMENT, work)

    async def statement(self, tenant: str, reservation_id: str) -> Statement:
        query = select(reservations).where(_is_reservation(tenant, reservation_id))
        async with reading(self._engine).connect() as connection:
            row = (await connection.execute(query)).one_or_none()
            if row is None:
                raise _unknown(reservation_id)
            return Statement(to_reservation(row), await _totals(connection, reservation_id))

    async def reservations(
        self, tenant: str, *, state: State | None, run_id: str, after: tuple[int, str] | None, limit: int
    ) -> Sequence[Reservation]:
        made, name = reservations.c.created_us, reservations.c.reservation_id
        query = select(reservations).where(reservations.c.tenant == tenant)
        if state:
            query = query.where(reservations.c.state == state)
        if run_id:
            query = query.where(reservations.c.run_id == run_id)
        if after:
            query = query.where(or_(made < after[0], and_(made == after[0], name < after[1])))
        async with reading(self._engine).connect() as connection:
            rows = await connection.execute(query.order_by(made.desc(), name.desc()).limit(limit))
            return [to_reservation(row) for row in rows]

    async def windows(self, keys: Sequence[WindowKey], limits: Limits) -> Sequence[Window]:
        async with reading(self._engine).connect() as connection:
            return await _windows(connection, keys, limits)

    async def _once(
        self, key: RequestKey, kind: TypeAdapter[Answer], work: Callable[[AsyncConnection], Awaitable[Answer]]
    ) -> Answer:
        """Do the work and remember its answer in one transaction, or give the answer of the first time.

        The request is claimed first, so that of two identical ones at once the second waits for the first. What raises
        leaves nothing behind, the claim included.
        """
        claim = {"tenant": key.tenant, "request_id": key.request_id, "body_sha256": key.sha256, "answer": ""}
        mine = and_(requests.c.tenant == key.tenant, requests.c.request_id == key.request_id)
        async with self._turn, self._engine.begin() as connection:
            claimed = insert_if_new(connection, requests).values(claim).returning(requests.c.request_id)
            if (await connection.execute(claimed)).one_or_none() is None:
                first = (await connection.execute(select(requests).where(mine))).one()
                if first.body_sha256 != key.sha256:
                    raise RequestIdReused.by(key.request_id)
                return kind.validate_json(first.answer)
            answer = await work(connection)
            remembered = kind.dump_json(answer).decode()
            await connection.execute(update(requests).where(mine).values(answer=remembered))
            return answer


async def _hold(connection: AsyncConnection, key: WindowKey, limits: Limits, order: Order) -> Window | None:
    """Take the order from a window if it fits; None if it does not. A run that costs nothing fits always."""
    room = [order.tokens <= _LEFT_TOKENS]
    if order.amount:
        room.append(limits.of(key.scope, key.period) - windows.c.reserved_nano - windows.c.spent_nano >= order.amount)
    take = (
        update(windows)
        .where(is_window(window_id(key)), *room)
        .values(
            reserved_nano=windows.c.reserved_nano + order.amount,
            reserved_tokens=windows.c.reserved_tokens + order.tokens,
        )
        .returning(*windows.c)
    )
    row = (await connection.execute(take)).one_or_none()
    if row is None and await _make_window(connection, key):
        row = (await connection.execute(take)).one_or_none()
    return None if row is None else to_window(key, limits, row)


async def _make_window(connection: AsyncConnection, key: WindowKey) -> bool:
    """Whether the window was not there yet, or came to be while we looked."""
    scope, period, starts_us = window_id(key)
    nothing = dict.fromkeys(("reserved_nano", "spent_nano", "reserved_tokens", "spent_tokens"), 0)
    new = insert_if_new(connection, windows).values(scope=scope, period=period, starts_us=starts_us, **nothing)
    return (await connection.execute(new.returning(windows.c.scope))).one_or_none() is not None


async def _refusal(
    connection: AsyncConnection, keys: Sequence[WindowKey], held: Sequence[Window], limits: Limits, order: Order
) -> DjpError:
    """Why an order does not fit; what this transaction took from windows before is not counted."""
    taken = {one.key for one in held}
    seen = [
        replace(one, reserved=one.reserved - order.amount) if one.key in taken else one
        for one in await _windows(connection, keys, limits)
    ]
    full = [one for one in seen if one.left < order.amount]
    return denial(full, order.amount) if full and order.amount else _uncountable()


async def _windows(connection: AsyncConnection, keys: Sequence[WindowKey], limits: Limits) -> list[Window]:
    query = select(windows).where(or_(*(is_window(window_id(key)) for key in keys)))
    rows = {(row.scope, row.period, row.starts_us): row for row in await connection.execute(query)}
    return [to_window(key, limits, rows.get(window_id(key))) for key in keys]


def _is_reservation(tenant: str, reservation_id: str) -> Any:
    return and_(reservations.c.tenant == tenant, reservations.c.reservation_id == reservation_id)


async def _lock(
    connection: AsyncConnection, tenant: str, reservation_id: str
) -> tuple[Reservation, Sequence[WindowId]]:
    """A reservation, which nobody else changes until the transaction ends, and its windows."""
    query = select(reservations).where(_is_reservation(tenant, reservation_id)).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise _unknown(reservation_id)
    return to_reservation(row), held_in(row)


async def _record(
    connection: AsyncConnection, key: RequestKey, reservation_id: str, calls_: Sequence[Call], now: datetime
) -> Sequence[Call]:
    """Store the calls that were not charged before, and give them."""
    by_id = {call.call_id: call for call in reversed(calls_)}  # of one call told twice, the first telling counts
    rows = [call_row(key, reservation_id, call, now) for call in by_id.values()]
    stored = await connection.execute(insert_if_new(connection, calls).returning(calls.c.call_id), rows)
    return [by_id[row.call_id] for row in stored]


async def _move(
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
    reserved, spent, reserved_tokens, spent_tokens = change
    this = reservations.c.reservation_id == after.reservation_id
    await connection.execute(update(reservations).where(this).values(changing_columns(after)))
    for one in in_windows if any(change) else ():
        moved = await connection.execute(
            update(windows)
            .where(is_window(one), reserved + spent <= _LEFT_NANO, reserved_tokens + spent_tokens <= _LEFT_TOKENS)
            .values(
                reserved_nano=windows.c.reserved_nano + reserved,
                spent_nano=windows.c.spent_nano + spent,
                reserved_tokens=windows.c.reserved_tokens + reserved_tokens,
                spent_tokens=windows.c.spent_tokens + spent_tokens,
            )
        )
        if moved.rowcount != 1:
            raise _uncountable()
    await _journal(connection, after.reservation_id, kind, change, now, reason)


async def _journal(
    connection: AsyncConnection,
    reservation_id: str,
    kind: str,
    change: tuple[int, int, int, int],
    now: datetime,
    reason: str = "",
) -> None:
    names = ("reserved_nano", "spent_nano", "reserved_tokens", "spent_tokens")
    entry = {"reservation_id": reservation_id, "kind": kind, "at_us": to_us(now), "reason": reason}
    await connection.execute(insert(entries).values({**entry, **dict(zip(names, change, strict=True))}))


async def _totals(connection: AsyncConnection, reservation_id: str) -> list[ModelTotal]:
    of_it = calls.c.reservation_id == reservation_id
    return to_totals((await connection.execute(select(calls).where(of_it))).all())


def _unknown(reservation_id: str) -> NotFound:
    return NotFound(f"there is no reservation {reservation_id[:40]} of this tenant", field="reservation_id")


def _uncountable() -> FailedPrecondition:
    return FailedPrecondition("a budget window would pass 2^63 - 1, the most that the ledger can count")
