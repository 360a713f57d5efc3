"""`djp cost`: what was spent by tenant, model and day, and the days on which it was unusually much."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

from djp.cli.budgets import budget_document, print_budget_table, span_of
from djp.cli.documents import document
from djp.cli.exits import Exit
from djp.cli.session import connected_as_operator
from djp.cli.tables import Column, print_table, usd
from djp.cli.terminal import one_line, out, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp.v1 import governance_pb2

_MOST_DEVIATIONS = 1000
"""More are told as "over": against a baseline without a cent every amount is thousands of millions of deviations."""


async def print_report(gateway: str | None, *, tenant: str, days: int, since: str = "", as_json: bool) -> int:
    """Print the costs of a tenant, or of all that the caller may see, and what is left of their budget.

    A span in `since` counts in the place of `days`; of hours it is today. Raises InvalidInput for one that is none.
    """
    days = max(1, span_of(since).days) if since else days
    async with connected_as_operator(gateway) as client:
        report = await client.cost_report(tenant, days)
        # The report's own windows do not tell a limit of nothing from none.
        budget = await client.get_budget(report.windows[0].scope)
    if as_json:
        told = document(report)
        keys = ("totals", "rows", "anomalies")
        whole = {"days": days, **{key: told[key] for key in keys}, "budget": budget_document(budget)}
        print(json.dumps(whole, indent=2))
        return Exit.OK
    who = one_line(budget.scope.replace(":", " ")) if budget.scope != "global" else "all tenants"
    if report.totals:
        out().print(f"Costs of {who} {_span(days)}", style="bold")
        _print_totals(report.totals)
        out().print()
        out().print("By day", style="bold")
        _print_days(report.rows)
    else:
        say(f"{who[0].upper()}{who[1:]} spent nothing {_span(days)}.")
    out().print()
    out().print("Budget now", style="bold")
    print_budget_table([budget])
    if report.anomalies:
        out().print()
        out().print("Cost Anomalies", style="bold")
        _print_anomalies(report.anomalies)
    return Exit.OK


async def print_anomalies(gateway: str | None, *, tenant: str, days: int, as_json: bool) -> int:
    """Print the days on which a tenant spent unusually much."""
    async with connected_as_operator(gateway) as client:
        found = await client.list_anomalies(tenant, days)
    if as_json:
        print(json.dumps({"days": days, "anomalies": [document(one) for one in found]}, indent=2))
    elif found:
        _print_anomalies(found)
    else:
        say(f"No cost {_span(days)} stands out.")
    return Exit.OK


def _span(days: int) -> str:
    return "today" if days == 1 else f"in the last {days} days"


def _print_totals(totals: Sequence[governance_pb2.ReportRow]) -> None:
    """A line for each tenant and, below it, for each of its models; where there are several tenants, one for all."""
    names = [f"  {one.model}" if one.model else one.tenant for one in totals]
    figures = [(one.runs, one.calls, one.input_tokens, one.output_tokens, one.cost_nano_usd) for one in totals]
    whole = {number for number, one in enumerate(totals) if not one.model}
    if len(whole) > 1:
        sums = [sum(column) for column in zip(*(figures[number] for number in whole), strict=True)]
        names.append("total")
        figures.append((sums[0], sums[1], sums[2], sums[3], sums[4]))
        whole.add(len(names) - 1)
    runs, calls, read, written, cost = zip(*figures, strict=True)
    print_table(
        Column("tenant, model", names),
        Column("runs", _counts(runs), rank=2),
        Column("calls", _counts(calls), rank=1),
        Column("tokens in", _counts(read), rank=3),
        Column("tokens out", _counts(written), rank=3),
        Column("cost", usd(cost)),
        bold=whole,
    )


def _print_days(rows: Sequence[governance_pb2.ReportRow]) -> None:
    """A line for each day with a call, newest first, and one for all. Runs cannot be summed over models."""
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for row in rows:
        for day in (row.day, "total"):
            for index, value in enumerate((row.calls, row.input_tokens, row.output_tokens, row.cost_nano_usd)):
                sums[day][index] += value
    days = [*sorted(sums.keys() - {"total"}, reverse=True), "total"]
    calls, read, written, cost = zip(*(sums[day] for day in days), strict=True)
    print_table(
        Column("day", days),
        Column("calls", _counts(calls), rank=1),
        Column("tokens in", _counts(read), rank=2),
        Column("tokens out", _counts(written), rank=2),
        Column("cost", usd(cost)),
        bold={len(days) - 1},
    )


def _print_anomalies(found: Sequence[governance_pb2.Anomaly]) -> None:
    print_table(
        Column("tenant", [one.tenant for one in found]),
        Column("day", [one.day for one in found], align="left"),
        Column("spent", usd([one.spent_nano_usd for one in found])),
        Column("usual a day", usd([one.baseline_mean_nano_usd for one in found])),
        Column("deviations above", [_deviations(one.sigmas) for one in found], rank=1),
    )


def _deviations(sigmas: float) -> str:
    return f"{sigmas:.1f}" if sigmas < _MOST_DEVIATIONS else f"over {_MOST_DEVIATIONS:,}"


def _counts(many: Sequence[int]) -> list[str]:
    return [f"{one:,}" for one in many]
