"""Between the ledger's words and its tables: rows to domain objects and back, and what insert-if-new is called."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from djp.database import from_us, to_us
from djp_governance.adapters.tables import windows
from djp_governance.model import Call, Limits, ModelTotal, RequestKey, Reservation, Window, WindowKey

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Row, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

WindowId = tuple[str, str, int]
"""A window's primary key: scope, period, starts_us."""


def insert_if_new(connection: AsyncConnection, table: Table) -> Any:
    """An INSERT that leaves rows alone whose key exists; on SQLite and Postgres alike, though named twice."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_postgresql

        return insert_postgresql(table).on_conflict_do_nothing()
    from sqlalchemy.dialects.sqlite import insert as insert_sqlite

    return insert_sqlite(table).on_conflict_do_nothing()


def window_id(key: WindowKey) -> WindowId:
    """The primary key of a window."""
    return key.scope, key.period, to_us(key.starts_at)


def is_window(one: WindowId) -> ColumnElement[bool]:
    """Selects one window."""
    scope, period, starts_us = one
    return (windows.c.scope == scope) & (windows.c.period == period) & (windows.c.starts_us == starts_us)


def to_window(key: WindowKey, limits: Limits, row: Row[Any] | None) -> Window:
    """A window as a row says, or an empty one."""
    limit = limits.of(key.scope, key.period)
    if row is None:
        return Window(key, limit)
    return Window(key, limit, row.reserved_nano, row.spent_nano, row.reserved_tokens, row.spent_tokens)


def reservation_row(reservation: Reservation, held_in: Sequence[WindowId]) -> dict[str, Any]:
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
        "windows": json.dumps(held_in),
    }


def changing_columns(reservation: Reservation) -> dict[str, Any]:
    """What charges and the end of a reservation change."""
    return {
        "state": reservation.state,
        "charged_nano": reservation.charged,
        "charged_tokens": reservation.charged_tokens,
        "closed_us": to_us(reservation.closed_at) if reservation.closed_at else None,
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
    )


def held_in(row: Row[Any]) -> list[WindowId]:
    """The windows that a reservation was made in, in the order that locks are taken."""
    return [(scope, period, starts_us) for scope, period, starts_us in json.loads(row.windows)]


def call_row(key: RequestKey, reservation_id: str, call: Call, now: datetime) -> dict[str, Any]:
    """A charged call's row."""
    return {
        "tenant": key.tenant,
        "call_id": call.call_id,
        "reservation_id": reservation_id,
        "model": call.model,
        "cost_nano": call.cost,
        "input_tokens": call.input_tokens,
        "output_tokens": call.output_tokens,
        "usage_unknown": call.usage_unknown,
        "at_us": to_us(now),
    }


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
