"""Roll-ups in the ledger's database: kept in the transaction of every charge, and read for reports and anomalies.

A row is locked only by transactions that go on to lock the windows of its tenant's day, so it is no bottleneck of its
own.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, func, select

from djp.database import reading
from djp_governance.adapters.report_tables import rollups
from djp_governance.adapters.rows import insert_into
from djp_governance.adapters.tables import calls, reservations
from djp_governance.reports import MAX_ROWS, DaySpend, Sums, too_large

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from sqlalchemy import Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from djp_governance.model import Call, Recorded, Reservation

_KEY = ("tenant", "day", "model", "workflow", "preset")
_SUMS = ("runs", "calls", "input_tokens", "output_tokens", "cost_nano")
_MAX_NAME = 100  # characters of a workflow or a preset; longer ones are told apart by these
_TENANTS = 50  # whose days are read at once, so that memory does not grow with the tenants
_ALL = rollups.c.model == ""

# How many calls of each model the run has, those just recorded among them.
_CALLS_OF_RUN = (
    select(calls.c.model, func.count().label("many"))
    .join(reservations, reservations.c.reservation_id == calls.c.reservation_id)
    .where(reservations.c.tenant == bindparam("by"), reservations.c.run_id == bindparam("run"))
    .group_by(calls.c.model)
)


@dataclass
class _Change:
    """What is added to a row; `calls` is 0 where the truth about a call replaced its bound."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0

    def add(self, call: Call, times: int) -> None:
        self.calls += times
        self.input_tokens += times * call.input_tokens
        self.output_tokens += times * call.output_tokens
        self.cost += times * call.cost


async def roll_up(connection: AsyncConnection, reservation: Reservation, recorded: Sequence[Recorded]) -> None:
    """Add what was just charged to the rows of its models and to that over all models.

    To be called once the calls are stored and before the windows are locked.
    """
    if not recorded:
        return
    changes: defaultdict[str, _Change] = defaultdict(_Change)
    for one in recorded:
        for model in ("", one.call.model):
            changes[model].add(one.call, 1)
        if one.replaced:
            for model in ("", one.replaced.model):
                changes[model].add(one.replaced, -1)
    found = await connection.execute(_CALLS_OF_RUN, {"by": reservation.tenant, "run": reservation.run_id})
    now: defaultdict[str, int] = defaultdict(int)
    for row in found:
        now[row.model] += row.many
        now[""] += row.many
    key = {
        "tenant": reservation.tenant,
        "day": reservation.day.isoformat(),
        "workflow": _name(reservation.tags.get("workflow", "")),
        "preset": _name(reservation.tags.get("preset", "")),
    }
    rows = [
        {
            **key,
            "model": model,
            "runs": (now[model] > 0) - (now[model] - change.calls > 0),
            "calls": change.calls,
            "input_tokens": change.input_tokens,
            "output_tokens": change.output_tokens,
            "cost_nano": change.cost,
        }
        for model, change in sorted(changes.items())  # in one order, so that no two charges wait for each other
    ]
    await connection.execute(_add(connection.dialect.name), rows)


@cache
def _add(dialect: str) -> Any:
    """An INSERT that adds to a row that is there."""
    new = insert_into(dialect, rollups)
    return new.on_conflict_do_update(
        index_elements=[rollups.c[name] for name in _KEY],
        set_={name: rollups.c[name] + new.excluded[name] for name in _SUMS},
    )


def _name(given: str) -> str:
    return given.replace("\0", "\ufffd")[:_MAX_NAME]  # Postgres knows no NUL


class SqlReports:
    """A ReportStore on the ledger's database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = reading(engine)

    async def rows(self, tenant: str | None, first: date, last: date) -> Sequence[Sums]:
        by = (rollups.c.day, rollups.c.model, rollups.c.workflow, rollups.c.preset)
        query = select(*by, *_sums()).where(_within(tenant, first, last), ~_ALL).group_by(*by)
        found = await self._rows(query.order_by(rollups.c.day.desc(), *by[1:]))
        return [
            Sums(tenant or "", row.day, row.model, row.workflow, row.preset, *(int(row[n]) for n in range(4, 9)))
            for row in found
        ]

    async def totals(self, tenant: str | None, first: date, last: date) -> Sequence[Sums]:
        by = (rollups.c.tenant, rollups.c.model)
        query = select(*by, *_sums()).where(_within(tenant, first, last)).group_by(*by)
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
