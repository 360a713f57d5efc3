"""The step at which a person decides whether a run's text may be published."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from djp.mesh.errors import DjpError
from djp.mesh.times import to_timestamp
from djp.v1 import common_pb2, run_pb2
from djp_gateway.ports import APPROVE, REJECT

if TYPE_CHECKING:
    from djp_gateway.live import LiveRun
    from djp_gateway.ports import Order, RunOrders


class RejectedError(DjpError):
    """A person said that the text is not to be published, or nobody said anything in time."""

    code = "FAILED_PRECONDITION"


@dataclass(frozen=True)
class Approvals:
    """Where decisions are found, and how long a run waits for one."""

    orders: RunOrders
    wait: timedelta

    async def approved(self, live: LiveRun) -> bool:
        """Whether the run may be published; False: it is parked until somebody decides.

        Raises:
            RejectedError: it may not.
        """
        run, approval = live.run, live.run.approval
        if approval.approved:
            return True
        if decided := (await self.orders.first([run.run_id], APPROVE, REJECT)).get(run.run_id):
            await self._note(live, decided)
            return True
        now = datetime.now(UTC)
        if not approval.HasField("expires_at"):
            approval.expires_at.CopyFrom(to_timestamp(now + self.wait))
            run.stage = common_pb2.STAGE_APPROVE
        expires_at = approval.expires_at.ToDatetime(UTC)
        if expires_at <= now:
            raise RejectedError(
                "nobody approved the run in time; start it again, and see DJP_APPROVAL_EXPIRY_S",
                reason="APPROVAL_EXPIRED",
            )
        await live.park(expires_at, run_pb2.RUN_STATE_PENDING_APPROVAL)
        return False

    async def _note(self, live: LiveRun, decided: Order) -> None:
        approval = live.run.approval
        approval.approved, approval.decided_by, approval.reason = decided.kind == APPROVE, decided.by, decided.reason
        if decided.at:
            approval.decided_at.CopyFrom(to_timestamp(decided.at))
        async with live.stage(common_pb2.STAGE_APPROVE) as finished:
            finished.summary = f"{'approved' if approval.approved else 'rejected'} by {decided.by}"
        if not approval.approved:
            raise RejectedError(f"rejected by {decided.by}: {decided.reason}", reason="APPROVAL_REJECTED")
