"""The queue of runs, in the SQL database that has them: who takes which, and whose are taken from the dead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Select, and_, func, insert, or_, select, text, true, update

from djp.database import now_us, reading
from djp.upserts import insert_into
from djp.v1 import run_pb2
from djp_gateway.adapters.tables import executors, orders, runs, slowed
from djp_gateway.adapters.turn import turn_of
from djp_gateway.ports import COMMAND, Claim
from djp_gateway.spec import SPEC_VERSION

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import timedelta

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_CLAIM_LOCK = 0x646A7071  # "djpq": the advisory lock of who claims on Postgres, as the write lock is on SQLite

_CLAIM = (runs.c.tenant, runs.c.run_id, runs.c.attempt, runs.c.takeovers)
_parked = runs.c.due_us.is_not(None)  # until a person decides, or a time comes
_in_work = and_(runs.c.terminal.is_(False), runs.c.waiting.is_(False), ~_parked)


class SqlRunQueue:
    """A RunQueue on SQLAlchemy Core; one transaction a call. `knows`: the newest spec version that is claimed here."""

    def __init__(self, engine: AsyncEngine, *, knows: int = SPEC_VERSION) -> None:
        self._engine = engine
        self._known = runs.c.spec_version <= knows
        self._sqlite = engine.dialect.name == "sqlite"
        self._turn = turn_of(engine)

    def _mine(self, executor: str) -> ColumnElement[bool]:
        """What an executor may take: a command its own runs only, and nobody else does."""
        return and_(self._known, runs.c.executor == COMMAND if executor == COMMAND else runs.c.executor != COMMAND)

    async def claim(self, executor: str, *, per_tenant: int) -> Claim | None:
        mine = self._mine(executor)
        async with reading(self._engine).connect() as connection:
            if not await _with_room(connection, mine, per_tenant):
                return None  # mostly, and without a lock
        async with self._turn, self._engine.begin() as connection:
            if not self._sqlite:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CLAIM_LOCK})
            busy, late = await _with_room(connection, mine, per_tenant), await self._slowed(connection)
            heads = []
            for tenant, count in busy.items():
                head = (await connection.execute(_first(tenant, mine, 1))).one()
                heads.append((tenant in late, count, head.created_us, head))
            if not heads:
                return None
            head = min(heads, key=lambda one: one[:3])[3]
            await connection.execute(
                update(runs).where(runs.c.run_id == head.run_id).values(waiting=False, executor=executor)
            )
        return Claim(head.tenant, head.run_id, head.attempt, head.takeovers, _age_s(head.queued_us))

    async def slow(self, tenant: str, pace: timedelta) -> None:
        until_us = now_us() + round(pace.total_seconds() * 1e6)
        async with self._turn, self._engine.begin() as connection:
            put = insert_into(self._engine.dialect.name, slowed).values(tenant=tenant, until_us=until_us)
            await connection.execute(put.on_conflict_do_update(index_elements=["tenant"], set_={"until_us": until_us}))

    async def _slowed(self, connection: AsyncConnection) -> set[str]:
        query = select(slowed.c.tenant).where(slowed.c.until_us > now_us())
        return set((await connection.execute(query)).scalars())

    async def claim_one(self, run_id: str, executor: str) -> Claim | None:
        async with self._turn, self._engine.begin() as connection:
            done = await connection.execute(
                update(runs)
                .where(runs.c.run_id == run_id, runs.c.terminal.is_(False), or_(runs.c.waiting, _parked), self._known)
                .values(waiting=False, executor=executor, due_us=None)
            )
            if not done.rowcount:
                return None
            row = (await connection.execute(select(*_CLAIM).where(runs.c.run_id == run_id))).one()
        return Claim(*row)

    async def hand_back(self, executor: str, *, keep: Collection[str] = ()) -> None:
        async with self._turn, self._engine.begin() as connection:
            await connection.execute(
                update(runs)
                .where(runs.c.executor == executor, _in_work, runs.c.run_id.not_in(keep))
                .values(waiting=True, queued_us=now_us(), attempt=runs.c.attempt + 1)
            )

    async def beat(self, executor: str) -> None:
        async with self._turn, self._engine.begin() as connection:
            done = await connection.execute(
                update(executors).where(executors.c.executor == executor).values(beat=executors.c.beat + 1)
            )
            if not done.rowcount:
                await connection.execute(insert(executors).values(executor=executor, beat=1))

    async def beats(self) -> Mapping[str, int]:
        query = (
            select(runs.c.executor, func.coalesce(func.max(executors.c.beat), 0))
            .select_from(runs.outerjoin(executors, executors.c.executor == runs.c.executor))
            .where(_in_work, runs.c.executor != COMMAND)
            .group_by(runs.c.executor)
        )
        async with reading(self._engine).connect() as connection:
            return await _pairs(connection, query)

    async def take_from(self, executor: str, beat: int | None, *, taker: str) -> int:
        last = select(func.coalesce(func.max(executors.c.beat), 0)).where(executors.c.executor == executor)
        still: ColumnElement[bool] = true() if beat is None else last.scalar_subquery() == beat
        async with self._turn, self._engine.begin() as connection:
            taken = await connection.execute(
                update(runs)
                .where(runs.c.executor == executor, _in_work, still)
                .values(
                    waiting=True,
                    queued_us=now_us(),
                    executor=taker,
                    attempt=runs.c.attempt + 1,
                    takeovers=runs.c.takeovers + 1,
                )
            )
        return int(taken.rowcount)

    async def wake_parked(self, taker: str) -> int:
        woken_us = now_us()
        ordered = select(orders.c.run_id).where(orders.c.run_id == runs.c.run_id).exists()
        ready = and_(_parked, runs.c.terminal.is_(False), or_(runs.c.due_us <= woken_us, ordered))
        if taker == COMMAND:
            ready = and_(ready, runs.c.state == run_pb2.RUN_STATE_PENDING_APPROVAL)
        async with reading(self._engine).connect() as connection:
            if not (await connection.execute(select(runs.c.run_id).where(ready).limit(1))).first():
                return 0  # mostly, and without a lock
        async with self._turn, self._engine.begin() as connection:
            done = await connection.execute(
                update(runs).where(ready).values(waiting=True, queued_us=woken_us, executor=taker, due_us=None)
            )
        return int(done.rowcount)

    async def unfinished(self, executor: str) -> Sequence[Claim]:
        query = select(*_CLAIM).where(runs.c.executor == executor, runs.c.terminal.is_(False), ~_parked)
        async with reading(self._engine).connect() as connection:
            return [Claim(*row) for row in await connection.execute(query)]

    async def depth(self) -> tuple[int, float]:
        query = select(func.count(), func.min(runs.c.queued_us)).where(runs.c.waiting, runs.c.executor != COMMAND)
        async with reading(self._engine).connect() as connection:
            count, oldest_us = (await connection.execute(query)).one()
        return count, _age_s(oldest_us) if count else 0.0

    async def ready(self, executor: str, *, per_tenant: int) -> Sequence[float]:
        mine, ages = self._mine(executor), list[float]()
        async with reading(self._engine).connect() as connection:
            for tenant, count in (await _with_room(connection, mine, per_tenant)).items():
                rows = (await connection.execute(_first(tenant, mine, per_tenant - count))).all()
                ages += [_age_s(row.queued_us) for row in rows]
        return ages


def _age_s(since_us: int) -> float:
    return max(0.0, (now_us() - since_us) / 1e6)


async def _pairs(connection: AsyncConnection, query: Select[str, int]) -> dict[str, int]:
    return {row[0]: row[1] for row in (await connection.execute(query)).all()}


async def _tenants(connection: AsyncConnection, mine: ColumnElement[bool]) -> list[str]:
    """Those that have runs waiting: found by hops through the index, however many runs each of them has."""
    tenants: list[str] = []
    first = select(func.min(runs.c.tenant)).where(runs.c.waiting, mine)
    hops = select(first.scalar_subquery().label("tenant")).cte("hops", recursive=True)
    following = select(func.min(runs.c.tenant)).where(runs.c.waiting, mine, runs.c.tenant > hops.c.tenant)
    hops = hops.union_all(select(following.scalar_subquery()).where(hops.c.tenant.is_not(None)))
    for (tenant,) in await connection.execute(select(hops.c.tenant)):
        if tenant is not None:
            tenants.append(tenant)
    return tenants


async def _with_room(connection: AsyncConnection, mine: ColumnElement[bool], per_tenant: int) -> dict[str, int]:
    """Of the tenants with runs that wait those with fewer than `per_tenant` in work, and how many these are."""
    tenants = await _tenants(connection, mine)
    if not tenants:
        return {}
    busy = select(runs.c.tenant, func.count()).where(_in_work, runs.c.tenant.in_(tenants)).group_by(runs.c.tenant)
    counts = dict.fromkeys(tenants, 0) | await _pairs(connection, busy)
    return {tenant: count for tenant, count in counts.items() if count < per_tenant}


def _first(tenant: str, mine: ColumnElement[bool], count: int) -> Select[Any]:
    """The tenant's next runs."""
    return (
        select(*_CLAIM, runs.c.created_us, runs.c.queued_us)
        .where(runs.c.waiting, mine, runs.c.tenant == tenant)
        .order_by(runs.c.urgency, runs.c.created_us, runs.c.run_id)
        .limit(count)
    )
