"""Cost Governance: budgets and what is left of them, spending, anomalies, and what governance did about it."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import streamlit as st

from djp.v1 import governance_pb2
from djp_dashboards.page import SHARE, TIME, USD, at, name_of, show, table, usd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from djp.sync_client import SyncDjpClient

_EVENT_DAYS = 7


def draw(client: SyncDjpClient) -> None:
    st.subheader("Budgets")
    windows = [window for budget in client.list_budgets() for window in budget.windows]
    table(map(_window, windows), columns={"used": SHARE, "resets": TIME, **_MONEY}, nothing="There is no budget.")
    if any(window.HasField("limit_tokens") for window in windows):
        st.subheader("Budgets in tokens")
        table((row for window in windows for row in _tokens(window)), columns={"used": SHARE}, nothing="")
    st.subheader("Spending")
    days = st.segmented_control("Last days", [1, 7, 30, 90, 365], default=30, required=True)
    report = client.cost_report(days=days)
    _draw_spending(report.rows)
    st.subheader("Cost anomalies")
    table(
        (
            {
                "tenant": one.tenant,
                "day": one.day,
                "spent": usd(one.spent_nano_usd),
                "usual a day": usd(one.baseline_mean_nano_usd),
                "deviations above": one.sigmas,
            }
            for one in report.anomalies
        ),
        columns={"spent": USD, "usual a day": USD, "deviations above": st.column_config.NumberColumn(format="%.1f")},
        nothing="No day stands out.",
    )
    st.subheader(f"Events of the last {_EVENT_DAYS} days")
    events = client.list_events(
        datetime.now(UTC) - timedelta(days=_EVENT_DAYS), governance_pb2.GOVERNANCE_EVENT_KIND_UNSPECIFIED
    )
    table(
        (
            {
                "at": at(one.at),
                "kind": name_of(governance_pb2.GovernanceEventKind, one.kind),
                "budget": one.scope,
                "by": one.actor,
                "told": one.message,
            }
            for one in events
        ),
        columns={"at": TIME},
        nothing="There is none: nothing was throttled or denied, and no limit was changed.",
    )


_MONEY = {"spent": USD, "reserved": USD, "limit": USD, "left": USD}


def _window(window: governance_pb2.BudgetWindow) -> dict[str, Any]:
    """A day or a month of a budget, as a row. A limit of nothing is used up."""
    taken, limited = window.spent_nano_usd + window.reserved_nano_usd, window.HasField("limit_nano_usd")
    limit = window.limit_nano_usd
    return {
        "budget": window.scope,
        "per": name_of(governance_pb2.BudgetPeriod, window.period),
        "used": (min(1.0, taken / limit) if limit else 1.0) if limited else None,
        "spent": usd(window.spent_nano_usd),
        "reserved": usd(window.reserved_nano_usd),
        "limit": usd(limit) if limited else None,
        "left": usd(limit - taken) if limited else None,
        "resets": at(window.resets_at),
    }


def _tokens(window: governance_pb2.BudgetWindow) -> Iterator[dict[str, Any]]:
    if window.HasField("limit_tokens"):
        taken, limit = window.spent_tokens + window.reserved_tokens, window.limit_tokens
        yield {
            "budget": window.scope,
            "per": name_of(governance_pb2.BudgetPeriod, window.period),
            "used": min(1.0, taken / limit) if limit else 1.0,
            "spent": window.spent_tokens,
            "reserved": window.reserved_tokens,
            "limit": limit,
        }


def _draw_spending(rows: Sequence[governance_pb2.ReportRow]) -> None:
    if not rows:
        st.caption("Nothing was spent in these days.")
        return
    st.bar_chart(
        [{"day": one.day, "dollars": usd(one.cost_nano_usd), "model": one.model} for one in rows],
        x="day",
        y="dollars",
        color="model",
        height=260,
    )
    by = st.segmented_control("By", ["model", "tenant", "workflow", "preset"], default="model", required=True)
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for one in rows:
        for place, amount in enumerate((one.calls, one.input_tokens, one.output_tokens, one.cost_nano_usd)):
            sums[getattr(one, str(by))][place] += amount
    table(
        (
            {str(by): name, "calls": calls, "tokens in": read, "tokens out": written, "cost": usd(cost)}
            for name, (calls, read, written, cost) in sorted(sums.items(), key=lambda one: -one[1][3])
        ),
        columns={"cost": USD},
        nothing="",
    )


show("Cost Governance", draw)
