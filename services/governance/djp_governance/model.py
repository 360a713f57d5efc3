"""The words of the ledger: windows, reservations, calls, limits, and the errors that refuse money.

All amounts are whole nano-dollars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003  pydantic reads the types of remembered answers
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003
from typing import TYPE_CHECKING, Literal

from djp.mesh.errors import FailedPrecondition, ResourceExhausted

if TYPE_CHECKING:
    from decimal import Decimal

Period = Literal["day", "month"]
State = Literal["held", "settled", "released"]

MAX_NANO = 10**15
"""The most that one request may reserve or charge: a million dollars. A window's sum has room for thousands of them."""

MAX_TOKENS = 10**12
"""The most tokens that one request may reserve or charge, so that nobody can fill a window's count."""

MAX_SUM = 2**63 - 1
"""What a window can count, in nano-dollars and in tokens: an int64."""


@dataclass(frozen=True)
class Limits:
    """What a window may hold as reserved and spent together; from the share `soft_threshold` on, callers slow down.

    The origins say where the limits come from: "default" or "environment".
    """

    global_daily: int
    global_monthly: int
    tenant_daily: int
    tenant_monthly: int
    soft_threshold: Decimal
    global_origin: str = "default"
    tenant_origin: str = "default"

    def of(self, scope: str, period: Period) -> int:
        """The limit of a scope ("global" or "tenant:NAME") in a period."""
        if scope == "global":
            return self.global_daily if period == "day" else self.global_monthly
        return self.tenant_daily if period == "day" else self.tenant_monthly

    def origin(self, scope: str) -> str:
        """Where the limits of a scope come from."""
        return self.global_origin if scope == "global" else self.tenant_origin


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

    @property
    def left(self) -> int:
        """What can still be reserved; negative where charges went beyond their reservation."""
        return self.limit - self.reserved - self.spent


@dataclass(frozen=True)
class Order:
    """What a run asks to be held; `tags` are for reports."""

    run_id: str
    amount: int
    tokens: int
    limits: RunLimits
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunLimits:
    """A run's own limits; None where it has none."""

    nano_usd: int | None = None
    tokens: int | None = None


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

    @property
    def held(self) -> int:
        """What is still kept for the run: nothing once the reservation is closed or used up."""
        return max(0, self.reserved - self.charged) if self.state == "held" else 0

    @property
    def held_tokens(self) -> int:
        """The tokens that are still kept for the run."""
        return max(0, self.reserved_tokens - self.charged_tokens) if self.state == "held" else 0


@dataclass(frozen=True)
class Call:
    """A model call to charge; `cost` is its bound where the provider told no usage."""

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
    """The answer to a reservation that fits. `pace_ms` is 0 unless throttled."""

    reservation: Reservation
    throttled: bool
    warnings: Sequence[str]
    pace_ms: int


@dataclass(frozen=True)
class Charged:
    """The answer to a charge. `over_reservation`: not all of it was covered by what was held."""

    reservation: Reservation
    over_reservation: bool


@dataclass(frozen=True)
class Statement:
    """A reservation and what the ledger charged to it, by model name."""

    reservation: Reservation
    totals: Sequence[ModelTotal]

    @property
    def total(self) -> int:
        """The cost of all calls."""
        return sum(total.cost for total in self.totals)


@dataclass(frozen=True)
class RequestKey:
    """What makes a request itself: who sent it, its id, and the digest of what it asks."""

    tenant: str
    request_id: str
    sha256: str


class BudgetExceeded(ResourceExhausted):
    """A budget window has no room. Not retryable before it resets."""

    reason = "BUDGET_EXCEEDED"


class RunBudgetExceeded(FailedPrecondition):
    """The run's own limit is below its projection. Never retryable."""

    reason = "RUN_BUDGET_EXCEEDED"
