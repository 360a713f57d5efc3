"""Runs whose text waits for somebody to say that it may be published."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from djp.v1 import run_pb2
from djp_dashboards.figures import row_of
from djp_dashboards.one_run import draw_evidence
from djp_dashboards.page import LONG, TIME, USD, at, chosen, doing, say_what_was_done, show, table, text

if TYPE_CHECKING:
    from djp.sync_client import SyncDjpClient

_SHOWN = 500
_COLUMNS = ("started", "run", "task", "workflow", "model", "cost", "citations_count", "grounded_required")


def draw(client: SyncDjpClient) -> None:
    say_what_was_done()
    request = run_pb2.ListRunsRequest(page_size=_SHOWN, states=[run_pb2.RUN_STATE_PENDING_APPROVAL])
    waiting = client.list_runs(request).runs
    rows = [
        {**{name: row_of(run)[name] for name in _COLUMNS}, "expires": at(run.approval.expires_at)} for run in waiting
    ]
    columns = {"started": TIME, "expires": TIME, "cost": USD, "task": LONG}
    table(rows, columns=columns, nothing="No run waits for approval.")
    told = {run.run_id: f"{run.run_id[:8]}  {run.spec.task}" for run in waiting}
    if run_id := chosen("Run to decide about", list(told), told, key="to decide"):
        _draw_decision(client, next(run for run in waiting if run.run_id == run_id))


def _draw_decision(client: SyncDjpClient, run: run_pb2.Run) -> None:
    st.markdown("**Task**")
    text(run.spec.task)
    st.markdown("**Text that would be published**")
    text(run.result.text)
    draw_evidence(run)
    st.subheader("Decision")
    reason = st.text_input("Reason", key=f"reason {run.run_id}", max_chars=1000, help="Kept with the run.").strip()
    short = run.run_id[:8]
    with st.container(horizontal=True):
        approve = st.button("Approve", type="primary", key=f"approve {run.run_id}")
        reject = st.button("Reject", disabled=not reason, key=f"reject {run.run_id}")
    if approve:
        doing(lambda: client.approve_run(run.run_id, reason=reason), f"Run {short} is approved.")
    if reject:
        doing(lambda: client.reject_run(run.run_id, reason=reason), f"Run {short} is rejected.")
    if not reason:
        st.caption("To reject it, give a reason.")


show("Approvals", draw)
