"""Roll-ups in the ledger's database: kept in the transaction of every charge, and read for reports and anomalies.

A row is locked only by transactions that go on to lock the windows of its tenant's day, so it is no bottleneck of its
own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    and_,
    bindparam,
    cast,
    delete,
    desc,
    exists,
    func,
    or_,
    select,
    text,
    true,
    union,
    union_all,
)
from sqlalchemy.exc import DBAPIError

from djp.database import reading
from djp.upserts import insert_into
from djp_governance.adapters.report_tables import (
    SUMS,
    add_to,
    closed_days,
    closed_months,
    closed_rollups,
    closed_tenant_days,
    counted_runs,
    rollups,
)
from djp_governance.adapters.rows import is_overflow
from djp_governance.adapters.sql_windows import read_windows
from djp_governance.reports import MAX_ROWS, DaySpend, Sums, too_large, too_much, whole_months

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    from sqlalchemy import FromClause, Select, Table
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from djp_governance.limits import Limits
    from djp_governance.model import Recorded, Reservation, Window, WindowKey

_KEY = ("tenant", "day", "model", "workflow", "preset")
_MAX_NAME = 100  # characters of a workflow or a preset; longer ones are told apart by these
_TENANTS = 50  # whose days are read at once, so that memory does not grow with the tenants

_ALL = rollups.c.model == ""  # over all models

_PLANS = text("SET LOCAL plan_cache_mode = force_custom_plan")

_FORGET = delete(counted_runs).where(
    counted_runs.c.tenant == bindparam("by"), counted_runs.c.run_id == bindparam("run"), counted_runs.c.calls <= 0
)

Place = tuple[str, str, str, str]
"""A row of the roll-ups of a tenant: day, model, workflow, preset."""


async def roll_up(connection: AsyncConnection, reservation: Reservation, recorded: Sequence[Recorded]) -> None:
    """Add what was just charged to the rows of its models and to that over all models.

    To be called once the calls are stored and before the windows are locked.
    """
    changes: defaultdict[Place, Counter[str]] = defaultdict(Counter)
    of_model: Counter[str] = Counter()
    told = [(one.call, 1) for one in recorded] + [(one.replaced, -1) for one in recorded if one.replaced]
    for call, times in told:
        for model in ("", call.model):
            of_model[model] += times
            change = changes[_place(reservation, model)]
            change["calls"] += times
            change["input_tokens"] += times * call.input_tokens
            change["output_tokens"] += times * call.output_tokens
            change["cost_nano"] += times * call.cost
    for place, runs in await _count_run(connection, reservation, of_model):
        changes[place]["runs"] += runs
    rows = [
        dict(zip(_KEY, (reservation.tenant, *place), strict=True)) | {name: changes[place][name] for name in SUMS}
        for place in sorted(changes)  # in one order, so that no two charges wait for each other
    ]
    if rows:
        await connection.execute(add_to(connection.dialect.name, rollups), rows)


async def _count_run(
    connection: AsyncConnection, reservation: Reservation, of_model: Mapping[str, int]
) -> list[tuple[Place, int]]:
    """Where the run counts from now on (1) and where it does not any more (-1); `of_model` are its new calls.

    Who adds to a run's calls of a model has that row until the transaction ends, so that of two charges to a run at
    once the second knows of the first.
    """
    rows = [
        dict(zip(_KEY, (reservation.tenant, *_place(reservation, model)), strict=True))
        | {"run_id": reservation.run_id, "calls": more}
        for model, more in sorted(of_model.items())
        if more
    ]
    if not rows:
        return []
    counts: list[tuple[Place, int]] = []
    found = (await connection.execute(_count(connection.dialect.name), rows)).all()
    for row in found:
        if row.calls <= 0 or row.calls == of_model[row.model]:
            counts.append(((row.day, row.model, row.workflow, row.preset), 1 if row.calls > 0 else -1))
    if any(row.calls <= 0 for row in found):
        await connection.execute(_FORGET, {"by": reservation.tenant, "run": reservation.run_id})
    return counts


@cache
def _count(dialect: str) -> Any:
    """An INSERT that adds to the calls of a run that is counted, and tells how many there are now."""
    new = insert_into(dialect, counted_runs)
    return new.on_conflict_do_update(
        index_elements=[counted_runs.c.tenant, counted_runs.c.run_id, counted_runs.c.model],
        set_={"calls": counted_runs.c.calls + new.excluded.calls},
    ).returning(counted_runs)


def _place(reservation: Reservation, model: str) -> Place:
    return (
        reservation.day.isoformat(),
        model,
        _name(reservation.tags.get("workflow", "")),
        _name(reservation.tags.get("preset", "")),
    )


def _name(given: str) -> str:
    return given.replace("\0", "\ufffd")[:_MAX_NAME]  # Postgres knows no NUL


class SqlReports:
    """A ReportStore on the ledger's database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = reading(engine)

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[SqlReportReader]:
        """A transaction that only reads."""
        async with self._engine.connect() as connection:
            try:
                if connection.dialect.name == "postgresql":
                    # A plan for any span takes several times as long as one for the span that is asked for.
                    await connection.execute(_PLANS)
                yield SqlReportReader(connection)
            except DBAPIError as error:
                if is_overflow(error):
                    raise too_much() from error
                raise


class SqlReportReader:
    """A ReportReader in a transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def windows(self, keys: Sequence[WindowKey], limits: Limits) -> Sequence[Window]:
        return await read_windows(self._connection, keys, limits)

    async def rows(self, tenant: str | None, first: date, last: date) -> Sequence[Sums]:
        by = ("day", "model", "workflow", "preset")
        parts = [
            _part(table, by, _of(table, tenant), _days(table, first, last), table.c.model != "")
            for table in (rollups, closed_days if tenant is None else closed_rollups)
        ]
        query = _added(parts, by).order_by(desc("day"), *by[1:])
        return [Sums(tenant or "", *row) for row in await self._rows(query)]

    async def totals(self, tenant: str | None, first: date, last: date) -> Sequence[Sums]:
        by = ("tenant", "model")
        since, until = (one.isoformat() for one in whole_months(first, last))
        month, day, closed = closed_months.c.month, closed_rollups.c.day, _days(closed_rollups, first, last)
        # Nothing closed is later than the last day, unless clocks were set back: its month is as good as over.
        later = exists().where(closed_rollups.c.day > last.isoformat())
        parts = [
            _part(table, by, _of(table, tenant), *within)
            for table, *within in (
                (rollups, _days(rollups, first, last)),
                (closed_rollups, closed, day < since),
                (closed_months, month >= since[:7], or_(month < until[:7], ~later)),
                (closed_rollups, closed, day >= max(since, until), later),
            )
        ]
        query = _added(parts, by)
        found = [Sums(name, "", model, "", "", *sums) for name, model, *sums in await self._rows(query)]
        spent = {one.tenant: one.cost for one in found if not one.model}
        return sorted(found, key=lambda one: (-spent[one.tenant], one.tenant, one.model != "", -one.cost, one.model))

    async def days(
        self, tenant: str | None, first: date, last: date, spent_since: date, least: int
    ) -> AsyncGenerator[DaySpend]:
        by = ("tenant", "day")
        old = closed_tenant_days
        new = _part(rollups, by, _of(rollups, tenant), _days(rollups, spent_since, last), _ALL).subquery()
        both = new.outerjoin(old, and_(old.c.tenant == new.c.tenant, old.c.day == new.c.day))
        spenders = union(
            select(old.c.tenant).where(_of(old, tenant), _days(old, spent_since, last), old.c.cost_nano >= least),
            select(new.c.tenant).select_from(both).where(new.c.cost_nano + func.coalesce(old.c.cost_nano, 0) >= least),
        )
        names = sorted((await self._connection.execute(spenders)).scalars())
        for start in range(0, len(names), _TENANTS):
            some = names[start : start + _TENANTS]
            parts = [
                _part(table, by, table.c.tenant.in_(some), _days(table, first, last), among)
                for table, among in ((rollups, _ALL), (old, true()))
            ]
            days = _added(parts, by).subquery().c
            query = select(days.tenant, days.day, days.calls, days.cost_nano)
            # Sorted here: Postgres sorts by its language's rules, which takes longer.
            for name, day, calls, cost in sorted(map(tuple, await self._connection.execute(query))):
                yield DaySpend(name, date.fromisoformat(day), calls, cost)

    async def _rows(self, query: Select[Any]) -> list[Any]:
        found: list[Any] = list(await self._connection.execute(query.limit(MAX_ROWS + 1)))
        if len(found) > MAX_ROWS:
            raise too_large()
        return found


def _part(table: FromClause, by: Sequence[str], *within: Any) -> Select[Any]:
    told: list[Any] = [table.c[name] for name in by]
    # Postgres's sums are of a type without bounds, which takes ten times as long to read.
    sums = (cast(func.sum(table.c[name]), BigInteger).label(name) for name in SUMS)
    return select(*told, *sums).where(*within).group_by(*told)


def _added(parts: Sequence[Select[Any]], by: Sequence[str]) -> Select[Any]:
    """The sums of the parts together."""
    told = union_all(*parts).subquery()
    # What a lapse charged may turn out to be a call of another model: such a row is left with nothing in it.
    return _part(told, by).having(or_(func.sum(told.c.calls) != 0, func.sum(told.c.runs) != 0))


def _of(table: Table, tenant: str | None) -> Any:
    return true() if tenant is None else table.c.tenant == tenant


def _days(table: Table, first: date, last: date) -> Any:
    return table.c.day.between(first.isoformat(), last.isoformat())
