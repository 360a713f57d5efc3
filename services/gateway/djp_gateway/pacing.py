"""Replays of dead letters are paced: together they use no more than their share of a budget's windows."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

from djp.v1 import governance_pb2, run_pb2
from djp_gateway.patience import persistently

if TYPE_CHECKING:
    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.live import LiveRun
    from djp_gateway.ports import DeadLetters


async def has_share(live: LiveRun, leaves: Leaves, dead: DeadLetters) -> bool:
    """Whether a run may reserve its money now; False: it is parked until the window resets that has no room for it.

    A run that replays no dead letter may always.
    """
    run = live.run
    if not run.replay.window_share:
        return True

    async def ask() -> governance_pb2.GetBudgetResponse:
        return await leaves.governance.GetBudget(governance_pb2.GetBudgetRequest(scope="tenant"))

    budget = (await persistently(ask, live.waiting_for("governance"))).budget
    limited = [window for window in budget.windows if window.HasField("limit_nano_usd")]
    shares = [
        (window.starts_at.ToDatetime(UTC), int(window.limit_nano_usd * run.replay.window_share)) for window in limited
    ]
    full = await dead.take_share(run, run.projection.total.cost_nano_usd, shares)
    if full is None:
        return True
    until = limited[full].resets_at.ToDatetime(UTC)
    live.warn(
        f"replays of dead letters have used their share of the budget; the run starts at {until:%Y-%m-%d %H:%M} UTC"
    )
    await live.park(until, run_pb2.RUN_STATE_QUEUED)
    return False
