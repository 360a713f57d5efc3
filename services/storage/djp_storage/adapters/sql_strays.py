"""Strays, the objects that are not (yet, or any more) the one of an artifact, and the workers that make them.

A batch is a row without an artifact, whose object_id is how the ids of its objects begin.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, bindparam, delete, or_, select, tuple_, update

from djp.database import to_us
from djp.upserts import insert_if_new, insert_into
from djp_storage.adapters.rows import key_values, object_columns, of_key, to_object
from djp_storage.adapters.tables import artifacts, claims, strays, workers
from djp_storage.model import Maker

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_storage.adapters.transactions import Transactions
    from djp_storage.model import ObjectName

_KEY = (artifacts.c.tenant, artifacts.c.workflow, artifacts.c.artifact)
_THIS = and_(of_key(strays), strays.c.object_id == bindparam("by_object"), strays.c.tier == bindparam("by_tier"))
_GONE = delete(strays).where(_THIS).returning(strays.c.tier)
_HELD = select(strays.c.worker).where(_THIS, strays.c.worker != "").with_for_update(read=True)
_NOBODYS = update(strays).where(_THIS, strays.c.worker == bindparam("was")).values(worker="")

_LAPSED = or_(workers.c.seen_us < bindparam("since"), workers.c.seen_us > bindparam("until"))
_DEAD = select(workers.c.worker).where(_LAPSED).order_by(workers.c.worker).with_for_update(skip_locked=True)
_FREE_STRAYS = update(strays).where(strays.c.worker == bindparam("by_worker")).values(worker="")
_FREE_CLAIMS = delete(claims).where(claims.c.worker == bindparam("by_worker"))
_LIVES = select(workers.c.worker).where(workers.c.worker == bindparam("by_worker")).with_for_update(read=True)
_BURY = delete(workers).where(workers.c.worker == bindparam("by_worker"))


class SqlStrays:
    """The part of a Catalogue that knows of strays and workers. A worker is dead after `lease_s` of silence."""

    def __init__(self, transactions: Transactions, *, lease_s: float) -> None:
        self._transactions = transactions
        self._lease = timedelta(seconds=lease_s)

    async def announce(self, worker: str, batch: ObjectName, now: datetime) -> bool:
        async def work(connection: AsyncConnection) -> bool:
            if (await connection.execute(_LIVES, {"by_worker": worker})).one_or_none() is None:
                return False
            await _enter(connection, batch, worker, now)
            return await holder(connection, batch) == worker

        return await self._transactions.change(work)

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

    async def makers(self, worker: str) -> Collection[Maker]:
        others = select(strays.c.worker).where(strays.c.worker.not_in(("", worker)))
        query = select(workers.c.worker, workers.c.seen_us).where(workers.c.worker.in_(others))
        return [Maker(row.worker, row.seen_us) for row in await self._transactions.rows(query)]

    async def turn_out(self, name: ObjectName, now: datetime) -> None:
        await self._transactions.change(lambda connection: turn_out(connection, name, now))

    async def known(self, names: Sequence[ObjectName]) -> set[ObjectName]:
        ids = {one.object_id for name in names for one in (name, name.batch)}
        query = select(strays).where(strays.c.object_id.in_(ids))
        found = {to_object(row) for row in await self._transactions.rows(query)}
        return {name for name in names if name in found or name.batch in found}

    async def kept(self, names: Sequence[ObjectName]) -> Collection[ObjectName]:
        """An artifact of the first release, whose objects have no id, may have a name that begins like one."""
        keys = {(key.tenant, key.workflow, key.artifact) for key in (name.key for name in names)}
        keys |= {(name.key.tenant, name.key.workflow, f"{name.object_id}-{name.key.artifact}") for name in names}
        query = select(artifacts).where(tuple_(*_KEY).in_(keys))
        return [to_object(row) for row in await self._transactions.rows(query)] if names else []

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


async def holder(connection: AsyncConnection, batch: ObjectName) -> str:
    """Whose batch it is until the transaction ends; empty if it is nobody's, or none.

    What is nobody's is lost to its maker, too: whoever has seen that it is nobody's may be removing it at this moment.
    """
    row = (await connection.execute(_HELD, _this(batch))).one_or_none()
    return row.worker if row else ""


async def turn_out(connection: AsyncConnection, name: ObjectName, now: datetime) -> None:
    """The object is no artifact's any more."""
    await _enter(connection, name, "", now)


async def _enter(connection: AsyncConnection, name: ObjectName, worker: str, now: datetime) -> None:
    """Once, though it may be done twice."""
    new = insert_if_new(connection.dialect.name, strays, strays.c.tier)
    await connection.execute(new, {**object_columns(name), "worker": worker, "since_us": to_us(now)})


def _this(name: ObjectName) -> dict[str, str]:
    return {**key_values(name.key), "by_object": name.object_id, "by_tier": name.tier.value}
