"""Limits that all gateways count together, in the SQL database that has the runs.

A limit is one number: when it will have room for a minute's calls again. A call moves it on by its part of a minute,
and it may lie a minute ahead at most (the generic cell rate algorithm).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, ColumnElement, Select, case, cast, delete, func, literal, select

from djp.database import now_us
from djp.upserts import insert_into
from djp_gateway.adapters.tables import token_rates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_gateway.adapters.transactions import Transactions

MINUTE_US = 60_000_000
_FORGET_S = 60.0


def time_there(tables: Transactions) -> ColumnElement[int]:
    """The time by one clock for all gateways: the database's, or this machine's, which has all of them."""
    if tables.dialect == "sqlite":
        return literal(now_us(), BigInteger)
    return cast(func.extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger)


def full_after(full_us: ColumnElement[int], calls: int, a_minute: int, now: ColumnElement[int]) -> ColumnElement[int]:
    """The number after so many calls; they are too many if it is more than a minute ahead."""
    return case((full_us > now, full_us), else_=now) + calls * (MINUTE_US // a_minute)


def room_after(full_us: ColumnElement[int], a_minute: int, now: ColumnElement[int]) -> Select[int]:
    """In how many microseconds there is room for one call."""
    return select(full_us + MINUTE_US // a_minute - MINUTE_US - now)


def seconds_of(found: Sequence[Any] | None) -> float:
    """What `room_after` found, in seconds, and never nothing: for who was refused."""
    return max(1.0, float(found[0] if found else 0)) / 1_000_000


class SqlRates:
    """A RateStore on SQLAlchemy Core. What says nothing any more is forgotten once a minute."""

    def __init__(self, tables: Transactions) -> None:
        self._tables = tables
        self._forgot_at = float("-inf")

    async def take(self, caller: str, calls: int, a_minute: int) -> float:
        if time.monotonic() - self._forgot_at >= _FORGET_S:
            self._forgot_at = time.monotonic()
            await self._tables.change(self._forget)
        now = time_there(self._tables)
        full = full_after(token_rates.c.full_us, calls, a_minute, now)
        first = insert_into(self._tables.dialect, token_rates).values(
            caller=caller, full_us=now + calls * (MINUTE_US // a_minute)
        )
        take = first.on_conflict_do_update(
            index_elements=["caller"], set_={"full_us": full}, where=full <= now + MINUTE_US
        ).returning(token_rates.c.caller)
        room_us = room_after(token_rates.c.full_us, a_minute, now).where(token_rates.c.caller == caller)

        async def taken(connection: AsyncConnection) -> float:
            if (await connection.execute(take)).one_or_none():
                return 0.0
            return seconds_of((await connection.execute(room_us)).one_or_none())

        return await self._tables.change(taken)

    async def _forget(self, connection: AsyncConnection) -> None:
        past = token_rates.c.full_us <= time_there(self._tables)
        # Rows that another gateway has a hand on are left to it: two that waited for each other would stand still.
        free = select(token_rates.c.caller).where(past).with_for_update(skip_locked=True)
        await connection.execute(delete(token_rates).where(token_rates.c.caller.in_(free), past))
