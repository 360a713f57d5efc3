"""Where budget windows begin and end: days and months of the deployment's time zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from djp.mesh.errors import InvalidInput
from djp_governance.model import Period, WindowKey

if TYPE_CHECKING:
    from collections.abc import Sequence

PERIODS: tuple[Period, ...] = ("day", "month")

MAX_SCOPE = 100
"""Characters of a scope's name. The windows of a workflow with a longer name could have no limit, so it has none."""


def zone_of(name: str) -> tzinfo:
    """The time zone of an IANA name. Raises InvalidInput for one that this system does not know."""
    if name == "UTC":
        return UTC  # known without a database of zones
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInput(
            f"DJP_BUDGET_ZONE: {name[:80]!r} is no time zone known here; give an IANA name such as Europe/Berlin, or "
            "install the tzdata package",
            field="DJP_BUDGET_ZONE",
        ) from error


def day_of(now: datetime, zone: tzinfo) -> date:
    """The calendar day that it is in the zone."""
    return now.astimezone(zone).date()


def scopes_of(tenant: str, workflow: str = "") -> list[str]:
    """The scopes that a run draws on, in the order in which windows are locked: what everybody shares comes last."""
    scopes = [f"tenant:{tenant}", f"workflow:{workflow}", "global"]
    return [scope for scope in scopes if scope != "workflow:" and len(scope) <= MAX_SCOPE]


def windows_of(scopes: Sequence[str], day: date, zone: tzinfo) -> list[WindowKey]:
    """The windows of the scopes that hold the day."""
    return [window_of(scope, period, day, zone) for scope in scopes for period in PERIODS]


def window_of(scope: str, period: Period, day: date, zone: tzinfo) -> WindowKey:
    """The window of a scope that holds the day."""
    first = first_day(period, day)
    after = first + timedelta(days=1) if period == "day" else (first + timedelta(days=32)).replace(day=1)
    return WindowKey(scope, period, first, _midnight(first, zone), _midnight(after, zone))


def first_day(period: Period, day: date) -> date:
    """The first day of the period that holds the day."""
    return day if period == "day" else day.replace(day=1)


def _midnight(day: date, zone: tzinfo) -> datetime:
    """The instant at which the day begins. Where clocks skip midnight, the arithmetic of fold=0 gives their jump; where
    midnight comes twice, the first one."""
    return datetime.combine(day, time(0), zone).astimezone(UTC)
