"""The RPC that shows the gateway's workers, and what its autoscaler decides."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.duration_pb2 import Duration

from djp.mesh.times import to_timestamp
from djp.v1 import scaling_pb2, scaling_pb2_grpc

if TYPE_CHECKING:
    from djp.scaling.rule import Rule
    from djp_gateway.scaling import Decided, Scaler

Context = grpc.aio.ServicerContext[Any, Any]


class ScalingServicer(scaling_pb2_grpc.ScalingServiceServicer):
    """Shows it; who may see it stands in `access.py`."""

    def __init__(self, scaler: Scaler) -> None:
        self._scaler = scaler

    async def GetScaling(
        self, request: scaling_pb2.GetScalingRequest, context: Context
    ) -> scaling_pb2.GetScalingResponse:
        scaler = self._scaler
        depth, oldest_s = await scaler.queue()
        shown = scaling_pb2.Scaling(
            executor=scaler.executor,
            rule=_rule(scaler.rule),
            workers=scaler.places.count,
            working=scaler.places.working,
            queue_depth=depth,
            oldest_wait=_duration(oldest_s),
            waiting_for_worker=scaler.seen.queue_depth,
            p95_wait=_duration(scaler.seen.p95_wait_ms / 1000),
            utilisation=scaler.seen.utilisation,
            last_decision=_decision(scaler.last) if scaler.last else None,
            waiting_for_newer=scaler.newer,
            changes=[_decision(one) for one in scaler.changes],
        )
        shown.decisions, shown.ups, shown.downs, shown.direction_changes = astuple(scaler.stats)
        return scaling_pb2.GetScalingResponse(scaling=shown)


def _rule(rule: Rule) -> scaling_pb2.ScalingRule:
    return scaling_pb2.ScalingRule(
        min_workers=rule.min_workers,
        max_workers=rule.max_workers,
        target_queue_depth=rule.target_queue_depth,
        target_p95_wait=_duration(rule.target_p95_ms / 1000),
        up_step=rule.up_step,
        down_step=rule.down_step,
        interval=_duration(rule.interval_s),
    )


def _duration(seconds: float) -> Duration:
    found = Duration()
    found.FromMicroseconds(round(seconds * 1e6))
    return found


def _decision(decided: Decided) -> scaling_pb2.ScaleDecision:
    return scaling_pb2.ScaleDecision(
        decided_at=to_timestamp(decided.at),
        direction=scaling_pb2.ScaleDirection.Value(f"SCALE_DIRECTION_{decided.decision.direction.upper()}"),
        workers_before=decided.before,
        workers=decided.decision.workers,
        reason=decided.decision.reason,
    )
