"""What reports are made of: sums of what was charged, and how far back they look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Protocol

from djp.mesh.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from contextlib import AbstractAsyncContextManager

    from djp_governance.limits import Limits
    from djp_governance.model import Window, WindowKey

DEFAULT_DAYS = 30
"""How far back a report looks that says nothing else: the operations guide's."""

MAX_ROWS = 10_000
"""Of one answer, about a megabyte: a report is for people, and has to fit into a message."""


@dataclass(frozen=True)
class Sums:
    """What was charged, in whole nano-dollars and tokens.

    Attributes:
        tenant: empty in a row over all tenants.
        day: in the deployment's zone, YYYY-MM-DD; empty in totals.
        model: empty in a total over all models.
        runs: that made a call in it; each counts on the day of its first call, once a model and once over all models.
    """

    tenant: str
    day: str
    model: str
    workflow: str
    preset: str
    runs: int
    calls: int
    input_tokens: int
    output_tokens: int
    cost: int


@dataclass(frozen=True)
class DaySpend:
    """What a tenant spent on a day, in nano-dollars, over so many model calls."""

    tenant: str
    day: date
    calls: int
    cost: int


class ReportStore(Protocol):
    """Roll-ups, which agree with the ledger at every moment."""

    def reader(self) -> AbstractAsyncContextManager[ReportReader]:
        """One that sees the ledger as it is at one instant, whatever is charged while it reads."""


class ReportReader(Protocol):
    """Reads the roll-ups and the windows of an instant. `tenant` None is everybody.

    Raises FailedPrecondition for more rows than an answer holds, and for a sum that passes an int64.
    """

    async def windows(self, keys: Sequence[WindowKey], limits: Limits) -> Sequence[Window]:
        """In the order of the keys; empty ones where nothing was reserved yet."""

    async def rows(self, tenant: str | None, first: date, last: date) -> Sequence[Sums]:
        """By day (newest first), model, workflow and preset, from the first day to the last one."""

    async def totals(self, tenant: str | None, first: date, last: date) -> Sequence[Sums]:
        """By tenant, over all models and then by model; the tenants that spent most come first."""

    def days(
        self, tenant: str | None, first: date, last: date, spent_since: date, least: int
    ) -> AsyncGenerator[DaySpend]:
        """What each day cost, by tenant and day, of tenants that spent at least `least` on a day from `spent_since`
        on. Days without a call are left out."""


def first_of(days: int, today: date) -> date:
    """The first of so many days, of which today is the last; 0 are DEFAULT_DAYS. Never before the calendar begins."""
    return date.fromordinal(max(1, today.toordinal() + 1 - (days or DEFAULT_DAYS)))


def before(day: date, days: int) -> date:
    """So many days before; never before the calendar begins."""
    return date.min if day.toordinal() <= days else day - timedelta(days=days)


def whole_months(first: date, last: date) -> tuple[date, date]:
    """The first day of the first month of which all days are from `first` to `last`, and the day after the last one.

    Where there is no such month, the second is not after the first.
    """
    since = first if first.day == 1 else (first.replace(day=28) + timedelta(days=4)).replace(day=1)
    return since, date.fromordinal(min(last.toordinal() + 1, date.max.toordinal())).replace(day=1)


def too_large() -> FailedPrecondition:
    """The refusal of a report that does not fit into an answer."""
    return FailedPrecondition(
        f"the report has more than {MAX_ROWS:,} rows; ask for fewer days, or for one tenant", field="days"
    )


def too_much() -> FailedPrecondition:
    """The refusal of a report with a sum that no int64 holds."""
    return FailedPrecondition(
        "a sum of the report passes 2^63 - 1, more than an answer can tell; ask for fewer days, or for one tenant",
        field="days",
    )
