"""Limits that are set at run time, in the ledger's database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import TypeAdapter
from sqlalchemy import delete, select, update

from djp.mesh.errors import NotFound
from djp.upserts import insert_if_new
from djp_governance.adapters.rows import budget_columns
from djp_governance.adapters.sql_events import append_event
from djp_governance.adapters.sql_windows import lock_scope, read_windows, set_budgets
from djp_governance.adapters.tables import budgets, windows
from djp_governance.limits import Budget

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_governance.adapters.transactions import Transactions
    from djp_governance.events import NewEvent
    from djp_governance.limits import Limits
    from djp_governance.model import RequestKey, Window, WindowKey

_BUDGET, _NOTHING = TypeAdapter(Budget), TypeAdapter(None)


class SqlBudgets:
    """A BudgetStore on the ledger's database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def set(self, key: RequestKey, scope: str, budget: Budget, event: NewEvent, now: datetime) -> Budget:
        async def work(connection: AsyncConnection) -> Budget:
            await lock_scope(connection, scope)  # who reserves after this has read the new limits
            row = {"scope": scope, **budget_columns(budget)}
            new = insert_if_new(connection.dialect.name, budgets, budgets.c.scope)
            if (await connection.execute(new, row)).one_or_none() is None:
                await connection.execute(update(budgets).where(budgets.c.scope == scope).values(row))
            await append_event(connection, event)
            return budget

        return await self._transactions.once(key, _BUDGET, now, work)

    async def delete(self, key: RequestKey, scope: str, event: NewEvent, now: datetime) -> None:
        async def work(connection: AsyncConnection) -> None:
            await lock_scope(connection, scope)
            deleted = await connection.execute(delete(budgets).where(budgets.c.scope == scope))
            if not deleted.rowcount:
                raise NotFound(
                    f"scope: no limits of {scope[:80]!r} were set at run time; those of the configuration count",
                    field="scope",
                )
            await append_event(connection, event)

        await self._transactions.once(key, _NOTHING, now, work)

    async def windows(self, keys: Sequence[WindowKey], limits: Limits) -> tuple[Sequence[Window], Mapping[str, Budget]]:
        async def work(connection: AsyncConnection) -> tuple[Sequence[Window], Mapping[str, Budget]]:
            return await read_windows(connection, keys, limits), await set_budgets(
                connection, {one.scope for one in keys}
            )

        return await self._transactions.read(work) if keys else ([], {})

    async def scopes(self, month: date, after: str, limit: int) -> Sequence[str]:
        of_set = select(budgets.c.scope)
        in_use = select(windows.c.scope).where(windows.c.period == "month", windows.c.starts_on == month.isoformat())
        both = of_set.union(in_use).subquery()

        async def work(connection: AsyncConnection) -> list[str]:
            # By code points, as pages are cut: a database may have the order of some language.
            name = both.c.scope.collate("C") if connection.dialect.name == "postgresql" else both.c.scope
            query = select(both.c.scope).where(name > after).order_by(name).limit(limit)
            return [row.scope for row in await connection.execute(query)]

        return await self._transactions.read(work)
