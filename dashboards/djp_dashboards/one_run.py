"""One run, with all that is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from djp.cli.show import state_name, why
from djp.run_states import TERMINAL_STATES
from djp.v1 import common_pb2
from djp_dashboards.figures import citations_of, took_s
from djp_dashboards.page import USD, name_of, table, text, usd

if TYPE_CHECKING:
    from djp.sync_client import SyncDjpClient
    from djp.v1 import run_pb2


def draw_run(client: SyncDjpClient, run: run_pb2.Run) -> None:
    """The run's text, verdict, citations, redactions, costs and stages. Texts are redacted already."""
    result, took = run.result, took_s(run)
    known = {
        "run": run.run_id,
        "status": state_name(run.state),
        "workflow": run.spec.workflow,
        "preset": run.spec.preset or "none",
        "policy": run.spec.policy,
        "model of the text": result.model or "none",
        "seconds": f"{took:.2f}" if took is not None else "goes on",
        "Redacted": "Yes" if result.redaction_counts else "No",
        "Redaction Events": str(sum(result.redaction_counts.values())),
        "Redaction Types": ", ".join(sorted(result.redaction_counts)) or "none",
        "grounded": "Yes" if run.spec.corpus else "No",
        "citations": f"{citations_of(run)}, and {run.spec.grounded_required} are required",
        "Grounded Fail Reason": result.grounded_fail_reason or "none",
        "artifact": result.artifact_location or "none",
    }
    if reason := why(run):
        known["reason"] = reason
    if run.approval.decided_by:
        verb = "approved" if run.approval.approved else "rejected"
        known["decision"] = f"{verb} by {run.approval.decided_by}: {run.approval.reason}"
    table([{"of the run": name, "is": value} for name, value in known.items()], nothing="", whole=True)
    st.markdown("**Task**")
    text(run.spec.task)
    if result.text:
        st.markdown("**Text**")
        text(result.text)
    draw_evidence(run)
    st.markdown("**Costs**")
    table(
        (
            {
                "model": one.model,
                "calls": one.calls,
                "tokens in": one.input_tokens,
                "tokens out": one.output_tokens,
                "cost": usd(one.cost_nano_usd),
            }
            for one in result.totals
        ),
        columns={"cost": USD},
        nothing="No model was called.",
    )
    if run.state in TERMINAL_STATES:
        _draw_stages(client, run.run_id)
    for warning in run.warnings:
        text(f"Warning: {warning}")


def draw_evidence(run: run_pb2.Run) -> None:
    """What speaks for the text: its citations, and what the jury found."""
    result = run.result
    st.markdown("**Citations**")
    table(
        (
            {
                "citation": one.text,
                "status": name_of(common_pb2.CitationStatus, one.status),
                "document": one.title,
                "support": one.support if one.HasField("support") else None,
                "reason": one.reason,
            }
            for one in result.citations
        ),
        nothing="The text cites nothing.",
    )
    st.markdown("**Verdict**")
    models = {draft.draft_id: draft.model for draft in result.drafts}
    rows = [
        {"draft": one.draft_id, "model": models.get(one.draft_id, ""), "score": one.mean, "disqualified": ""}
        for one in result.verdict.ranking
    ]
    rows += [
        {"draft": one.draft_id, "model": models.get(one.draft_id, ""), "score": None, "disqualified": one.reason}
        for one in result.verdict.disqualified
    ]
    table(rows, nothing="There is none.")


def _draw_stages(client: SyncDjpClient, run_id: str) -> None:
    finished = [one.stage_finished for one in client.watch(run_id) if one.WhichOneof("event") == "stage_finished"]
    st.markdown("**Stages**")
    table(
        (
            {
                "stage": name_of(common_pb2.Stage, one.stage),
                "seconds": one.duration.ToMilliseconds() / 1000,
                "found": one.summary,
            }
            for one in finished
        ),
        nothing="None was finished.",
    )
