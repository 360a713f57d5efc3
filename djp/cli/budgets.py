"""`djp budgets`: what may be spent and what is left of it, limits set at run time, and thresholds that were passed."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from djp.cli.documents import document
from djp.cli.exits import Exit
from djp.cli.session import connected_as_operator
from djp.cli.tables import Column, aligned, print_table, usd
from djp.cli.terminal import one_line, say
from djp.mesh.errors import DjpError, InvalidInput, NotFound, PermissionDenied, Violation
from djp.money import parse_usd
from djp.v1 import governance_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_LIMITS = {
    "--daily-usd": "daily_nano_usd",
    "--monthly-usd": "monthly_nano_usd",
    "--daily-tokens": "daily_tokens",
    "--monthly-tokens": "monthly_tokens",
}
_PERIODS = {
    governance_pb2.BUDGET_PERIOD_DAY: ("day", "daily"),
    governance_pb2.BUDGET_PERIOD_MONTH: ("month", "monthly"),
}
_THRESHOLDS = {
    "soft": governance_pb2.GOVERNANCE_EVENT_KIND_THROTTLED,
    "hard": governance_pb2.GOVERNANCE_EVENT_KIND_DENIED,
}
_SPANS = {"h": "hours", "d": "days", "w": "weeks"}


async def print_budgets(gateway: str | None, *, as_json: bool) -> int:
    """Print every budget that the caller may see."""
    async with connected_as_operator(gateway) as client:
        budgets = await client.list_budgets()
    if as_json:
        print(json.dumps({"budgets": [budget_document(one) for one in budgets]}, indent=2))
    else:
        print_budget_table(budgets)
    return Exit.OK


async def set_budget(
    gateway: str | None, scope: str, given: Mapping[str, str | None], *, reason: str, as_json: bool
) -> int:
    """Set the limits that are given, by flag, and keep the others as they are now.

    Raises InvalidInput that names every bad flag, before anything is changed, and PermissionDenied.
    """
    wanted = _limits(given)
    async with connected_as_operator(gateway) as client:
        # A tenant does not even see most budgets.
        with _only_for_operators(gateway, (PermissionDenied, NotFound)):
            before = await client.get_budget(scope)
            limits = governance_pb2.Budget()
            for field in _LIMITS.values():
                limit = wanted[field] if field in wanted else _limit(before, field)
                if limit is not None:
                    setattr(limits, field, limit)
            await client.set_budget(before.scope, limits, reason.strip())
        budget = await client.get_budget(before.scope)
    return _print_changed(budget, as_json=as_json)


async def unset_budget(gateway: str | None, scope: str, *, reason: str, as_json: bool) -> int:
    """Take back what was set. Raises NotFound when nothing was, and PermissionDenied."""
    async with connected_as_operator(gateway) as client:
        with _only_for_operators(gateway):
            await client.delete_budget(scope, reason.strip())
        budget = await client.get_budget(scope)
    return _print_changed(budget, as_json=as_json)


async def check_budgets(gateway: str | None, *, since: str, as_json: bool) -> int:
    """Print the thresholds that budgets passed since then; exits with 1 when there are any."""
    start = datetime.now(UTC) - span_of(since)
    async with connected_as_operator(gateway) as client:
        passed = [
            (threshold, event)
            for threshold, kind in _THRESHOLDS.items()
            for event in await client.list_events(start, kind)
        ]
    passed.sort(key=lambda one: -one[1].sequence)
    if as_json:
        told = [{"threshold": threshold, **document(event)} for threshold, event in passed]
        print(json.dumps({"since": since, "passed": told}, indent=2))
    else:
        for threshold, event in passed:
            at = event.at.ToDatetime().strftime("%Y-%m-%d %H:%M")
            say(f"{at} UTC  {threshold}  {one_line(event.message)}", "red" if threshold == "hard" else "yellow")
        if not passed:
            say(f"No budget has reached a threshold within {since}.")
    return Exit.PROBLEM if passed else Exit.OK


def span_of(text: str) -> timedelta:
    """How long `12h`, `7d` or `4w` is. Raises InvalidInput."""
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit() and len(number) <= 4 and unit in _SPANS):
        told = f"--since: {text[:40]!r} is no span of time; write for example 12h, 7d or 4w"
        raise InvalidInput(told, field="--since")
    return timedelta(**{_SPANS[unit]: int(number)})


def budget_document(budget: governance_pb2.Budget) -> dict[str, Any]:
    """A budget as a JSON object; a limit that it has not is null."""
    return {**dict.fromkeys(_LIMITS.values()), **document(budget)}


def print_budget_table(budgets: Sequence[governance_pb2.Budget]) -> None:
    """A line for the day and one for the month of each budget, in dollars, and in tokens where these are limited."""
    lines = [line for budget in budgets for line in _lines(budget)]
    before = ["", *(line.scope for line in lines)]
    dollars = [not line.tokens for line in lines]
    lefts = [None if line.limit is None else line.limit - line.spent - line.reserved for line in lines]
    print_table(
        Column("budget", ["" if line.scope == last else line.scope for line, last in zip(lines, before, strict=False)]),
        Column("per", [f"{line.period}, tokens" if line.tokens else line.period for line in lines], align="left"),
        Column("limit", _amounts([line.limit for line in lines], dollars, "none"), rank=1),
        Column("spent", _amounts([line.spent for line in lines], dollars), rank=2),
        Column("reserved", _amounts([line.reserved for line in lines], dollars), rank=4),
        Column("left", _amounts(lefts, dollars, "-")),
        Column("resets (UTC)", _moments([line.resets for line in lines]), rank=3, align="left"),
        Column("limits from", [line.origin for line in lines], rank=5, align="left"),
        red={number for number, left in enumerate(lefts) if left is not None and left <= 0},
    )
    if any(line.share for line in lines):
        say("Limits are shown at the share of a budget that may be used (BUDGET_HARD_THRESHOLD).", "dim")


class _Line(NamedTuple):
    """A limit with its window now, in nano-dollars, or in tokens; `share`: the hard threshold makes it lower."""

    scope: str
    period: str
    tokens: bool
    limit: int | None
    spent: int
    reserved: int
    resets: datetime
    origin: str
    share: bool


def _lines(budget: governance_pb2.Budget) -> Iterator[_Line]:
    for window in budget.windows:
        period, prefix = _PERIODS[window.period]
        for unit, tokens in (("nano_usd", False), ("tokens", True)):
            limit = _limit(budget, f"{prefix}_{unit}")
            if tokens and limit is None:
                continue
            counts = getattr(window, f"limit_{unit}")
            yield _Line(
                budget.scope,
                period,
                tokens,
                None if limit is None else counts,
                getattr(window, f"spent_{unit}"),
                getattr(window, f"reserved_{unit}"),
                window.resets_at.ToDatetime(),
                budget.origin,
                limit is not None and counts != limit,
            )


def _amounts(amounts: Sequence[int | None], dollars: Sequence[bool], without: str = "") -> list[str]:
    """A column of dollars and of tokens; `without` stands where there is no amount."""
    money = iter(usd([one for one, of in zip(amounts, dollars, strict=True) if of and one is not None]))
    return aligned(
        [
            without if one is None else next(money).rstrip() if of else f"{one:,}"
            for one, of in zip(amounts, dollars, strict=True)
        ]
    )


def _moments(moments: Sequence[datetime]) -> list[str]:
    """Days where all begin at midnight, as in UTC, else minutes."""
    minutes = [f"{one:%Y-%m-%d %H:%M}" for one in moments]
    return (
        [one.removesuffix(" 00:00") for one in minutes] if all(one.endswith(" 00:00") for one in minutes) else minutes
    )


def _limit(budget: governance_pb2.Budget, field: str) -> int | None:
    return getattr(budget, field) if budget.HasField(field) else None  # type: ignore[arg-type]


def _limits(given: Mapping[str, str | None]) -> dict[str, int | None]:
    limits: dict[str, int | None] = {}
    problems: list[Violation] = []
    for flag, text in given.items():
        try:
            if text is not None:
                limits[_LIMITS[flag]] = _limit_of(flag, text)
        except InvalidInput as error:
            problems += error.violations
    if problems:
        raise InvalidInput("; ".join(one.description for one in problems), violations=problems)
    if not limits:
        raise InvalidInput(f"there is nothing to set; give one of {', '.join(_LIMITS)}")
    return limits


def _limit_of(flag: str, text: str) -> int | None:
    """A limit as written, in nano-dollars or tokens; None for `none`."""
    if text == "none":
        return None
    if flag.endswith("usd"):
        return parse_usd(text, field=flag)
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    raise InvalidInput(f"{flag}: {text[:40]!r} is no number of tokens; write digits only, or none", field=flag)


@contextmanager
def _only_for_operators(
    gateway: str | None, refusals: tuple[type[DjpError], ...] = (PermissionDenied,)
) -> Iterator[None]:
    """Says what to do where a gateway takes the caller for a tenant, which it does of everybody on its port."""
    try:
        yield
    except refusals as error:
        raise PermissionDenied(
            f"only an operator may set budgets, and {gateway or 'this mesh'} takes every caller for a tenant; put the "
            "limits into the budgets file of its mesh (DJP_BUDGETS), which is read again within seconds; without "
            "--gateway and DJP_GATEWAY this works on DJP_GOVERNANCE_DATABASE_URL, or on DJP_HOME while no mesh uses it"
        ) from error


def _print_changed(budget: governance_pb2.Budget, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"budget": budget_document(budget)}, indent=2))
    else:
        print_budget_table([budget])
    return Exit.OK
