"""Between the ledger's words and its tables: rows to domain objects and back, and what insert-if-new is called."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from djp.database import from_us, to_us
from djp_governance.events import Event
from djp_governance.limits import Budget
from djp_governance.model import Call, ModelTotal, Reservation, Window
from djp_governance.windows import PERIODS, first_day

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Row

    from djp_governance.events import NewEvent
    from djp_governance.model import WindowKey

WindowId = tuple[str, str, str]
"""A window's primary key: scope, period, first day."""


@cache
def is_overflow(error: Exception) -> bool:
    """Whether a sum passed an int64: to Postgres, to SQLite, or on its way to it."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    out_of_range = getattr(cause, "sqlstate", "") == "22003" or "integer overflow" in str(cause)
    return out_of_range or isinstance(cause, OverflowError)


def window_id(key: WindowKey) -> WindowId:
    """The primary key of a window."""
    return key.scope, key.period, key.day.isoformat()


def filled(window: Window, row: Row[Any] | None) -> Window:
    """An empty window with what a row says is in it."""
    if row is None:
        return window
    return replace(
        window,
        reserved=row.reserved_nano,
        spent=row.spent_nano,
        reserved_tokens=row.reserved_tokens,
        spent_tokens=row.spent_tokens,
    )


def reservation_row(reservation: Reservation, scopes: Sequence[str]) -> dict[str, Any]:
    """A new reservation's row."""
    return {
        **changing_columns(reservation),
        "reservation_id": reservation.reservation_id,
        "run_id": reservation.run_id,
        "tenant": reservation.tenant,
        "reserved_nano": reservation.reserved,
        "reserved_tokens": reservation.reserved_tokens,
        "created_us": to_us(reservation.created_at),
        "tags": json.dumps(dict(reservation.tags)),
        "day": reservation.day.isoformat(),
        "scopes": json.dumps(scopes),
        "lease_s": reservation.lease_s,
    }


def changing_columns(reservation: Reservation) -> dict[str, Any]:
    """What charges, extensions and the end of a reservation change."""
    return {
        "state": reservation.state,
        "charged_nano": reservation.charged,
        "charged_tokens": reservation.charged_tokens,
        "closed_us": to_us(reservation.closed_at) if reservation.closed_at else None,
        "lease_us": to_us(reservation.lease_expires_at) if reservation.lease_expires_at else None,
    }


def to_reservation(row: Row[Any]) -> Reservation:
    """A reservation from its row."""
    return Reservation(
        reservation_id=row.reservation_id,
        run_id=row.run_id,
        tenant=row.tenant,
        state=row.state,
        reserved=row.reserved_nano,
        reserved_tokens=row.reserved_tokens,
        charged=row.charged_nano,
        charged_tokens=row.charged_tokens,
        created_at=from_us(row.created_us),
        closed_at=from_us(row.closed_us) if row.closed_us is not None else None,
        tags=json.loads(row.tags),
        day=date.fromisoformat(row.day),
        lease_s=row.lease_s,
        lease_expires_at=from_us(row.lease_us) if row.lease_us is not None else None,
    )


def held_in(row: Row[Any]) -> list[WindowId]:
    """The windows that a reservation was made in."""
    day = date.fromisoformat(row.day)
    return [
        (scope, period, first_day(period, day).isoformat()) for scope in json.loads(row.scopes) for period in PERIODS
    ]


def open_calls_column(calls: Sequence[Call]) -> str:
    """The calls under way, as a reservation's row keeps them."""
    return json.dumps([(one.call_id, one.model, one.cost, one.input_tokens, one.output_tokens) for one in calls])


def to_open_calls(row: Row[Any]) -> list[Call]:
    """The calls under way, each at its bound."""
    return [
        Call(call_id, model, cost, input_tokens, output_tokens, usage_unknown=True)
        for call_id, model, cost, input_tokens, output_tokens in json.loads(row.open_calls)
    ]


def call_row(tenant: str, reservation_id: str, call: Call, now: datetime, *, by_lapse: bool) -> dict[str, Any]:
    """A charged call's row."""
    return {
        "tenant": tenant,
        "call_id": call.call_id,
        "reservation_id": reservation_id,
        "model": call.model,
        "cost_nano": call.cost,
        "input_tokens": call.input_tokens,
        "output_tokens": call.output_tokens,
        "usage_unknown": call.usage_unknown,
        "at_us": to_us(now),
        "by_lapse": by_lapse,
    }


def to_call(row: Row[Any]) -> Call:
    """A charged call."""
    return Call(row.call_id, row.model, row.cost_nano, row.input_tokens, row.output_tokens, bool(row.usage_unknown))


def to_totals(rows: Sequence[Row[Any]]) -> list[ModelTotal]:
    """Totals by model name, from the charged calls of a reservation."""
    found: dict[str, ModelTotal] = {}
    for row in sorted(rows, key=lambda one: str(one.model)):
        so_far = found.get(row.model, ModelTotal(row.model, 0, 0, 0, 0, 0))
        found[row.model] = ModelTotal(
            model=row.model,
            calls=so_far.calls + 1,
            input_tokens=so_far.input_tokens + row.input_tokens,
            output_tokens=so_far.output_tokens + row.output_tokens,
            cost=so_far.cost + row.cost_nano,
            unknown_calls=so_far.unknown_calls + int(row.usage_unknown),
        )
    return list(found.values())


def budget_columns(budget: Budget) -> dict[str, int | None]:
    """The limits as a row of `budgets` has them."""
    return {
        "daily_nano": budget.daily,
        "monthly_nano": budget.monthly,
        "daily_tokens": budget.daily_tokens,
        "monthly_tokens": budget.monthly_tokens,
    }


def to_budget(row: Row[Any]) -> Budget:
    """A budget that was set at run time."""
    return Budget(row.daily_nano, row.monthly_nano, row.daily_tokens, row.monthly_tokens, origin="set")


def event_row(event: NewEvent) -> dict[str, Any]:
    """A new event's row."""
    return {
        "key": event.key,
        "kind": event.kind,
        "at_us": to_us(event.at),
        "scope": event.scope,
        "tenant": event.tenant,
        "run_id": event.run_id,
        "actor": event.actor,
        "message": event.message,
        "snapshot": json.dumps(dict(event.window)) if event.window else None,
    }


def to_event(row: Row[Any]) -> Event:
    """An event from its row."""
    return Event(
        kind=row.kind,
        at=from_us(row.at_us),
        key=row.key,
        scope=row.scope,
        message=row.message,
        tenant=row.tenant,
        run_id=row.run_id,
        actor=row.actor,
        window=json.loads(row.snapshot) if row.snapshot else None,
        sequence=row.sequence,
    )
