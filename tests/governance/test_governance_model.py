"""The ledger against a simple model: reserve, charge, extend, lapse, settle, release in any order, as time passes."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from djp.database import open_engine
from djp_governance.adapters.sql_budgets import SqlBudgets
from djp_governance.adapters.sql_ledger import SqlLedger
from djp_governance.adapters.tables import metadata
from djp_governance.limits import Budget, Limits
from djp_governance.model import BudgetExceeded, Call, Order, RequestKey, RunLimits
from djp_governance.server import MIGRATIONS
from djp_governance.windows import scopes_of, windows_of

LIMITS = Limits(Budget(100, 250), Budget(60, 150), soft_threshold=Decimal("0.8"))
TENANTS = ("acme", "globex")


def windows_at(tenant: str, now: datetime) -> list[Any]:
    return windows_of(scopes_of(tenant), now.date(), UTC)


def limit_of(window: Any) -> int:
    limit = LIMITS.window(window, LIMITS.of(window.scope)).limit
    assert limit is not None
    return limit


@dataclass
class Held:
    """What the model knows of a reservation."""

    tenant: str
    reserved: int
    tokens: int
    windows: list[Any]
    charged: int = 0
    charged_tokens: int = 0
    state: str = "held"
    calls: dict[str, int] = field(default_factory=dict)
    lease: datetime | None = None
    open: dict[str, int] = field(default_factory=dict)
    owed: set[str] = field(default_factory=set)  # charged by the lapse, while nobody knew better

    @property
    def rest(self) -> int:
        return max(0, self.reserved - self.charged) if self.state == "held" else 0


class LedgerMachine(RuleBasedStateMachine):
    """Every change is sent, sometimes sent again, and its answer compared with the model's."""

    reservations = Bundle("reservations")
    call_ids = Bundle("call_ids")

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="djp-")
        self.path = Path(self.folder.name) / "ledger.db"
        self.runner = asyncio.Runner()
        self.engine = self.run(open_engine(f"sqlite+aiosqlite:///{self.path}", MIGRATIONS, metadata))
        self.ledger = SqlLedger(self.engine)
        self.budgets = SqlBudgets(self.ledger.transactions)
        self.now = datetime(2026, 12, 30, 20, 0, tzinfo=UTC)
        self.model: dict[str, Held] = {}
        self.charged: set[tuple[str, str]] = set()
        self.journal: list[Any] = []

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.run(self.engine.dispose())
            self.runner.close()
            self.folder.cleanup()

    def sums(self, window: Any) -> tuple[int, int]:
        mine = [one for one in self.model.values() if window in one.windows]
        return sum(one.rest for one in mine), sum(one.charged for one in mine)

    def send(self, tenant: str, repeat: bool, change: Any) -> Any:
        key = RequestKey(tenant, str(uuid.uuid4()), "body")
        answer = self.run(change(key))
        if repeat:
            assert self.run(change(key)) == answer
        return answer

    @rule(hours=st.integers(1, 30))
    def time_passes(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule(
        target=reservations,
        tenant=st.sampled_from(TENANTS),
        amount=st.integers(0, 70),
        tokens=st.integers(0, 50),
        repeat=st.booleans(),
    )
    def reserve(self, tenant: str, amount: int, tokens: int, repeat: bool) -> Any:
        windows = windows_at(tenant, self.now)
        fits = not amount or all(sum(self.sums(one)) + amount <= limit_of(one) for one in windows)
        order = Order(str(uuid.uuid4()), amount, tokens, RunLimits())

        def change(key: RequestKey) -> Any:
            return self.ledger.reserve(key, order, LIMITS, self.now)

        if not fits:
            with pytest.raises(BudgetExceeded) as refused:
                self.send(tenant, False, change)
            full = [one for one in windows if sum(self.sums(one)) + amount > limit_of(one)]
            assert [one.subject for one in refused.value.quota] == [f"{one.scope}/{one.period}" for one in full]
            return multiple()
        grant = self.send(tenant, repeat, change)
        name = grant.reservation.reservation_id
        self.model[name] = Held(tenant, amount, tokens, windows)
        used = [(sum(self.sums(one)), limit_of(one)) for one in windows]
        assert grant.throttled == (amount > 0 and any(sum_ * 10 >= limit * 8 for sum_, limit in used))
        return name

    @rule(
        target=call_ids,
        name=reservations,
        costs=st.lists(st.integers(0, 40), min_size=1, max_size=3),
        tokens=st.integers(0, 30),
        repeat=st.booleans(),
    )
    def charge(self, name: str, costs: list[int], tokens: int, repeat: bool) -> Any:
        return multiple(*self.pay(name, {str(uuid.uuid4()): cost for cost in costs}, tokens, repeat))

    @rule(name=reservations, known=st.lists(call_ids, max_size=2), cost=st.integers(0, 40), repeat=st.booleans())
    def charge_known_calls_again(self, name: str, known: list[str], cost: int, repeat: bool) -> None:
        self.pay(name, {**dict.fromkeys(known, cost), str(uuid.uuid4()): cost}, 0, repeat)

    def pay(self, name: str, costs: dict[str, int], tokens: int, repeat: bool) -> list[str]:
        held = self.model[name]
        calls = [Call(call_id, "m", cost, tokens, 0) for call_id, cost in costs.items()]
        charged = self.send(held.tenant, repeat, lambda key: self.ledger.charge(key, name, calls, self.now))
        new = {one: cost for one, cost in costs.items() if (held.tenant, one) not in self.charged}
        corrected = {one: cost for one, cost in costs.items() if one in held.owed}
        rest_before = held.rest
        held.charged += sum(new.values()) + sum(cost - held.calls[one] for one, cost in corrected.items())
        held.charged_tokens += tokens * (len(new) + len(corrected))  # the calls of a lapse have none here
        held.owed -= set(corrected)
        self.charged |= {(held.tenant, one) for one in new}
        held.calls |= new | corrected
        assert (charged.reservation.charged, charged.reservation.charged_tokens) == (held.charged, held.charged_tokens)
        uncovered = sum(new.values()) > rest_before - held.rest
        assert charged.over_reservation == (
            uncovered or held.charged > held.reserved or held.charged_tokens > held.tokens
        )
        return list(costs)

    @rule(
        target=call_ids,
        name=reservations,
        known=st.lists(call_ids, max_size=2),
        cost=st.integers(0, 40),
        repeat=st.booleans(),
    )
    def extend(self, name: str, known: list[str], cost: int, repeat: bool) -> Any:
        held, new = self.model[name], str(uuid.uuid4())
        under_way = {**dict.fromkeys(known, cost), new: cost}
        calls = [Call(call_id, "m", cost, 0, 0, usage_unknown=True) for call_id in under_way]
        extended = self.send(held.tenant, repeat, lambda key: self.ledger.extend(key, name, calls, 7200, self.now))
        if held.state == "held":
            held.lease, held.open = self.now + timedelta(hours=2), under_way
        assert (extended.state, extended.lease_expires_at) == (held.state, held.lease)
        return new

    @rule()
    def sweep(self) -> None:
        due = {
            name: held
            for name, held in self.model.items()
            if held.state == "held" and held.lease is not None and held.lease <= self.now
        }
        for one in self.run(self.ledger.lapse(self.now)):
            held = due.pop(one.reservation_id)
            owed = {call_id: cost for call_id, cost in held.open.items() if (held.tenant, call_id) not in self.charged}
            self.charged |= {(held.tenant, call_id) for call_id in owed}
            held.calls |= owed
            held.charged += sum(owed.values())
            held.owed, held.state = set(owed), "lapsed"
            assert (one.state, one.charged) == ("lapsed", held.charged)
        assert not due

    @rule(name=reservations, state=st.sampled_from(["settled", "released"]), repeat=st.booleans())
    def close(self, name: str, state: Any, repeat: bool) -> None:
        held = self.model[name]
        closed = self.send(held.tenant, repeat, lambda key: self.ledger.close(key, name, state, self.now))
        held.state = state if held.state == "held" else held.state
        assert closed.reservation.state == held.state
        assert closed.total == held.charged == sum(held.calls.values())

    @rule(name=consumes(reservations))
    def forget(self, name: str) -> None:
        """A run that never comes back: its money stays held."""

    @invariant()
    def windows_are_the_sum_of_their_reservations(self) -> None:
        keys = {one for held in self.model.values() for one in held.windows}
        keys |= {one for tenant in TENANTS for one in windows_at(tenant, self.now)}
        for window in self.run(self.budgets.windows(list(keys), LIMITS)):
            assert (window.reserved, window.spent) == self.sums(window.key)

    @invariant()
    def what_was_written_stays_written(self) -> None:
        connection = sqlite3.connect(self.path)
        journal = connection.execute("SELECT * FROM entries ORDER BY entry_id").fetchall()
        connection.close()
        assert journal[: len(self.journal)] == self.journal
        self.journal = journal


class TestLedger(LedgerMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(
        max_examples=12,
        stateful_step_count=15,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
