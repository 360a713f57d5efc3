"""The words of the plain model of the ledger: what a deployment is set to, a reservation, a call, an event."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

from djp.v1 import common_pb2, governance_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import tzinfo

HELD, SETTLED, RELEASED, LAPSED = (
    governance_pb2.RESERVATION_STATE_HELD,
    governance_pb2.RESERVATION_STATE_SETTLED,
    governance_pb2.RESERVATION_STATE_RELEASED,
    governance_pb2.RESERVATION_STATE_LAPSED,
)
DAY, MONTH = governance_pb2.BUDGET_PERIOD_DAY, governance_pb2.BUDGET_PERIOD_MONTH
PERIODS = (("day", DAY), ("month", MONTH))
THROTTLED, DENIED, OVER, ENDED, ANOMALY, SET, DELETED, REJECTED = (
    governance_pb2.GOVERNANCE_EVENT_KIND_THROTTLED,
    governance_pb2.GOVERNANCE_EVENT_KIND_DENIED,
    governance_pb2.GOVERNANCE_EVENT_KIND_OVER_RESERVATION,
    governance_pb2.GOVERNANCE_EVENT_KIND_LEASE_LAPSED,
    governance_pb2.GOVERNANCE_EVENT_KIND_ANOMALY,
    governance_pb2.GOVERNANCE_EVENT_KIND_BUDGET_SET,
    governance_pb2.GOVERNANCE_EVENT_KIND_BUDGET_DELETED,
    governance_pb2.GOVERNANCE_EVENT_KIND_CONFIG_REJECTED,
)
Place = tuple[date, str, str]
"""Where reports count something: day, workflow, preset."""


class Caller(NamedTuple):
    """Who asks."""

    tenant: str
    role: str = "tenant"


class Limits(NamedTuple):
    """Of a scope, in nano-dollars and tokens; None is none."""

    daily: int | None = None
    monthly: int | None = None
    daily_tokens: int | None = None
    monthly_tokens: int | None = None
    origin: str = "default"

    def of(self, period: int) -> tuple[int | None, int | None]:
        return (self.daily, self.daily_tokens) if period == DAY else (self.monthly, self.monthly_tokens)


class RunLimit(NamedTuple):
    """What a run of a workflow may cost and use."""

    nano_usd: int | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Rules:
    """What a deployment is set to. Reservations may be forgotten after so many days, answers too."""

    everybody: Limits
    tenant: Limits
    zone: tzinfo = UTC
    lease_s: int = 7200
    retention_days: int = 45
    request_days: int = 30
    sigma: float = 1.0
    least_nano: int = 20
    least_calls: int = 2

    def day(self, now: datetime) -> date:
        return now.astimezone(self.zone).date()

    def midnight(self, day: date) -> datetime:
        return datetime.combine(day, time(), self.zone).astimezone(UTC)


class Paid(NamedTuple):
    """A charged call. `owed`: by a lapse, while nobody knew better."""

    model: str
    cost: int
    input_tokens: int
    output_tokens: int
    unknown: bool
    owed: bool = False


@dataclass(frozen=True)
class Held:
    """A reservation. `calls` are those that were charged, `open` those under way, by their ids."""

    name: str
    tenant: str
    run_id: str
    amount: int
    tokens: int
    tags: Mapping[str, str]
    scopes: tuple[str, ...]
    day: date
    created: datetime
    lease_s: int
    lease: datetime | None
    state: int = HELD
    closed: datetime | None = None
    calls: Mapping[str, Paid] = field(default_factory=dict)
    open: Mapping[str, Paid] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        return self.day, self.tags.get("workflow", "")[:100], self.tags.get("preset", "")[:100]

    @property
    def charged(self) -> int:
        return sum(one.cost for one in self.calls.values())

    @property
    def charged_tokens(self) -> int:
        return sum(one.input_tokens + one.output_tokens for one in self.calls.values())

    @property
    def rest(self) -> int:
        return max(0, self.amount - self.charged) if self.state == HELD else 0

    @property
    def rest_tokens(self) -> int:
        return max(0, self.tokens - self.charged_tokens) if self.state == HELD else 0

    def told(self) -> governance_pb2.Reservation:
        """As answers have it."""
        return governance_pb2.Reservation(
            reservation_id=self.name,
            run_id=self.run_id,
            tenant=self.tenant,
            state=self.state,  # type: ignore[arg-type]
            reserved_nano_usd=self.amount,
            reserved_tokens=self.tokens,
            charged_nano_usd=self.charged,
            charged_tokens=self.charged_tokens,
            created_at=stamp(self.created),
            lease_expires_at=stamp(self.lease) if self.lease else None,
            closed_at=stamp(self.closed) if self.closed else None,
            tags=self.tags,
        )

    def totals(self) -> list[common_pb2.ModelTotal]:
        """By model."""
        found: dict[str, common_pb2.ModelTotal] = {}
        for one in sorted(self.calls.values()):
            total = found.setdefault(one.model, common_pb2.ModelTotal(model=one.model))
            total.calls += 1
            total.input_tokens += one.input_tokens
            total.output_tokens += one.output_tokens
            total.cost_nano_usd += one.cost
            total.usage_unknown_calls += one.unknown
        return list(found.values())


class Event(NamedTuple):
    """An event without its sequence; `about` is what its message must tell."""

    at: datetime
    kind: int
    scope: str
    tenant: str
    run_id: str = ""
    actor: str = ""
    about: str = ""
    window: bytes = b""


class Refused(Exception):  # noqa: N818  the rules say so
    """With what the error must name: its reason, the bad field, the quotas."""


def refusal(reason: str, field: str = "", quota: tuple[str, ...] = ()) -> Refused:
    return Refused(reason, field, quota)


def stamp(moment: datetime) -> Timestamp:
    found = Timestamp()
    found.FromDatetime(moment.astimezone(UTC))
    return found


def flat(message: Any) -> bytes:
    """A message as something to compare."""
    return bytes(message.SerializeToString(deterministic=True))


def first_of(period: int, day: date) -> date:
    """The first day of a day's window."""
    return day if period == DAY else day.replace(day=1)
