"""`djp run --dry-run`: what a run can cost at most, held against the budget that the run was given."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from djp.cli.exits import Exit
from djp.cli.terminal import fail, one_line
from djp.mesh.errors import DjpError
from djp.money import format_usd

if TYPE_CHECKING:
    from djp.v1 import run_pb2


def show_projection(projected: run_pb2.ProjectRunResponse, *, corpus: dict[str, Any] | None, as_json: bool) -> int:
    """Print the projection in the operations guide's form; the exit code says whether the run's budget allows it."""
    refusal, warnings = _against_budget(projected)
    if as_json:
        from djp.cli.documents import document

        told = {"warnings": warnings, "refusal": refusal or None, "corpus": corpus}
        print(json.dumps({"dry_run": {**document(projected), **told}}, indent=2))
    else:
        bound = projected.projection
        total = bound.total
        print("Dry run mode - no API calls made")
        print()
        print("Projected Cost Breakdown:")
        print(f"  Debate Stage:  {format_usd(bound.debate.cost_nano_usd)}")
        print(f"  Judge Stage:   {format_usd(bound.judge.cost_nano_usd)}")
        print(f"  Total Cost:    {format_usd(total.cost_nano_usd)}")
        print(f"  Total Tokens:  {total.tokens:,}")
        print()
        print(f"Projected cost: {format_usd(total.cost_nano_usd)}")
        print(f"Projected tokens: ~{total.tokens}")
        print(f"This is the most that the run can cost, over {total.calls} model calls; most runs cost far less.")
    for warning in warnings:
        print(f"Warning: {one_line(warning)}", file=sys.stderr)
    if refusal:
        fail(refusal)
        return Exit.DENIED
    return Exit.OK


def _against_budget(projected: run_pb2.ProjectRunResponse) -> tuple[str, list[str]]:
    """Governance's own rules for a run's budget: the refusal, or an empty string, and the warnings."""
    from djp_governance.model import Order, RunLimits
    from djp_governance.rules import check_order

    spec, total = projected.spec, projected.projection.total
    limits = RunLimits(
        nano_usd=spec.budget_nano_usd if spec.HasField("budget_nano_usd") else None,
        tokens=spec.budget_tokens if spec.HasField("budget_tokens") else None,
    )
    warnings = list(projected.projection.warnings)
    try:
        return "", [*warnings, *check_order(Order("dry-run", total.cost_nano_usd, total.tokens, limits))]
    except DjpError as error:
        return error.message, warnings
