"""What the runs of a time come to: how they ended, what they cost, and how long they took. Knows no Streamlit."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from djp.cli.show import state_name, why
from djp.run_states import TERMINAL_STATES
from djp.scaling.autoscaler import p95
from djp.v1 import common_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Figures:
    """Counts of runs, money in nano-dollars, times in seconds; shares are from 0 to 1, and 0 of nothing."""

    runs: int
    ended: int
    published: int
    advisory: int
    failed: int
    """Ended without a text, and nobody wished it: neither cancelled nor rejected."""
    grounded: int
    citations: int
    """That resolved, of all grounded runs."""
    unmet: int
    """Grounded runs whose text has fewer of them than were asked for."""
    redacted: int
    redactions: int
    cost_nano_usd: int
    tokens: int
    median_s: float
    """From being accepted to the end."""
    p95_s: float
    p95_wait_s: float
    """From being accepted to the beginning."""

    def share(self, count: int, among: int | None = None) -> float:
        """A count's share of all runs, or of `among`."""
        whole = self.runs if among is None else among
        return count / whole if whole else 0.0


_FAILED = {run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_DENIED, run_pb2.RUN_STATE_NO_RESULT}


def figures_of(runs: Sequence[run_pb2.Run]) -> Figures:
    """The figures of these runs."""
    ended = [run for run in runs if run.state in TERMINAL_STATES]
    grounded = [run for run in runs if run.spec.corpus]
    counts = [sum(run.result.redaction_counts.values()) for run in runs]
    times = [seconds for run in ended if (seconds := took_s(run)) is not None]
    waits = [(_ns(run.started_at) - _ns(run.created_at)) / 1e9 for run in runs if run.HasField("started_at")]
    return Figures(
        runs=len(runs),
        ended=len(ended),
        published=sum(run.state == run_pb2.RUN_STATE_PUBLISHED for run in runs),
        advisory=sum(run.state == run_pb2.RUN_STATE_ADVISORY for run in runs),
        failed=sum(run.state in _FAILED for run in runs),
        grounded=len(grounded),
        citations=sum(map(citations_of, grounded)),
        unmet=sum(bool(run.result.grounded_fail_reason) for run in grounded),
        redacted=sum(map(bool, counts)),
        redactions=sum(counts),
        cost_nano_usd=sum(run.result.total_nano_usd for run in runs),
        tokens=sum(run.result.total_tokens for run in runs),
        median_s=median(times) if times else 0.0,
        p95_s=p95(times),
        p95_wait_s=p95(waits),
    )


def citations_of(run: run_pb2.Run) -> int:
    """How many citations of its text resolved."""
    return sum(one.status == common_pb2.CITATION_STATUS_RESOLVED for one in run.result.citations)


def took_s(run: run_pb2.Run) -> float | None:
    """Seconds from being accepted to the end; None while it has none."""
    return (_ns(run.finished_at) - _ns(run.created_at)) / 1e9 if run.HasField("finished_at") else None


def provider_of(run: run_pb2.Run) -> str:
    """Whose model wrote its text; empty without one."""
    return run.result.model.partition("/")[0]


def row_of(run: run_pb2.Run) -> dict[str, Any]:
    """A run as a row of a table, with the columns of the operations guide; money in dollars, for the eye."""
    return {
        "started": run.created_at.ToDatetime(),
        "run": run.run_id[:8],
        "status": state_name(run.state),
        "task": run.spec.task[:200],
        "workflow": run.spec.workflow,
        "preset": run.spec.preset,
        "provider": provider_of(run),
        "model": run.result.model,
        "seconds": took_s(run),
        "tokens": run.result.total_tokens,
        "cost": run.result.total_nano_usd / 1e9,
        "grounded": bool(run.spec.corpus),
        "grounded_required": run.spec.grounded_required,
        "citations_count": citations_of(run),
        "grounded_fail_reason": run.result.grounded_fail_reason,
        "redacted": bool(run.result.redaction_counts),
        "redaction_count": sum(run.result.redaction_counts.values()),
        "redaction_types": ", ".join(sorted(run.result.redaction_counts)),
        "reason": why(run),
    }


def _ns(moment: Any) -> int:
    return int(moment.ToNanoseconds())
