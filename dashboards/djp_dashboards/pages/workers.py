"""What the autoscaler of the gateway that answers does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from djp.v1 import scaling_pb2
from djp_dashboards.page import TIME, at, name_of, show, table, text

if TYPE_CHECKING:
    from djp.sync_client import SyncDjpClient


def draw(client: SyncDjpClient) -> None:
    now = client.get_scaling()
    rule = now.rule
    told = (
        ("Workers", f"{now.workers}", f"Between {rule.min_workers} and {rule.max_workers}"),
        ("At work", f"{now.working}", "Runs in work at this gateway"),
        ("Queue depth", f"{now.queue_depth:,}", f"Runs that wait, at all gateways; {rule.target_queue_depth} may"),
        ("P95 wait", _ms(now.p95_wait.ToMilliseconds()), f"Target: {_ms(rule.target_p95_wait.ToMilliseconds())}"),
        ("Utilisation", f"{now.utilisation:.0%}", "Mean share of the workers that was busy lately"),
        ("Oldest wait", _ms(now.oldest_wait.ToMilliseconds()), "Of the run that waits longest"),
        ("Decisions", f"{now.decisions:,}", "Since the gateway's start"),
        ("Scaled up", f"{now.ups:,}", f"By {rule.up_step} at a time"),
        ("Scaled down", f"{now.downs:,}", f"By {rule.down_step} at a time"),
        ("Turns", f"{now.direction_changes:,}", "Changes up that followed one down, and the other way round"),
    )
    for first in range(0, len(told), 5):
        for column, (label, value, meaning) in zip(st.columns(5), told[first : first + 5], strict=True):
            column.metric(label, value, help=meaning)
    if now.HasField("last_decision"):
        st.subheader("Last decision")
        text(now.last_decision.reason)
    st.subheader("Changes")
    changes = [
        {
            "at": at(one.decided_at),
            "direction": name_of(scaling_pb2.ScaleDirection, one.direction),
            "before": one.workers_before,
            "workers": one.workers,
            "why": one.reason,
        }
        for one in now.changes
    ]
    if changes:
        st.line_chart(changes, x="at", y="workers", height=220)
    table(reversed(changes), columns={"at": TIME}, nothing="The number of workers has not changed.")
    st.caption("Several gateways scale their own workers each; this is the one that answered.")


def _ms(milliseconds: int) -> str:
    return f"{milliseconds:,} ms" if milliseconds < 10_000 else f"{milliseconds / 1000:,.0f} s"


show("Workers", draw)
