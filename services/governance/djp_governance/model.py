"""The words of the ledger: windows, reservations, calls, limits, and the errors that refuse money."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from djp.mesh.errors import FailedPrecondition, ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from decimal import Decimal

Period = Literal["day", "month"]
State = Literal["held", "settled", "released"]


@dataclass(frozen=True)
class Limits:
    """Nano-dollars that a window may hold as reserved and spent together; above `soft_threshold` callers slow down."""

    global_daily: int
    global_monthly: int
    tenant_daily: int
    tenant_monthly: int
    soft_threshold: Decimal

    def of(self, scope: str, period: Period) -> int:
        """The limit of a scope ("global" or "tenant:NAME") in a period."""
        if scope == "global":
            return self.global_daily if period == "day" else self.global_monthly
        return self.tenant_daily if period == "day" else self.tenant_monthly


@dataclass(frozen=True)
class WindowKey:
    """Which window: a scope, a period, and the half-open span [starts_at, resets_at) in UTC."""

    scope: str
    period: Period
    starts_at: datetime
    resets_at: datetime


@dataclass(frozen=True)
class Window:
    """A budget window and what is in it, in nano-dollars and tokens."""

    key: WindowKey
    limit: int
    reserved: int = 0
    spent: int = 0
    reserved_tokens: int = 0
    spent_tokens: int = 0


@dataclass(frozen=True)
class Reservation:
    """Money and tokens held for a run."""

    reservation_id: str
    run_id: str
    tenant: str
    state: State
    reserved: int
    reserved_tokens: int
    charged: int
    charged_tokens: int
    created_at: datetime
    closed_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunLimits:
    """A run's own limits; None where it has none."""

    nano_usd: int | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Call:
    """A model call to charge."""

    call_id: str
    model: str
    cost: int
    input_tokens: int
    output_tokens: int
    usage_unknown: bool = False

    @property
    def tokens(self) -> int:
        """Input and output."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True)
class ModelTotal:
    """What the charged calls of one model come to."""

    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost: int
    unknown_calls: int


@dataclass(frozen=True)
class Grant:
    """The answer to a reservation that fits."""

    reservation: Reservation
    throttled: bool
    warnings: Sequence[str]
    pace_ms: int


class BudgetExceededError(ResourceExhausted):
    """A budget window has no room. Not retryable before it resets."""

    reason = "BUDGET_EXCEEDED"


class RunBudgetExceededError(FailedPrecondition):
    """The run's own limit is below its projection. Never retryable."""

    reason = "RUN_BUDGET_EXCEEDED"
