"""How runs went: figures, trends, a row for each, and one of them in full."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import streamlit as st

from djp.money import format_usd
from djp_dashboards.figures import Figures, figures_of, row_of
from djp_dashboards.filters import filtered_runs
from djp_dashboards.one_run import draw_run
from djp_dashboards.page import LONG, TIME, USD, chosen, show, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp.sync_client import SyncDjpClient
    from djp.v1 import run_pb2


def draw(client: SyncDjpClient) -> None:
    runs = filtered_runs(client)
    _draw_figures(figures_of(runs))
    rows = [row_of(run) for run in runs]
    if rows:
        _draw_trends(runs)
    st.subheader("Runs")
    table(
        rows, columns={"started": TIME, "cost": USD, "task": LONG, "reason": LONG}, nothing="No run of this time fits."
    )
    st.subheader("One run")
    told = {run.run_id: f"{row['run']}  {row['status']}  {row['task']}" for run, row in zip(runs, rows, strict=True)}
    if run_id := chosen("Run", [run.run_id for run in runs], told, key="run"):
        draw_run(client, client.get_run(run_id))
    else:
        st.caption("There is none to show.")


def _draw_figures(all_of_them: Figures) -> None:
    it = all_of_them
    mean = it.cost_nano_usd // it.runs if it.runs else 0
    told = (
        ("Runs", f"{it.runs:,}", "Accepted in these days"),
        ("Success rate", f"{it.share(it.published, it.ended):.0%}", "Published, of those that ended"),
        ("Advisory rate", f"{it.share(it.advisory, it.ended):.0%}", "Advice only, of those that ended"),
        ("Failed", f"{it.failed:,}", "Failed, denied, or without a result"),
        ("Total cost", _dollars(it.cost_nano_usd), "Of all their model calls"),
        ("Cost of a run", _dollars(mean), "On average"),
        ("Tokens", f"{it.tokens:,}", "In and out"),
        ("Grounded Runs", f"{it.grounded:,} ({it.share(it.grounded):.0%})", "With a corpus"),
        ("Avg Citations/Run", f"{it.share(it.citations, it.grounded):.1f}", "That resolved, of a grounded run"),
        ("Grounded, too few", f"{it.unmet:,}", "Grounded runs with fewer citations than required"),
        ("Redacted Runs", f"{it.redacted:,} ({it.share(it.redacted):.0%})", "With something replaced"),
        ("Redaction Events", f"{it.redactions:,}", "Items replaced in all of them"),
        ("Median time", f"{it.median_s:.2f} s", "From being accepted to the end"),
        ("P95 time", f"{it.p95_s:.2f} s", "95 of 100 took no longer"),
        ("P95 wait", f"{it.p95_wait_s:.2f} s", "For a worker"),
    )
    for first in range(0, len(told), 5):
        for column, (label, value, meaning) in zip(st.columns(5), told[first : first + 5], strict=True):
            column.metric(label, value, help=meaning)


def _dollars(nano_usd: int) -> str:
    return format_usd(nano_usd).replace("$", r"\$")  # two of them would begin a formula


def _draw_trends(runs: Sequence[run_pb2.Run]) -> None:
    rows = [row_of(run) for run in runs]
    cost: Counter[str] = Counter()
    for row in rows:
        cost[f"{row['started']:%Y-%m-%d}"] += row["cost"]
    reasons = Counter(row["grounded_fail_reason"] for row in rows if row["grounded_fail_reason"])
    kinds: Counter[str] = Counter()
    for run in runs:
        kinds.update(run.result.redaction_counts)
    left, middle, right = st.columns(3)
    with left:
        _bars("Cost over time", "day", "dollars", cost)
    with middle:
        _bars("Status", "status", "runs", Counter(row["status"] for row in rows), across=True)
    with right:
        _bars("Providers", "provider", "runs", Counter(row["provider"] or "none" for row in rows), across=True)
    left, right = st.columns(2)
    with left:
        st.markdown("**Grounded Fail Reason**")
        table(({"reason": one, "runs": number} for one, number in reasons.most_common()), nothing="None failed so.")
    with right:
        st.markdown("**Redaction Types**")
        table(({"type": one, "items": number} for one, number in kinds.most_common()), nothing="Nothing was redacted.")


def _bars(title: str, what: str, much: str, counted: Counter[str], *, across: bool = False) -> None:
    st.markdown(f"**{title}**")
    rows = [{what: name, much: number} for name, number in sorted(counted.items())]
    st.bar_chart(rows, x=what, y=much, x_label="", horizontal=across, height=220)


show("Runs", draw)
