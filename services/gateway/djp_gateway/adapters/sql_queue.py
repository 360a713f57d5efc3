"""The queue of runs, in the SQL database that has them: who takes which, and whose are taken from the dead."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import (
    ColumnElement,
    Update,
    and_,
    bindparam,
    case,
    false,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    true,
    union_all,
    update,
)

from djp.database import now_us
from djp.upserts import insert_if_new, insert_into
from djp.v1 import run_pb2
from djp_gateway.adapters.tables import executors, runs, slowed
from djp_gateway.ports import COMMAND, Claim
from djp_gateway.spec import SPEC_VERSION

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import timedelta

    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_gateway.adapters.sql_store import SqlRunStore
    from djp_gateway.adapters.transactions import Transactions

_CLAIM_LOCK = 0x646A7071  # "djpq": the advisory lock of who claims on Postgres, as the write lock is on SQLite

# Statements are built once: building one costs as much as running it.
_CLAIM = (runs.c.tenant, runs.c.run_id, runs.c.attempt, runs.c.takeovers)
_parked = runs.c.due_us.is_not(None)  # until a person decides, or a time comes
_in_work = and_(runs.c.terminal.is_(False), runs.c.waiting.is_(False), ~_parked)
_command: ColumnElement[str] = literal_column(f"'{COMMAND}'")  # spelled out, as in the indexes over such runs
_queued = and_(runs.c.waiting.is_(True), runs.c.executor != _command)
_queued_of_commands = and_(runs.c.waiting.is_(True), runs.c.executor == _command)
_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_SLOWED = select(slowed.c.tenant).where(slowed.c.until_us > bindparam("now"))
_BUSY = (
    select(runs.c.tenant, func.count())
    .where(_in_work, runs.c.tenant.in_(bindparam("tenants", expanding=True)))
    .group_by(runs.c.tenant)
)
_TRY_LOCK = select(  # who has as many runs in work as it may, as in a flood, leaves the lock to others
    case(
        (
            select(func.count()).where(_in_work, runs.c.tenant == bindparam("of_tenant")).scalar_subquery()
            < bindparam("per_tenant"),
            func.pg_try_advisory_xact_lock(bindparam("key")),
        ),
        else_=false(),
    )
)
_TAKE = update(runs).where(runs.c.run_id == bindparam("of_run"))
_BEAT = update(executors).where(executors.c.executor == bindparam("of_executor")).values(beat=executors.c.beat + 1)
_BEATS = (
    select(runs.c.executor, func.coalesce(func.max(executors.c.beat), 0))
    .select_from(runs.outerjoin(executors, executors.c.executor == runs.c.executor))
    .where(_in_work, runs.c.executor != COMMAND)
    .group_by(runs.c.executor)
)
_DEPTH = select(func.count(), func.min(runs.c.queued_us)).where(_queued)
_NEWER = select(func.count()).where(_queued, runs.c.spec_version > bindparam("knows"))
_LEFT = union_all(
    select(*_CLAIM).where(_in_work, runs.c.executor == _command), select(*_CLAIM).where(_queued_of_commands)
)
_ready = and_(_parked, runs.c.terminal.is_(False), runs.c.due_us <= bindparam("now"))
_ready_for_command = and_(_ready, runs.c.state == run_pb2.RUN_STATE_PENDING_APPROVAL)
_WOKEN = {  # the first by time, which only the index knows: Postgres would read every run for any of them
    for_command: select(runs.c.run_id).where(ready).order_by(runs.c.due_us).limit(1)
    for for_command, ready in ((False, _ready), (True, _ready_for_command))
}
_WAKE = {
    for_command: update(runs)
    .where(ready)
    .values(waiting=True, queued_us=bindparam("now"), executor=bindparam("taker"), due_us=None)
    for for_command, ready in ((False, _ready), (True, _ready_for_command))
}


class SqlRunQueue:
    """A RunQueue on SQLAlchemy Core; one transaction a call. `knows`: the newest spec version that is claimed here."""

    def __init__(self, tables: Transactions, store: SqlRunStore, *, knows: int = SPEC_VERSION) -> None:
        self._tables = tables
        self._store = store
        self._knows = knows

    async def add(
        self, run: run_pb2.Run, *, request_id: str, request_sha256: str, executor: str, per_tenant: int = 0
    ) -> tuple[run_pb2.Run, bool]:
        row = self._store.row_of(run, request_id=request_id, request_sha256=request_sha256, executor=executor)
        new = insert_if_new(self._tables.dialect, runs, runs.c.run_id)
        may_take = per_tenant > 0 and row["spec_version"] <= self._knows

        async def added(connection: AsyncConnection) -> bool | None:
            taken = may_take and await self._is_next(connection, run.tenant, executor, per_tenant)
            made = (await connection.execute(new, {**row, "waiting": not taken})).one_or_none()
            return None if made is None else taken

        taken = await self._tables.change(added, urgent=True)
        if taken is None:  # the same request at the same time was quicker
            return cast("run_pb2.Run", await self._store.earlier(run.tenant, request_id, request_sha256)), False
        return run, taken

    async def _is_next(self, connection: AsyncConnection, tenant: str, executor: str, per_tenant: int) -> bool:
        """Whether a new run of the tenant's comes next: the tenant may have it, and `claim` would find no other one."""
        if self._tables.dialect != "sqlite":
            asked = {"key": _CLAIM_LOCK, "of_tenant": tenant, "per_tenant": per_tenant}
            if not (await connection.execute(_TRY_LOCK, asked)).one()[0]:
                return False  # somebody claims right now; so that one takes it, or whoever looks next
        waiting, counts = await _waiting(self._knows, command=executor == COMMAND).in_work(connection, tenant)
        if counts[tenant] >= per_tenant:
            return False
        others = [one for one in waiting if counts[one] < per_tenant]
        if not others:
            return True
        late = await _late(connection)
        return all((one in late, counts[one]) > (tenant in late, counts[tenant]) for one in others)

    async def may_claim(self, executor: str, *, per_tenant: int) -> bool:
        waiting = _waiting(self._knows, command=executor == COMMAND)
        return bool(await self._tables.look(lambda connection: waiting.with_room(connection, per_tenant)))

    async def claim(self, executor: str, *, per_tenant: int) -> Claim | None:
        waiting = _waiting(self._knows, command=executor == COMMAND)

        async def claimed(connection: AsyncConnection) -> Claim | None:
            if self._tables.dialect != "sqlite":
                await connection.execute(_LOCK, {"key": _CLAIM_LOCK})
            late = await _late(connection)
            heads = []
            for tenant, count in (await waiting.with_room(connection, per_tenant)).items():
                (head,) = await waiting.first(connection, tenant, 1)
                heads.append((tenant in late, count, head.created_us, head))
            if not heads:
                return None
            head = min(heads, key=lambda one: one[:3])[3]
            await connection.execute(_TAKE, {"of_run": head.run_id, "waiting": False, "executor": executor})
            return Claim(head.tenant, head.run_id, head.attempt, head.takeovers, _age_s(head.queued_us))

        return await self._tables.change(claimed, urgent=True)

    async def slow(self, tenant: str, pace: timedelta) -> None:
        until_us = now_us() + round(pace.total_seconds() * 1e6)
        put = insert_into(self._tables.dialect, slowed).values(tenant=tenant, until_us=until_us)
        await self._change(put.on_conflict_do_update(index_elements=["tenant"], set_={"until_us": until_us}))

    async def claim_one(self, run_id: str, executor: str) -> Claim | None:
        take = (
            update(runs)
            .where(
                runs.c.run_id == run_id,
                runs.c.terminal.is_(False),
                or_(runs.c.waiting, _parked),
                runs.c.spec_version <= self._knows,
            )
            .values(waiting=False, executor=executor, due_us=None)
        )

        async def claimed(connection: AsyncConnection) -> Claim | None:
            if not (await connection.execute(take)).rowcount:
                return None
            return Claim(*(await connection.execute(select(*_CLAIM).where(runs.c.run_id == run_id))).one())

        return await self._tables.change(claimed)

    async def hand_back(self, executor: str, *, keep: Collection[str] = ()) -> None:
        await self._change(
            update(runs)
            .where(runs.c.executor == executor, _in_work, runs.c.run_id.not_in(keep))
            .values(waiting=True, queued_us=now_us(), attempt=runs.c.attempt + 1)
        )

    async def beat(self, executor: str) -> None:
        async def beaten(connection: AsyncConnection) -> None:
            if not (await connection.execute(_BEAT, {"of_executor": executor})).rowcount:
                await connection.execute(insert(executors), {"executor": executor, "beat": 1})

        await self._tables.change(beaten)

    async def beats(self) -> Mapping[str, int]:
        return _pairs(await self._tables.rows(_BEATS))

    async def take_from(self, executor: str, beat: int | None, *, taker: str) -> int:
        last = select(func.coalesce(func.max(executors.c.beat), 0)).where(executors.c.executor == executor)
        still: ColumnElement[bool] = true() if beat is None else last.scalar_subquery() == beat
        return await self._change(
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

    async def wake_parked(self, taker: str) -> int:
        now = {"now": now_us()}
        if not await self._tables.rows(_WOKEN[taker == COMMAND], now):
            return 0  # mostly, and without a lock
        return await self._change(_WAKE[taker == COMMAND], {**now, "taker": taker})

    async def left_by_commands(self) -> Sequence[Claim]:
        return [Claim(*row) for row in await self._tables.rows(_LEFT)]

    async def newer(self) -> int:
        ((count,),) = await self._tables.rows(_NEWER, {"knows": self._knows})
        return int(count)

    async def depth(self) -> tuple[int, float]:
        ((count, oldest_us),) = await self._tables.rows(_DEPTH)
        return count, _age_s(oldest_us) if count else 0.0

    async def ready(self, executor: str, *, per_tenant: int) -> Sequence[float]:
        waiting = _waiting(self._knows, command=executor == COMMAND)

        async def found(connection: AsyncConnection) -> Sequence[float]:
            ages = list[float]()
            for tenant, count in (await waiting.with_room(connection, per_tenant)).items():
                rows = await waiting.first(connection, tenant, per_tenant - count)
                ages += [_age_s(row.queued_us) for row in rows]
            return ages

        return await self._tables.look(found)

    async def _change(self, statement: Update, values: Mapping[str, Any] | None = None) -> int:
        """How many rows it changed."""

        async def changed(connection: AsyncConnection) -> int:
            return (await connection.execute(statement, values)).rowcount

        return await self._tables.change(changed)


class _Waiting:
    """The runs that wait and that one may take: a command its own only, and nobody else takes those."""

    def __init__(self, knows: int, *, command: bool) -> None:
        waits = and_(_queued_of_commands if command else _queued, runs.c.spec_version <= knows)
        # The tenants that have some are found by hops through the index, however many runs each of them has.
        hops = select(select(func.min(runs.c.tenant)).where(waits).scalar_subquery().label("tenant")).cte(
            "hops", recursive=True
        )
        following = select(func.min(runs.c.tenant)).where(waits, runs.c.tenant > hops.c.tenant)
        hops = hops.union_all(select(following.scalar_subquery()).where(hops.c.tenant.is_not(None)))
        self._tenants = select(hops.c.tenant)
        self._first = (
            select(*_CLAIM, runs.c.created_us, runs.c.queued_us)
            .where(waits, runs.c.tenant == bindparam("of_tenant"))
            .order_by(runs.c.urgency, runs.c.created_us, runs.c.run_id)
            .limit(bindparam("at_most"))
        )

    async def with_room(self, connection: AsyncConnection, per_tenant: int) -> dict[str, int]:
        """Of the tenants with runs that wait those with fewer than `per_tenant` in work, and how many these are."""
        waiting, counts = await self.in_work(connection)
        return {tenant: counts[tenant] for tenant in waiting if counts[tenant] < per_tenant}

    async def in_work(self, connection: AsyncConnection, *more: str) -> tuple[Sequence[str], Mapping[str, int]]:
        """The tenants with runs that wait; and how many runs in work each of them has, and each of `more`."""
        waiting = [row.tenant for row in await connection.execute(self._tenants) if row.tenant is not None]
        tenants = [*waiting, *more]
        if not tenants:
            return [], {}
        busy = _pairs((await connection.execute(_BUSY, {"tenants": tenants})).all())
        return waiting, dict.fromkeys(tenants, 0) | busy

    async def first(self, connection: AsyncConnection, tenant: str, at_most: int) -> Sequence[Any]:
        """The tenant's next runs."""
        return (await connection.execute(self._first, {"of_tenant": tenant, "at_most": at_most})).all()


_waiting = cache(_Waiting)


async def _late(connection: AsyncConnection) -> set[str]:
    """The tenants whose runs come after those of all others now."""
    return {row[0] for row in await connection.execute(_SLOWED, {"now": now_us()})}


def _age_s(since_us: int) -> float:
    return max(0.0, (now_us() - since_us) / 1e6)


def _pairs(rows: Sequence[Any]) -> dict[str, int]:
    return {row[0]: row[1] for row in rows}
