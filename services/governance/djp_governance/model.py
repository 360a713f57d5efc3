"""The words of the ledger: windows, reservations, calls, and the errors that refuse money.

All amounts are whole nano-dollars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003  pydantic reads the types of remembered answers
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Literal

from djp.mesh.errors import FailedPrecondition, ResourceExhausted

Period = Literal["day", "month"]
Unit = Literal["usd", "tokens"]
State = Literal["held", "settled", "released", "lapsed"]

MAX_NANO = 10**15
"""The most that one request may reserve or charge: a million dollars. A window's sum has room for thousands of them."""

MAX_TOKENS = 10**12
"""The most tokens that one request may reserve or charge, so that nobody can fill a window's count."""

MAX_SUM = 2**63 - 1
"""What a window can count, in nano-dollars and in tokens: an int64."""


@dataclass(frozen=True)
class WindowKey:
    """Which window: a scope, a period, its first day in the deployment's zone, and the span [starts_at, resets_at).

    The day is the window's name: what clocks and zones do moves the span, and never makes a second window.
    """

    scope: str
    period: Period
    day: date
    starts_at: datetime
    resets_at: datetime


@dataclass(frozen=True)
class Window:
    """A budget window and what is in it, in nano-dollars and tokens; a limit of None is none.

    `limit` is what reserved and spent may come to together, `soft` from where on callers slow down.
    """

    key: WindowKey
    limit: int | None
    reserved: int = 0
    spent: int = 0
    limit_tokens: int | None = None
    reserved_tokens: int = 0
    spent_tokens: int = 0
    soft: int | None = None
    soft_tokens: int | None = None

    @property
    def used(self) -> int:
        """Nano-dollars reserved and spent."""
        return self.reserved + self.spent

    @property
    def used_tokens(self) -> int:
        """Tokens reserved and spent."""
        return self.reserved_tokens + self.spent_tokens

    def lacks(self, amount: int, tokens: int) -> list[Unit]:
        """Which of the two do not fit. Nothing always fits, also into a window that is beyond its limit."""
        lacking: list[Unit] = []
        if amount and self.limit is not None and self.used + amount > self.limit:
            lacking.append("usd")
        if tokens and self.limit_tokens is not None and self.used_tokens + tokens > self.limit_tokens:
            lacking.append("tokens")
        return lacking

    def slows(self, amount: int, tokens: int) -> list[Unit]:
        """By which of the two a run of this size finds the window past its soft threshold."""
        slow: list[Unit] = []
        if amount and self.soft is not None and self.used >= self.soft:
            slow.append("usd")
        if tokens and self.soft_tokens is not None and self.used_tokens >= self.soft_tokens:
            slow.append("tokens")
        return slow

    def plus(self, amount: int, tokens: int) -> Window:
        """The same with that much more reserved (or less)."""
        return replace(self, reserved=self.reserved + amount, reserved_tokens=self.reserved_tokens + tokens)


@dataclass(frozen=True)
class RunLimits:
    """A run's own limits; None where it has none."""

    nano_usd: int | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Order:
    """What a run asks to be held; `tags` are for reports, `lease_s` is 0 where it asks for no lease."""

    run_id: str
    amount: int
    tokens: int
    limits: RunLimits
    tags: Mapping[str, str] = field(default_factory=dict)
    lease_s: float = 0

    @property
    def workflow(self) -> str:
        """The workflow of the run; empty where it has none."""
        return self.tags.get("workflow", "")


@dataclass(frozen=True)
class Reservation:
    """Money and tokens held for a run, in the windows of the day on which they were reserved."""

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
    day: date = date.min  # of answers that an older release remembered
    lease_s: float = 0
    lease_expires_at: datetime | None = None

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
class Recorded:
    """A call that was just charged; `replaced` is what a lapse had charged for it, where the truth came later."""

    call: Call
    replaced: Call | None = None

    @property
    def cost(self) -> int:
        """What it adds to what was charged before; may be negative."""
        return self.call.cost - (self.replaced.cost if self.replaced else 0)

    @property
    def tokens(self) -> int:
        """The same in tokens."""
        return self.call.tokens - (self.replaced.tokens if self.replaced else 0)


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
