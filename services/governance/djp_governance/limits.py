"""What may be spent: the limits of scopes and of runs, where they come from, and how windows get theirs."""

from __future__ import annotations

import re
from collections.abc import Mapping  # noqa: TC003  pydantic reads the types of remembered answers
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Literal

from djp.mesh.errors import InvalidInput
from djp.mesh.identity import Identity
from djp_governance.model import RunLimits, Window
from djp_governance.windows import MAX_SCOPE

if TYPE_CHECKING:
    from djp_governance.model import Period, WindowKey

Origin = Literal["default", "environment", "file", "set"]


@dataclass(frozen=True)
class Budget:
    """The limits of a scope, in nano-dollars and tokens; None where it has none."""

    daily: int | None = None
    monthly: int | None = None
    daily_tokens: int | None = None
    monthly_tokens: int | None = None
    origin: Origin = "default"

    def with_file(self, amounts: Mapping[str, int | None]) -> Budget:
        """With the amounts that the budgets file names; the others stay."""
        return replace(self, **amounts, origin="file") if amounts else self


@dataclass(frozen=True)
class RunRule:
    """The limits that every run of a workflow has; `source` is the budgets file, or empty for the environment."""

    limits: RunLimits
    workflow: str
    source: str = ""

    def remedy(self, unit: Literal["USD", "TOKENS"]) -> str:
        """What raises the limit."""
        if not self.source:
            return f"raise BUDGET_{workflow_key(self.workflow)}_{unit}"
        return f"raise workflows.{self.workflow}.{'run' if unit == 'USD' else 'run_tokens'} in {self.source}"


@dataclass(frozen=True)
class Limits:
    """What the environment and the budgets file say, at one moment. What was set at run time wins over it."""

    everybody: Budget
    tenant: Budget
    """Of tenants that the file does not name."""
    named: Mapping[str, Budget] = field(default_factory=dict)
    """Those of the file, by scope."""
    runs: Mapping[str, RunRule] = field(default_factory=dict)
    """By workflow, as `workflow_key` writes it."""
    soft_threshold: Decimal = Decimal("0.8")
    hard_threshold: Decimal = Decimal(1)

    def of(self, scope: str) -> Budget:
        """The configured limits of a scope; a workflow that nobody named has none."""
        if scope in self.named:
            return self.named[scope]
        if scope == "global":
            return self.everybody
        return self.tenant if scope.startswith("tenant:") else Budget()

    def of_run(self, workflow: str) -> RunRule | None:
        """What every run of the workflow is limited to."""
        return self.runs.get(workflow_key(workflow)) if workflow else None

    def window(self, key: WindowKey, budget: Budget) -> Window:
        """An empty window with its limits: the hard threshold is the share of a budget that may be used at all."""
        limit, tokens = _amounts(budget, key.period)
        return Window(
            key,
            limit=_share(limit, self.hard_threshold),
            limit_tokens=_share(tokens, self.hard_threshold),
            soft=_from(limit, self.soft_threshold),
            soft_tokens=_from(tokens, self.soft_threshold),
        )


def workflow_key(workflow: str) -> str:
    """A workflow's name as variables have it: weekly-report and weekly_report are both WEEKLY_REPORT."""
    return re.sub(r"[^A-Z0-9]", "_", workflow.upper())


def check_scope(scope: str, tenant: str) -> str:
    """The whole name of a scope; "tenant" is the caller's own. Raises InvalidInput for what no budget can have."""
    kind, _, name = scope.partition(":")
    if scope == "tenant":
        return f"tenant:{tenant}"
    if scope == "global":
        return scope
    if kind == "tenant":
        return f"tenant:{check_tenant(name, 'scope')}"
    if kind == "workflow" and name and name.isprintable() and len(scope) <= MAX_SCOPE:
        return scope
    raise InvalidInput(
        f"scope: there can be no budget {scope[:80]!r}; write global, tenant:NAME or workflow:NAME", field="scope"
    )


def check_tenant(name: str, field: str = "tenant") -> str:
    """The name. Raises InvalidInput, which names `field`, for what no tenant can be called."""
    try:
        return Identity(name).tenant
    except InvalidInput as error:
        raise InvalidInput(f"{field}: {error.message}", field=field) from None


def _amounts(budget: Budget, period: Period) -> tuple[int | None, int | None]:
    return (budget.daily, budget.daily_tokens) if period == "day" else (budget.monthly, budget.monthly_tokens)


def _share(amount: int | None, share: Decimal) -> int | None:
    return None if amount is None else int(amount * share)


def _from(amount: int | None, share: Decimal) -> int | None:
    return None if amount is None else int((amount * share).to_integral_value(ROUND_CEILING))
