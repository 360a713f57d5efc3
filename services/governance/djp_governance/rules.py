"""The pure rules: when a limit warns or refuses, how far to slow down, what a denial says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.mesh.errors import InvalidInput, QuotaViolation
from djp.money import format_usd
from djp_governance.model import MAX_NANO, MAX_TOKENS, BudgetExceeded, Call, Order, RunBudgetExceeded, RunLimits, Window

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from djp_governance.model import Unit

WARN_PERCENT = 90  # the operations guide: 90 % warns and goes on, beyond 100 % is refused

_MAX_TAG_BYTES = 1000


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
    for limit, field in ((order.limits.nano_usd, "run_limit_nano_usd"), (order.limits.tokens, "run_limit_tokens")):
        if limit is not None:
            _between(limit, 1, None, field)
    return check_run(order.amount, order.tokens, order.limits, "raise --budget-usd", "raise --budget-tokens")


def check_run(amount: int, tokens: int, limits: RunLimits, raise_usd: str, raise_tokens: str) -> list[str]:
    """Warnings of a run that comes near its limits; the last two say what would raise them.

    Raises RunBudgetExceeded when it is beyond one.
    """
    return [*_check_cost(amount, limits.nano_usd, raise_usd), *_check_tokens(tokens, limits.tokens, raise_tokens)]


def check_calls(calls: Sequence[Call], field: str = "calls") -> None:
    """Raises InvalidInput when a call, or all of them together, come to more than one charge may."""
    for index, call in enumerate(calls):
        _between(call.cost, 0, MAX_NANO, f"{field}[{index}].cost_nano_usd")
        _between(call.input_tokens, 0, MAX_TOKENS, f"{field}[{index}].usage.input_tokens")
        _between(call.output_tokens, 0, MAX_TOKENS, f"{field}[{index}].usage.output_tokens")
        if not call.model.isprintable():
            name = f"{field}[{index}].model"
            raise InvalidInput(f"{name}: a model's name has no control characters", field=name)
    _between(sum(call.cost for call in calls), 0, MAX_NANO, field)
    _between(sum(call.tokens for call in calls), 0, MAX_TOKENS, field)


def pace_ms(window: Window, amount: int, tokens: int, now: datetime) -> int:
    """Milliseconds between runs of this size that stretch what is left of the window over the rest of it.

    0 where the window has not reached its soft threshold, or the run asks for nothing of what it is short of.
    """
    rest_ms = max(0, int((window.key.resets_at - now).total_seconds() * 1000))
    paces = [0]
    for unit in window.slows(amount, tokens):
        asked, left = (
            (amount, (window.limit or 0) - window.used)
            if unit == "usd"
            else (tokens, (window.limit_tokens or 0) - window.used_tokens)
        )
        paces.append(rest_ms if left <= asked else rest_ms * asked // left)
    return max(paces)


def denial(full: Sequence[Window], amount: int, tokens: int) -> BudgetExceeded:
    """The refusal of a run that the given windows have no room for: one line, with the windows as quota violations.

    It tells no time to retry after: no client is to try again by itself.
    """
    window = max(full, key=lambda one: one.key.resets_at)
    resets_at = f"{window.key.resets_at:%Y-%m-%dT%H:%M:%SZ}"
    lacking = {unit for one in full for unit in one.lacks(amount, tokens)}
    asked = " and ".join(
        shown for unit, shown in (("usd", format_usd(amount)), ("tokens", f"{tokens:,} tokens")) if unit in lacking
    )
    told = [(one, _fullness(one, unit)) for one in full for unit in one.lacks(amount, tokens)]
    return BudgetExceeded(
        f"budget exceeded: {'; '.join(text for _, text in told)}; the run asks for up to {asked}; "
        f"wait until {resets_at}, ask for fewer debaters or tokens, or raise the budget",
        quota=[
            QuotaViolation(f"{one.key.scope}/{one.key.period}", f"{text}; the run asks for up to {asked}")
            for one, text in told
        ],
        metadata={"resets_at": resets_at, "asked_nano_usd": str(amount), "asked_tokens": str(tokens)},
    )


def _fullness(window: Window, unit: Unit) -> str:
    name, until = f"{window.key.scope}/{window.key.period}", f"until {window.key.resets_at:%Y-%m-%dT%H:%M:%SZ}"
    if unit == "tokens":
        return (
            f"{name} has a limit of {window.limit_tokens:,} tokens, of which {window.reserved_tokens:,} are reserved "
            f"and {window.spent_tokens:,} spent, {until}"
        )
    return (
        f"{name} has a limit of {format_usd(window.limit or 0)}, of which {format_usd(window.reserved)} is reserved "
        f"and {format_usd(window.spent)} spent, {until}"
    )


def _check_cost(amount: int, limit: int | None, remedy: str) -> list[str]:
    if limit is None:
        return []
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
            f"BudgetExceededError: Projected cost {projected} exceeds budget {budget}; {remedy}, or lower --max-tokens"
        )
    if amount and amount * 100 >= limit * WARN_PERCENT:
        return [f"projected cost {projected} is {amount * 100 // limit} % of the budget {budget}"]
    return []


def _check_tokens(tokens: int, limit: int | None, remedy: str) -> list[str]:
    if limit is None:
        return []
    if tokens > limit:
        raise RunBudgetExceeded(
            f"BudgetExceededError: Projected tokens {tokens:,} exceed budget {limit:,}; {remedy}, or lower --max-tokens"
        )
    if tokens and tokens * 100 >= limit * WARN_PERCENT:
        return [f"projected tokens {tokens:,} are {tokens * 100 // limit} % of the budget {limit:,}"]
    return []


def _between(value: int, least: int, most: int | None, field: str) -> None:
    if value < least:
        raise InvalidInput(f"{field}: {value} is too small; give at least {least}", field=field)
    if most is not None and value > most:
        raise InvalidInput(f"{field}: {value} is more than one request may hold; give at most {most}", field=field)
