"""Strays, the objects that are not (yet, or any more) the one of an artifact, and the workers that make them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, bindparam, delete, insert, or_, select, update

from djp.database import to_us
from djp.upserts import insert_if_new, insert_into
from djp_storage.adapters.rows import key_values, object_columns, of_key, to_object
from djp_storage.adapters.tables import claims, strays, workers

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_storage.adapters.transactions import Transactions
    from djp_storage.model import ObjectName

_THIS = and_(of_key(strays), strays.c.object_id == bindparam("by_object"), strays.c.tier == bindparam("by_tier"))
_NEW = insert(strays).inline()
_GONE = delete(strays).where(_THIS).returning(strays.c.tier)
_TAKE_IN = delete(strays).where(_THIS, strays.c.worker != "").returning(strays.c.tier)
_NOBODYS = update(strays).where(_THIS, strays.c.worker == bindparam("was")).values(worker="")

_LAPSED = or_(workers.c.seen_us < bindparam("since"), workers.c.seen_us > bindparam("until"))
_DEAD = select(workers.c.worker).where(_LAPSED).order_by(workers.c.worker).with_for_update(skip_locked=True)
_FREE_STRAYS = update(strays).where(strays.c.worker == bindparam("by_worker")).values(worker="")
_FREE_CLAIMS = delete(claims).where(claims.c.worker == bindparam("by_worker"))
_BURY = delete(workers).where(workers.c.worker == bindparam("by_worker"))


class SqlStrays:
    """The part of a Catalogue that knows of strays and workers. A worker is dead after `lease_s` of silence."""

    def __init__(self, transactions: Transactions, *, lease_s: float) -> None:
        self._transactions = transactions
        self._lease = timedelta(seconds=lease_s)

    async def announce(self, worker: str, name: ObjectName, now: datetime) -> None:
        async def work(connection: AsyncConnection) -> None:
            new = insert_if_new(connection.dialect.name, strays, strays.c.tier)  # once, though it may be done twice
            await connection.execute(new, {**object_columns(name), "worker": worker, "since_us": to_us(now)})

        await self._transactions.change(work)

    async def release(self, worker: str, names: Sequence[ObjectName]) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(_NOBODYS, [{**_this(name), "was": worker} for name in names])

        if names:
            await self._transactions.change(work)

    async def strays(self, limit: int) -> Sequence[ObjectName]:
        query = select(strays).where(strays.c.worker == "").order_by(strays.c.since_us).limit(limit)
        return [to_object(row) for row in await self._transactions.rows(query)]

    async def strays_of(self, worker: str) -> Sequence[ObjectName]:
        query = select(strays).where(strays.c.worker == worker)
        return [to_object(row) for row in await self._transactions.rows(query)]

    async def strays_of_others(self, worker: str, limit: int) -> Collection[ObjectName]:
        query = select(strays).where(strays.c.worker.not_in(("", worker))).limit(limit)
        return [to_object(row) for row in await self._transactions.rows(query)]

    async def known(self, names: Sequence[ObjectName]) -> set[ObjectName]:
        query = select(strays).where(strays.c.object_id.in_([name.object_id for name in names]))
        return {to_object(row) for row in await self._transactions.rows(query)} & set(names)

    async def forget(self, names: Sequence[ObjectName]) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(_GONE, [_this(name) for name in names])

        if names:
            await self._transactions.change(work)

    async def beat(self, worker: str, now: datetime) -> None:
        """A clock that jumped, forwards or back, makes the living look dead: they lose what was not done yet, and do
        it again."""

        async def work(connection: AsyncConnection) -> None:
            row = {"worker": worker, "seen_us": to_us(now)}
            upsert = insert_into(connection.dialect.name, workers)
            await connection.execute(
                upsert.on_conflict_do_update(
                    index_elements=[workers.c.worker], set_={"seen_us": upsert.excluded.seen_us}
                ),
                row,
            )
            silent = {"since": to_us(now - self._lease), "until": to_us(now + self._lease)}
            for (dead,) in (await connection.execute(_DEAD, silent)).all():
                await _bury(connection, dead)

        await self._transactions.change(work)

    async def leave(self, worker: str) -> None:
        await self._transactions.change(lambda connection: _bury(connection, worker))


async def _bury(connection: AsyncConnection, worker: str) -> None:
    for statement in (_FREE_STRAYS, _FREE_CLAIMS, _BURY):
        await connection.execute(statement, {"by_worker": worker})


async def take_in(connection: AsyncConnection, name: ObjectName) -> bool:
    """The object is an artifact's now; False if it is nobody's stray, or none any more.

    What is nobody's is lost to its maker, too: whoever has seen that it is nobody's may be removing it at this moment.
    """
    return (await connection.execute(_TAKE_IN, _this(name))).one_or_none() is not None


async def turn_out(connection: AsyncConnection, name: ObjectName, now: datetime) -> None:
    """The object is no artifact's any more."""
    await connection.execute(_NEW, {**object_columns(name), "worker": "", "since_us": to_us(now)})


def _this(name: ObjectName) -> dict[str, str]:
    return {**key_values(name.key), "by_object": name.object_id, "by_tier": name.tier.value}
