"""The pure rules: which windows a moment falls in, when a run's own limit warns or refuses, how far to slow down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from djp.mesh.errors import InvalidInput
from djp.money import format_usd
from djp_governance.model import Limits, Period, RunBudgetExceededError, RunLimits, Window, WindowKey

if TYPE_CHECKING:
    from collections.abc import Sequence

WARN_PERCENT = 90  # the operations guide: 90 % warns and goes on, 100 % refuses


def windows_at(tenant: str, now: datetime) -> Sequence[WindowKey]:
    """The windows that a run of the tenant falls in, always in the same order, so that no two transactions deadlock."""
    return [
        WindowKey(scope, period, *span(period, now))
        for scope in ("global", f"tenant:{tenant}")
        for period in ("day", "month")
    ]


def span(period: Period, now: datetime) -> tuple[datetime, datetime]:
    """Start and end of the UTC day or month that holds the moment."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return day, day + timedelta(days=1)
    first = day.replace(day=1)
    return first, (first + timedelta(days=32)).replace(day=1)


def check_run_limits(limits: RunLimits, amount: int, tokens: int) -> list[str]:
    """Warnings of a projection that comes near the run's own limits.

    Raises:
        InvalidInput: a limit is not positive.
        RunBudgetExceededError: the projection is beyond a limit; the first part of the message is the guide's.
    """
    warnings: list[str] = []
    if limits.nano_usd is not None:
        _positive(limits.nano_usd, "run_limit_nano_usd")
        projected, limit = format_usd(amount, 3), format_usd(limits.nano_usd, 3)
        if amount > limits.nano_usd:
            raise RunBudgetExceededError(
                f"BudgetExceededError: Projected cost {projected} exceeds budget {limit}; raise --budget-usd, or ask "
                "for fewer debaters or tokens"
            )
        if amount * 100 >= limits.nano_usd * WARN_PERCENT:
            warnings.append(f"projected cost {projected} is {amount * 100 // limits.nano_usd} % of the budget {limit}")
    if limits.tokens is not None:
        _positive(limits.tokens, "run_limit_tokens")
        if tokens > limits.tokens:
            raise RunBudgetExceededError(
                f"BudgetExceededError: Projected tokens {tokens:,} exceed budget {limits.tokens:,}; raise "
                "--budget-tokens, or ask for fewer debaters or tokens"
            )
        if tokens * 100 >= limits.tokens * WARN_PERCENT:
            warnings.append(
                f"projected tokens {tokens:,} are {tokens * 100 // limits.tokens} % of the budget {limits.tokens:,}"
            )
    return warnings


def is_throttled(window: Window, limits: Limits) -> bool:
    """Whether the window is past the soft threshold."""
    return window.reserved + window.spent >= window.limit * limits.soft_threshold


def pace_ms(window: Window, amount: int, now: datetime) -> int:
    """Milliseconds between runs of this size that stretch what is left of the window over the rest of it."""
    rest_ms = max(0, int((window.key.resets_at - now).total_seconds() * 1000))
    left = window.limit - window.reserved - window.spent
    return rest_ms if left <= amount else rest_ms * amount // left


def _positive(limit: int, field: str) -> None:
    if limit <= 0:
        raise InvalidInput("a run's budget must be above zero; leave it out for no limit of its own", field=field)
