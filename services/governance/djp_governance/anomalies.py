"""Days on which a tenant spent unusually much, against the days before them."""

from __future__ import annotations

from collections import deque
from contextlib import aclosing
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING

from djp.money import format_usd
from djp_governance.events import NewEvent
from djp_governance.reports import MAX_ROWS, before, too_large

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from djp_governance.reports import DaySpend, ReportReader

BASELINE_DAYS = 28
"""How many days before a day it is compared with: whole weeks, so that weekends weigh the same for every day."""

_STEADY = 10
"""A tenant that spends the same every day is taken to vary by a tenth of it: a little more is no anomaly."""


@dataclass(frozen=True)
class AnomalyRules:
    """When a day stands out; the operations guide's ANOMALY_SIGMA, ANOMALY_MIN_DOLLARS and ANOMALY_MIN_EVENTS.

    Attributes:
        sigma: standard deviations above the mean of the baseline.
        min_nano: nano-dollars above that mean; what stands out by less is nobody's concern, however even the days were.
        min_events: model calls in the baseline; with fewer there is nothing to compare with.
    """

    sigma: float
    min_nano: int
    min_events: int


@dataclass(frozen=True)
class Anomaly:
    """A day that stands out, in nano-dollars. `stddev` is that of the baseline's days as they were, 0 if all alike.

    `sigmas` is how far above the mean the day is, in the deviations that it was judged by.
    """

    tenant: str
    day: date
    spent: int
    mean: int
    stddev: int
    sigmas: float
    events: int


def judge(spend: DaySpend, baseline: Sequence[DaySpend], rules: AnomalyRules) -> Anomaly | None:
    """The anomaly that a day is against its tenant's days with calls among the BASELINE_DAYS before, oldest first.

    The baseline begins with the first of them, for the time before a tenant came is no quiet time; from there on a
    day without calls counts as one of nothing spent. The day stands out when it is above the mean by at least `sigma`
    deviations and by at least `min_nano`. The deviation is the baseline's population standard deviation, but at least
    a tenth of its mean, so that a baseline of equal days, or of zeros, flags no cent. Integers, so that the same days
    give the same answer everywhere.
    """
    if not baseline or spend.cost < rules.min_nano:
        return None
    days = (spend.day - baseline[0].day).days
    mean = sum([one.cost for one in baseline]) // days
    above = spend.cost - mean
    if above <= 0 or above < rules.min_nano:
        return None
    events = sum(one.calls for one in baseline)
    idle = days - len(baseline)
    stddev = isqrt((sum((one.cost - mean) ** 2 for one in baseline) + idle * mean**2) // days)
    deviation = max(stddev, mean // _STEADY, 1)
    if events < rules.min_events or above < rules.sigma * deviation:
        return None
    return Anomaly(spend.tenant, spend.day, spend.cost, mean, stddev, above / deviation, events)


async def find_anomalies(
    reader: ReportReader, tenant: str | None, first: date, today: date, rules: AnomalyRules
) -> list[Anomaly]:
    """Those of a tenant, or (None) of everybody, from the first day on: newest first, the highest of a day first."""
    found: list[Anomaly] = []
    baseline: deque[DaySpend] = deque()
    async with aclosing(reader.days(tenant, before(first, BASELINE_DAYS), today, first, rules.min_nano)) as spends:
        async for spend in spends:
            if baseline and baseline[-1].tenant != spend.tenant:
                baseline.clear()
            while baseline and (spend.day - baseline[0].day).days > BASELINE_DAYS:
                baseline.popleft()
            if spend.day >= first and (anomaly := judge(spend, baseline, rules)):
                found.append(anomaly)
            baseline.append(spend)
    if len(found) > MAX_ROWS:
        raise too_large()
    return sorted(found, key=lambda one: (-one.day.toordinal(), one.mean - one.spent, one.tenant))


def of_anomaly(anomaly: Anomaly, now: datetime) -> NewEvent:
    """That a tenant spent unusually much on a day: once a tenant and day."""
    return NewEvent(
        kind="anomaly",
        at=now,
        key=f"anomaly|{anomaly.tenant}|{anomaly.day}",
        scope=f"tenant:{anomaly.tenant}",
        message=f"tenant {anomaly.tenant} spent {format_usd(anomaly.spent)} on {anomaly.day}, {anomaly.sigmas:.1f} "
        f"deviations above its {format_usd(anomaly.mean)} a day over the {BASELINE_DAYS} days before",
        tenant=anomaly.tenant,
    )
