"""The ledger in a SQL database (SQLite or Postgres): one transaction a change.

Two runs that start at the same instant can never both take the last dollar: who looks for room has locked the windows
until what it takes is written. Locks are always taken in the same order (the request, the reservation, its calls, its
run, the roll-ups, then the windows as sql_windows.py orders them, then that of events), so that no two transactions
wait for each other.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import TypeAdapter
from sqlalchemy import and_, bindparam, insert, or_, select

from djp.mesh.errors import DjpError
from djp_governance.adapters.rows import (
    changing_columns,
    held_in,
    open_calls_column,
    reservation_row,
    to_reservation,
    window_id,
)
from djp_governance.adapters.sql_changes import (
    CHANGE,
    charge_calls,
    find_reservation,
    is_due,
    lapse_one,
    move_reservation,
    record_calls,
    statement_of,
    write_journal,
)
from djp_governance.adapters.sql_events import SqlEvents, append_event
from djp_governance.adapters.sql_windows import WindowsMissing, lock_windows, make_windows, move, read_windows
from djp_governance.adapters.tables import reservations
from djp_governance.adapters.transactions import Transactions
from djp_governance.events import of_excess, of_threshold
from djp_governance.model import BudgetExceeded, Charged, Grant, Reservation, Statement
from djp_governance.rules import check_calls, check_order, check_run, denial, pace_ms
from djp_governance.windows import day_of, scopes_of, windows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from djp_governance.events import NewEvent
    from djp_governance.limits import Limits
    from djp_governance.model import Call, Order, RequestKey, State, Unit, Window, WindowKey

_GRANT, _CHARGED, _STATEMENT = TypeAdapter(Grant), TypeAdapter(Charged), TypeAdapter(Statement)
_RESERVATION = TypeAdapter(Reservation)

_RESERVE = insert(reservations)

_LAPSES = 100  # how many are looked for at once
_FULL = 10_000  # how many windows are remembered as full

_log = logging.getLogger(__name__)


class SqlLedger:
    """A Ledger on SQLAlchemy Core; windows are days and months of `zone`."""

    def __init__(self, engine: AsyncEngine, zone: tzinfo = UTC) -> None:
        self.transactions = Transactions(engine)
        self._events = SqlEvents(self.transactions)
        self._zone = zone
        self._full: set[WindowKey] = set()  # in which this process refused something, and has granted nothing since

    async def reserve(self, key: RequestKey, order: Order, limits: Limits, now: datetime) -> Grant:
        warnings = check_order(order)
        day = day_of(now, self._zone)
        scopes = scopes_of(key.tenant, order.workflow)
        keys = windows_of(scopes, day, self._zone)
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
            day=day,
            lease_s=order.lease_s,
            lease_expires_at=now + timedelta(seconds=order.lease_s) if order.lease_s else None,
        )

        refused: list[NewEvent] = []
        slowed: list[NewEvent] = []

        def events_of(
            kind: Literal["throttled", "denied"], passed: Sequence[tuple[Window, Sequence[Unit]]]
        ) -> list[NewEvent]:
            return [event for one, units in passed for event in of_threshold(kind, one, units, now, order.run_id)]

        def refuse(seen: Sequence[Window]) -> None:
            full = [(one, units) for one in seen if (units := one.lacks(order.amount, order.tokens))]
            if full:
                self._full = {one.key for one, _ in full} | (self._full if len(self._full) < _FULL else set())
                refused[:] = events_of("denied", full)
                raise denial([window for window, _ in full], order.amount, order.tokens)

        async def work(connection: AsyncConnection) -> Grant:
            if not self._full.isdisjoint(keys):  # where others were refused, a look may do: it waits for nobody
                refuse(await read_windows(connection, keys, limits))
            taken = (order.amount, 0, order.tokens, 0)
            await connection.execute(_RESERVE, reservation_row(reservation, scopes))
            await write_journal(connection, reservation.reservation_id, "reserve", taken, now)
            before = await lock_windows(connection, keys, limits)
            refuse(before)
            near = await _check_workflow(connection, key.tenant, order, limits)
            self._full.difference_update(keys)
            await move(connection, [window_id(one) for one in keys], taken, locked=True)
            held = [one.plus(order.amount, order.tokens) for one in before]
            paces = [pace_ms(one, order.amount, order.tokens, now) for one in held]
            slow = [(one, units) for one in held if (units := one.slows(order.amount, order.tokens))]
            slowed[:] = self._events.untold(events_of("throttled", slow))
            for event in slowed:
                await append_event(connection, event)
            return Grant(reservation, throttled=bool(slow), warnings=[*warnings, *near], pace_ms=max(paces, default=0))

        try:
            try:
                grant = await self.transactions.once(key, _GRANT, now, work)
            except WindowsMissing:
                await self.transactions.change(lambda connection: make_windows(connection, keys))
                grant = await self.transactions.once(key, _GRANT, now, work)
        except BudgetExceeded:
            await self._events.append(*refused)  # by itself: the transaction of a refusal leaves nothing behind
            raise
        self._events.remember(slowed)
        return grant

    async def charge(self, key: RequestKey, reservation_id: str, calls_: Sequence[Call], now: datetime) -> Charged:
        check_calls(calls_)

        async def work(connection: AsyncConnection) -> Charged:
            row = await find_reservation(connection, key.tenant, reservation_id, lock=True)
            before = to_reservation(row)
            recorded = await record_calls(connection, before, calls_, now)
            after, over = await charge_calls(connection, before, held_in(row), recorded, now)
            if over:
                await append_event(connection, of_excess(after, now))
            return Charged(after, over_reservation=over)

        return await self.transactions.once(key, _CHARGED, now, work)

    async def extend(
        self, key: RequestKey, reservation_id: str, open_calls: Sequence[Call], default_s: float, now: datetime
    ) -> Reservation:
        check_calls(open_calls, "open_calls")

        async def work(connection: AsyncConnection) -> Reservation:
            reservation = to_reservation(await find_reservation(connection, key.tenant, reservation_id, lock=True))
            if reservation.state != "held":
                return reservation
            lease_s = reservation.lease_s or default_s
            after = replace(reservation, lease_expires_at=now + timedelta(seconds=lease_s) if lease_s else None)
            values = {"name": reservation_id, "open_calls": open_calls_column(open_calls), **changing_columns(after)}
            await connection.execute(CHANGE, values)
            return after

        return await self.transactions.once(key, _RESERVATION, now, work)

    async def close(
        self, key: RequestKey, reservation_id: str, state: State, now: datetime, reason: str = ""
    ) -> Statement:
        async def work(connection: AsyncConnection) -> Statement:
            row = await find_reservation(connection, key.tenant, reservation_id, lock=True)
            reservation = to_reservation(row)
            if reservation.state != "held":
                return await statement_of(connection, reservation)
            after = replace(reservation, state=state, closed_at=now)
            statement = await statement_of(connection, after)  # before the windows are locked
            await move_reservation(connection, reservation, after, held_in(row), state, now, reason)
            return statement

        return await self.transactions.once(key, _STATEMENT, now, work)

    async def lapse(self, now: datetime) -> Sequence[Reservation]:
        query = select(reservations.c.reservation_id).where(is_due(now)).order_by(reservations.c.lease_us)
        lapsed: list[Reservation] = []
        for row in await self.transactions.rows(query.limit(_LAPSES)):
            try:
                one = await self.transactions.change(
                    lambda connection, name=row.reservation_id: lapse_one(connection, name, now)  # type: ignore[misc]
                )
            except DjpError as error:  # of this one only: the others are not to wait for it
                _log.error("reservation %s could not lapse and stays held: %s", row.reservation_id, error.message)
            else:
                lapsed += [one] if one else []
        return lapsed

    async def statement(self, tenant: str, reservation_id: str) -> Statement:
        async def work(connection: AsyncConnection) -> Statement:
            row = await find_reservation(connection, tenant, reservation_id)
            return await statement_of(connection, to_reservation(row))

        return await self.transactions.read(work)

    async def reservations(
        self, tenant: str, *, state: State | None, run_id: str, after: tuple[int, str] | None, limit: int
    ) -> Sequence[Reservation]:
        values: dict[str, Any] = {"by": tenant, "most": limit}
        values |= {"in_state": state} if state else {}
        values |= {"of_run": run_id} if run_id else {}
        values |= {"at_us": after[0], "name": after[1]} if after else {}
        found = await self.transactions.rows(_listing(frozenset(values)), values)
        return [to_reservation(row) for row in found]


@cache
def _listing(given: frozenset[str]) -> Select[Any]:
    """A page of a tenant's reservations, newest first, by what is given."""
    created_us, name = reservations.c.created_us, reservations.c.reservation_id
    query = select(reservations).where(reservations.c.tenant == bindparam("by"))
    if "in_state" in given:
        query = query.where(reservations.c.state == bindparam("in_state"))
    if "of_run" in given:
        query = query.where(reservations.c.run_id == bindparam("of_run"))
    if "at_us" in given:
        same = and_(created_us == bindparam("at_us"), name < bindparam("name"))
        query = query.where(or_(created_us < bindparam("at_us"), same))
    return query.order_by(created_us.desc(), name.desc()).limit(bindparam("most"))


async def _check_workflow(connection: AsyncConnection, tenant: str, order: Order, limits: Limits) -> list[str]:
    """Warnings of a run near its workflow's limits. All that it ever reserved counts, and this order is among it."""
    rule = limits.of_run(order.workflow)
    if rule is None:
        return []
    of_run = and_(reservations.c.tenant == tenant, reservations.c.run_id == order.run_id)
    amount = tokens = 0
    for row in await connection.execute(select(reservations).where(of_run)):
        one = to_reservation(row)
        amount, tokens = amount + one.charged + one.held, tokens + one.charged_tokens + one.held_tokens
    return check_run(amount, tokens, rule.limits, rule.remedy("USD"), rule.remedy("TOKENS"))
