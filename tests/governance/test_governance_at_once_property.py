"""Commands of all kinds in any order, several in flight at once, on both databases: the books balance all the same.

What each command did depends on which came first, so the rules here are bounds: what was granted fits, what was refused
could not have fitted, the same request has one answer, and journal, windows, roll-ups, runs and events agree.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from djp.database import open_engine
from djp_governance.adapters.sql_budgets import SqlBudgets
from djp_governance.adapters.sql_ledger import SqlLedger
from djp_governance.adapters.sql_reports import SqlReports
from djp_governance.adapters.tables import metadata
from djp_governance.events import NewEvent
from djp_governance.limits import Budget, Limits
from djp_governance.model import BudgetExceeded, Call, Order, RequestKey, RunLimits, State
from djp_governance.server import MIGRATIONS
from djp_governance.windows import windows_of
from tests.governance.ledger_audit import mistakes

LIMITS = Limits(Budget(), Budget(daily=100, monthly=250))
START = datetime(2026, 12, 30, 20, 0, tzinfo=UTC)

small, which = st.integers(0, 60), st.integers(0, 7)
# Few ids of calls, so that they come again, in other reservations, too; and few models.
call = st.tuples(st.integers(0, 11), st.sampled_from(("a", "b")), small, st.booleans())
calls = st.lists(call, min_size=1, max_size=3)
command = st.one_of(
    st.tuples(st.just("reserve"), st.integers(0, 2), small, st.sampled_from(("", "weekly", "x" * 120)), st.booleans()),
    st.tuples(st.just("charge"), which, calls),
    st.tuples(st.just("extend"), which, calls),
    st.tuples(st.just("close"), which, st.sampled_from(("settled", "released"))),
    st.tuples(st.just("lapse")),
    st.tuples(st.just("set"), st.integers(0, 200)),
    st.tuples(st.just("delete")),
    st.tuples(st.just("again"), which),
)
history = st.lists(st.tuples(st.integers(0, 30), st.lists(command, min_size=1, max_size=5)), min_size=1, max_size=6)


@dataclass
class Tenant:
    """One tenant's ledger, and what was sent to it."""

    ledger: SqlLedger
    budgets: SqlBudgets
    name: str = field(default_factory=lambda: f"t{uuid.uuid4().hex}")
    now: datetime = START
    limit: int | None = 100
    names: list[str] = field(default_factory=list)
    sent: list[Any] = field(default_factory=list)
    answers: dict[int, Any] = field(default_factory=dict)
    run_ids: list[str] = field(default_factory=lambda: [str(uuid.uuid4()) for _ in range(3)])
    call_ids: list[str] = field(default_factory=lambda: [str(uuid.uuid4()) for _ in range(12)])

    def calls(self, told: Any) -> list[Call]:
        return [Call(self.call_ids[one], model, cost, cost, 0, unknown) for one, model, cost, unknown in told]

    def change(self, what: str, *of: Any) -> Any:
        """What sends the command, with a key of its own; None where there is nothing to do it to."""
        key, now, ledger = RequestKey(self.name, str(uuid.uuid4()), "body"), self.now, self.ledger
        scope = f"tenant:{self.name}"
        event = NewEvent("budget_set", now, f"set|{key.request_id}", scope, "set", self.name)
        if what == "reserve":
            run, amount, workflow, lease = of
            order = Order(self.run_ids[run], amount, amount, RunLimits(), {"workflow": workflow}, 3600 if lease else 0)
            return lambda: ledger.reserve(key, order, LIMITS, now)
        if what == "set":
            return lambda: self.budgets.set(key, scope, Budget(daily=of[0]), event, now)
        if what == "delete":
            return lambda: self.budgets.delete(key, scope, event, now)
        if what == "lapse":
            return lambda: ledger.lapse(now)
        if not self.names:
            return None
        name = self.names[of[0] % len(self.names)]
        if what == "charge":
            return lambda: ledger.charge(key, name, self.calls(of[1]), now)
        if what == "extend":
            return lambda: ledger.extend(key, name, self.calls(of[1]), 3600, now)
        state: State = of[1]
        return lambda: ledger.close(key, name, state, now)

    async def used(self) -> tuple[list[int], int | None]:
        """What is in use of the day and of the month, and what the day is limited to."""
        keys = windows_of([f"tenant:{self.name}"], self.now.date(), UTC)
        windows, chosen = await self.budgets.windows(keys, LIMITS)
        found = chosen.get(f"tenant:{self.name}")
        return [one.used for one in windows], found.daily if found else 100

    async def at_once(self, commands: list[Any]) -> None:
        """Send the commands at the same time, and compare what came of them with the bounds."""
        changes: list[tuple[int, Any, Any]] = []
        for one in commands:
            if one[0] == "again" and not self.sent:
                continue
            index = one[1] % len(self.sent) if one[0] == "again" else len(self.sent)
            change = self.sent[index][1] if one[0] == "again" else self.change(*one)
            if change is None:
                continue
            if one[0] not in ("again", "lapse"):  # a sweep is no request
                self.sent.append((one, change))
            changes.append((index, one, change))
        limits = {self.limit}
        before, _ = await self.used()
        answers = await asyncio.gather(*(change() for _, _, change in changes), return_exceptions=True)
        after, self.limit = await self.used()
        for (index, one, _), answer in zip(changes, answers, strict=True):
            if isinstance(answer, Exception):
                known = BudgetExceeded if self.sent[index][0][0] == "reserve" else None
                assert known or (self.sent[index][0][0], type(answer).__name__) == ("delete", "NotFound"), answer
                assert known is None or isinstance(answer, known), answer
                continue
            if one[0] == "lapse":
                continue
            assert self.answers.setdefault(index, answer) == answer
            if self.sent[index][0][0] == "reserve" and answer.reservation.reservation_id not in self.names:
                self.names.append(answer.reservation.reservation_id)
            if one[0] == "set":
                limits.add(one[1])
            if one[0] == "delete":
                limits.add(100)
        assert self.limit in limits or any(one[0] == "again" for one in commands)
        self.bounds(commands, answers, before, after, limits)

    def bounds(
        self, commands: list[Any], answers: list[Any], before: list[int], after: list[int], limits: set[int | None]
    ) -> None:
        asked = sum(one[2] for one in commands if one[0] == "reserve")
        excess = sum(cost for one in commands if one[0] in ("charge", "extend") for *_, cost, _ in one[2])
        if {one[0] for one in commands} <= {"reserve", "close", "delete", "set"}:
            assert after[0] <= max(before[0], *(one or 0 for one in limits))
        if not {one[0] for one in commands} & {"again", "lapse", "set", "delete"}:
            refused = any(isinstance(one, BudgetExceeded) for one in answers)
            monthly = 250 if self.limit == 100 else 10**9
            fits = before[0] + asked + excess <= (self.limit or 0) and before[1] + asked + excess <= monthly
            assert not (refused and fits)


@pytest.mark.parametrize("together", [True, False])
def test_whatever_happens_at_once_the_books_balance(database_url: str, together: bool) -> None:
    with asyncio.Runner() as runner:
        engine = runner.run(open_engine(database_url, MIGRATIONS, metadata))

        ledger = SqlLedger(engine)

        async def live(told: list[tuple[int, list[Any]]]) -> None:
            tenant = Tenant(ledger, SqlBudgets(ledger.transactions))
            for hours, commands in told:
                tenant.now += timedelta(hours=hours)
                for some in [commands] if together else [[one] for one in commands]:
                    await tenant.at_once(some)
            async with SqlReports(engine).reader() as reader:
                totals = await reader.totals(tenant.name, date.min, date.max)
            statements = [await tenant.ledger.statement(tenant.name, one) for one in tenant.names]
            spent = sum(one.total for one in statements)
            assert sum(one.cost for one in totals if not one.model) == spent
            assert sum(one.cost for one in totals if one.model) == spent
            assert await asyncio.to_thread(mistakes, database_url, [tenant.name]) == {}

        @given(history)
        @settings(
            max_examples=15,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        def lives(told: list[tuple[int, list[Any]]]) -> None:
            runner.run(live(told))

        try:
            lives()
        finally:
            runner.run(engine.dispose())
        assert mistakes(database_url) == {}
