"""The windows of the plain model: the sums of the reservations that were made in them, and their limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from djp.v1 import governance_pb2
from tests.governance.ledger_words import DAY, PERIODS, Caller, Held, Limits, Rules, first_of, refusal, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator


def scopes_of(tenant: str, workflow: str) -> list[str]:
    """What a run draws on. For a name that is too long there can be no budget."""
    scopes = [f"tenant:{tenant}", f"workflow:{workflow}", "global"]
    return [one for one in scopes if one != "workflow:" and len(one) <= 100]


@dataclass
class Windows:
    """Reservations, and limits: `named` by the budgets file, and `chosen` at run time."""

    rules: Rules
    now: datetime
    named: dict[str, Limits] = field(default_factory=dict)
    chosen: dict[str, Limits] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)

    @property
    def today(self) -> date:
        return self.rules.day(self.now)

    def _getbudget(self, caller: Caller, request: Any, _: Any) -> Any:
        scope = f"tenant:{caller.tenant}" if request.scope == "tenant" else request.scope
        if caller.role == "tenant" and scope not in ("global", f"tenant:{caller.tenant}"):
            raise refusal("NOT_FOUND", "scope")
        return governance_pb2.GetBudgetResponse(budget=self.budget(scope))

    def budget(self, scope: str) -> governance_pb2.Budget:
        """With its windows now."""
        budget = self._limits_told(scope)
        budget.windows.extend(self.window(scope, period) for _, period in PERIODS)
        return budget

    def window(self, scope: str, period: int) -> governance_pb2.BudgetWindow:
        """That of this moment."""
        first = first_of(period, self.today)
        inside = [one for one in self.held.values() if scope in one.scopes and first_of(period, one.day) == first]
        usd, tokens = self.limits(scope).of(period)
        starts_at, resets_at = self._span(period, self.today)
        return governance_pb2.BudgetWindow(
            scope=scope,
            period=period,  # type: ignore[arg-type]
            starts_at=stamp(starts_at),
            resets_at=stamp(resets_at),
            limit_nano_usd=usd,
            limit_tokens=tokens,
            reserved_nano_usd=sum(one.rest for one in inside),
            spent_nano_usd=sum(one.charged for one in inside),
            reserved_tokens=sum(one.rest_tokens for one in inside),
            spent_tokens=sum(one.charged_tokens for one in inside),
        )

    def left(self, tenant: str, workflow: str, tenths: int) -> tuple[int, int]:
        """What a run could still be granted of so many tenths of the limits, at most 1,000 nano-dollars and tokens."""
        left = {"usd": 1000, "tokens": 1000}
        for scope in scopes_of(tenant, workflow):
            for period in PERIODS:
                for unit, _, used, limit in self._amounts(scope, period, 0, 0):
                    left[unit] = max(0, min(left[unit], -(-limit * tenths // 10) - used))
        return left["usd"], left["tokens"]

    def limits(self, scope: str) -> Limits:
        """What was set, else what the file has, else the deployment's."""
        deployed = {"global": self.rules.everybody, "tenant": self.rules.tenant}
        return self.chosen.get(scope) or self.named.get(scope) or deployed.get(scope.partition(":")[0], Limits())

    def _limits_told(self, scope: str) -> governance_pb2.Budget:
        daily, monthly, daily_tokens, monthly_tokens, origin = self.limits(scope)
        return governance_pb2.Budget(
            scope=scope,
            daily_nano_usd=daily,
            monthly_nano_usd=monthly,
            daily_tokens=daily_tokens,
            monthly_tokens=monthly_tokens,
            origin=origin,
        )

    def _amounts(
        self, scope: str, period: tuple[str, int], amount: int, tokens: int
    ) -> Iterator[tuple[str, int, int, int]]:
        """Of dollars and of tokens, where they are limited: what is asked, what is in use, and the limit."""
        window = self.window(scope, period[1])
        usd, most = self.limits(scope).of(period[1])
        if usd is not None:
            yield "usd", amount, window.reserved_nano_usd + window.spent_nano_usd, usd
        if most is not None:
            yield "tokens", tokens, window.reserved_tokens + window.spent_tokens, most

    def _span(self, period: int, day: date) -> tuple[datetime, datetime]:
        first = first_of(period, day)
        after = first + timedelta(days=1) if period == DAY else (first + timedelta(days=31)).replace(day=1)
        return self.rules.midnight(first), self.rules.midnight(after)
