"""Roll-ups in the ledger's database: kept in the transaction of every charge, and read for reports and anomalies.

A row is locked only by transactions that go on to lock the windows of its tenant's day, so it is no bottleneck of its
own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, delete, func, or_, select

from djp.database import reading
from djp_governance.adapters.report_tables import counted_runs, rollups
from djp_governance.adapters.rows import insert_into
from djp_governance.reports import MAX_ROWS, DaySpend, Sums, too_large

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from sqlalchemy import Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from djp_governance.model import Recorded, Reservation

_KEY = ("tenant", "day", "model", "workflow", "preset")
_SUMS = ("runs", "calls", "input_tokens", "output_tokens", "cost_nano")
_MAX_NAME = 100  # characters of a workflow or a preset; longer ones are told apart by these
_TENANTS = 50  # whose days are read at once, so that memory does not grow with the tenants
_ALL = rollups.c.model == ""
# What a lapse charged may turn out to be a call of another model: such a row is left with nothing in it.
_ANYTHING = or_(func.sum(rollups.c.calls) != 0, func.sum(rollups.c.runs) != 0)

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
        dict(zip(_KEY, (reservation.tenant, *place), strict=True)) | {name: changes[place][name] for name in _SUMS}
        for place in sorted(changes)  # in one order, so that no two charges wait for each other
    ]
    if rows:
        await connection.execute(_add(connection.dialect.name), rows)


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


@cache
def _add(dialect: str) -> Any:
    """An INSERT that adds to a row that is there."""
    new = insert_into(dialect, rollups)
    return new.on_conflict_do_update(
        index_elements=[rollups.c[name] for name in _KEY],
        set_={name: rollups.c[name] + new.excluded[name] for name in _SUMS},
    )


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

    async def rows(self, tenant: str | None, first: date, last: date) -> Sequence[Sums]:
        by = (rollups.c.day, rollups.c.model, rollups.c.workflow, rollups.c.preset)
        query = select(*by, *_sums()).where(_within(tenant, first, last), ~_ALL).group_by(*by).having(_ANYTHING)
        found = await self._rows(query.order_by(rollups.c.day.desc(), *by[1:]))
        return [
            Sums(tenant or "", row.day, row.model, row.workflow, row.preset, *(int(row[n]) for n in range(4, 9)))
            for row in found
        ]

    async def totals(self, tenant: str | None, first: date, last: date) -> Sequence[Sums]:
        by = (rollups.c.tenant, rollups.c.model)
        query = select(*by, *_sums()).where(_within(tenant, first, last)).group_by(*by).having(_ANYTHING)
        found = [
            Sums(row.tenant, "", row.model, "", "", *(int(row[n]) for n in range(2, 7)))
            for row in await self._rows(query)
        ]
        spent = {one.tenant: one.cost for one in found if not one.model}
        return sorted(found, key=lambda one: (-spent[one.tenant], one.tenant, one.model != "", -one.cost, one.model))

    async def days(
        self, tenant: str | None, first: date, last: date, spent_since: date, least: int
    ) -> AsyncGenerator[DaySpend]:
        cost = func.sum(rollups.c.cost_nano)
        by = (rollups.c.tenant, rollups.c.day)
        spent = select(*by).where(_within(tenant, spent_since, last), _ALL).group_by(*by).having(cost >= least)
        spenders = select(spent.subquery().c.tenant).distinct()
        async with self._engine.connect() as connection:
            names = sorted((await connection.execute(spenders)).scalars())
            query = (
                select(*by, func.sum(rollups.c.calls).label("calls"), cost.label("cost")).group_by(*by).order_by(*by)
            )
            for start in range(0, len(names), _TENANTS):
                some = rollups.c.tenant.in_(names[start : start + _TENANTS])
                for row in await connection.execute(query.where(some, _within(None, first, last), _ALL)):
                    yield DaySpend(row.tenant, date.fromisoformat(row.day), int(row.calls), int(row.cost))

    async def _rows(self, query: Select[Any]) -> list[Row[Any]]:
        async with self._engine.connect() as connection:
            found = list(await connection.execute(query.limit(MAX_ROWS + 1)))
        if len(found) > MAX_ROWS:
            raise too_large()
        return found


def _within(tenant: str | None, first: date, last: date) -> Any:
    span = rollups.c.day.between(first.isoformat(), last.isoformat())
    return span if tenant is None else and_(rollups.c.tenant == tenant, span)


def _sums() -> list[Any]:
    return [func.sum(rollups.c[name]).label(f"sum_{name}") for name in _SUMS]
