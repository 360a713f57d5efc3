"""The pure rules: the windows of a moment, when a limit warns or refuses, how far to slow down, what a denial says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from djp.mesh.errors import InvalidInput, QuotaViolation
from djp.money import format_usd
from djp_governance.model import (
    MAX_NANO,
    MAX_TOKENS,
    BudgetExceeded,
    Call,
    Limits,
    Order,
    Period,
    RunBudgetExceeded,
    Window,
    WindowKey,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

WARN_PERCENT = 90  # the operations guide: 90 % warns and goes on, beyond 100 % is refused
PERIODS: tuple[Period, ...] = ("day", "month")

_MAX_TAG_BYTES = 1000


def scopes_of(tenant: str) -> tuple[str, str]:
    """The scopes that a run of the tenant draws on."""
    return "global", f"tenant:{tenant}"


def windows_at(tenant: str, now: datetime) -> list[WindowKey]:
    """The windows that a run of the tenant falls in, always in the same order, so that no two transactions deadlock."""
    return [WindowKey(scope, period, *span(period, now)) for scope in scopes_of(tenant) for period in PERIODS]


def span(period: Period, now: datetime) -> tuple[datetime, datetime]:
    """Start and end of the UTC day or month that holds the moment."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return day, day + timedelta(days=1)
    first = day.replace(day=1)
    return first, (first + timedelta(days=32)).replace(day=1)


def check_order(order: Order) -> list[str]:
    """Warnings of an order that comes near the run's own limits.

    Raises:
        InvalidInput: an amount is negative or more than one run may hold, or a tag is too long.
        RunBudgetExceeded: the projection is beyond a limit; the first part of the message is the guide's.
    """
    _between(order.amount, 0, MAX_NANO, "amount_nano_usd")
    _between(order.tokens, 0, MAX_TOKENS, "tokens")
    for key, value in order.tags.items():
        if len(key.encode()) > _MAX_TAG_BYTES or len(value.encode()) > _MAX_TAG_BYTES:
            name = f'tags["{key[:40]}"]'
            raise InvalidInput(f"{name}: longer than {_MAX_TAG_BYTES} bytes; shorten it", field=name)
    return [*_check_cost(order.amount, order.limits.nano_usd), *_check_tokens(order.tokens, order.limits.tokens)]


def check_calls(calls: Sequence[Call]) -> None:
    """Raises InvalidInput when a call, or all of them together, come to more than one charge may."""
    for index, call in enumerate(calls):
        _between(call.cost, 0, MAX_NANO, f"calls[{index}].cost_nano_usd")
        _between(call.input_tokens, 0, MAX_TOKENS, f"calls[{index}].usage.input_tokens")
        _between(call.output_tokens, 0, MAX_TOKENS, f"calls[{index}].usage.output_tokens")
        if not call.model.isprintable():
            field = f"calls[{index}].model"
            raise InvalidInput(f"{field}: a model's name has no control characters", field=field)
    _between(sum(call.cost for call in calls), 0, MAX_NANO, "calls")
    _between(sum(call.tokens for call in calls), 0, MAX_TOKENS, "calls")


def is_throttled(window: Window, limits: Limits) -> bool:
    """Whether the window has reached the soft threshold."""
    return window.reserved + window.spent >= window.limit * limits.soft_threshold


def pace_ms(window: Window, amount: int, now: datetime) -> int:
    """Milliseconds between runs of this size that stretch what is left of the window over the rest of it."""
    rest_ms = max(0, int((window.key.resets_at - now).total_seconds() * 1000))
    return rest_ms if window.left <= amount else rest_ms * amount // window.left


def denial(full: Sequence[Window], amount: int) -> BudgetExceeded:
    """The refusal of an amount that the given windows have no room for: one line, with the windows as quota violations.

    It tells no time to retry after: no client is to try again by itself.
    """
    window = max(full, key=lambda one: one.key.resets_at)
    resets_at = f"{window.key.resets_at:%Y-%m-%dT%H:%M:%SZ}"
    return BudgetExceeded(
        f"budget exceeded: {'; '.join(_fullness(one) for one in full)}; the run asks for up to {format_usd(amount)}; "
        f"wait until {resets_at}, ask for fewer debaters or tokens, or raise the budget",
        quota=[QuotaViolation(f"{one.key.scope}/{one.key.period}", _fullness(one)) for one in full],
        metadata={"resets_at": resets_at, "asked_nano_usd": str(amount)},
    )


def _fullness(window: Window) -> str:
    return (
        f"{window.key.scope}/{window.key.period} has a limit of {format_usd(window.limit)}, of which "
        f"{format_usd(window.reserved)} is reserved and {format_usd(window.spent)} spent, "
        f"until {window.key.resets_at:%Y-%m-%dT%H:%M:%SZ}"
    )


def _check_cost(amount: int, limit: int | None) -> list[str]:
    if limit is None:
        return []
    _between(limit, 1, None, "run_limit_nano_usd")
    places = next(
        (
            places
            for places in range(3, 9)
            if amount == limit or format_usd(amount, places) != format_usd(limit, places)
        ),
        9,
    )
    projected, budget = format_usd(amount, places), format_usd(limit, places)
    if amount > limit:
        raise RunBudgetExceeded(
            f"BudgetExceededError: Projected cost {projected} exceeds budget {budget}; raise --budget-usd, or "
            "lower --max-tokens"
        )
    if amount * 100 >= limit * WARN_PERCENT:
        return [f"projected cost {projected} is {amount * 100 // limit} % of the budget {budget}"]
    return []


def _check_tokens(tokens: int, limit: int | None) -> list[str]:
    if limit is None:
        return []
    _between(limit, 1, None, "run_limit_tokens")
    if tokens > limit:
        raise RunBudgetExceeded(
            f"BudgetExceededError: Projected tokens {tokens:,} exceed budget {limit:,}; raise --budget-tokens, or "
            "lower --max-tokens"
        )
    if tokens * 100 >= limit * WARN_PERCENT:
        return [f"projected tokens {tokens:,} are {tokens * 100 // limit} % of the budget {limit:,}"]
    return []


def _between(value: int, least: int, most: int | None, field: str) -> None:
    if value < least:
        raise InvalidInput(f"{field}: {value} is too small; give at least {least}", field=field)
    if most is not None and value > most:
        raise InvalidInput(f"{field}: {value} is more than one request may hold; give at most {most}", field=field)
