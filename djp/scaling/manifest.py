"""The rule as a manifest: a HorizontalPodAutoscaler for gateways in Kubernetes, with the rule's own figures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from djp.scaling.autoscaler import COOL_LOOKS
from djp.scaling.rule import CALM_UTILISATION

if TYPE_CHECKING:
    from djp.scaling.rule import Rule

_MOST_PERIOD_S, _MOST_WINDOW_S = 1800, 3600
"""What Kubernetes takes."""


def hpa_manifest(rule: Rule, *, name: str, per_pod: int) -> dict[str, Any]:
    """Of a Deployment of that name, whose pods have `per_pod` workers each; the rule's workers are those of all pods.

    Each metric asks for as many pods as it needs, and the most counts, as the rule goes up for any of its reasons. What
    it takes away it takes in the rule's steps, and when it was not needed for a cool-down.
    """
    interval_s = math.ceil(rule.interval_s)

    def pods(workers: int) -> int:
        return math.ceil(workers / per_pod)

    def metric(metric_name: str, target: float) -> dict[str, Any]:
        quantity = f"{round(target * 1000)}m"  # in thousandths, as Kubernetes writes numbers that are not whole
        return {
            "type": "Pods",
            "pods": {"metric": {"name": metric_name}, "target": {"type": "AverageValue", "averageValue": quantity}},
        }

    def steps(workers: int, window_s: int) -> dict[str, Any]:
        policy = {"type": "Pods", "value": pods(workers), "periodSeconds": min(interval_s, _MOST_PERIOD_S)}
        return {"stabilizationWindowSeconds": min(window_s, _MOST_WINDOW_S), "policies": [policy]}

    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": pods(rule.min_workers),
            "maxReplicas": pods(rule.max_workers),
            "metrics": [
                metric("djp_runs_working", CALM_UTILISATION * per_pod),
                metric("djp_queue_depth", rule.target_queue_depth),
                metric("djp_queue_wait_p95_seconds", rule.target_p95_ms / 1000),
            ],
            "behavior": {
                "scaleUp": steps(rule.up_step, 0),
                "scaleDown": steps(rule.down_step, math.ceil(COOL_LOOKS * rule.interval_s)),
            },
        },
    }
