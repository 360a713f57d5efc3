"""What Kubernetes' Horizontal Pod Autoscaler would do, by the formula and the defaults of its version 2."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from djp.scaling.rule import CALM_UTILISATION

if TYPE_CHECKING:
    from djp.scaling.rule import Observation, Rule

SYNC_S = 15.0
"""Time between two looks."""
TOLERANCE = 0.1
"""Share by which a metric may miss its target before anything is done."""
STABILISATION_S = 300.0
"""A scale-down goes no lower than the highest recommendation of this time."""
_UP_PODS, _UP_FACTOR = 4, 2
"""In one period at most so many pods more, or so many times as many, whichever is more."""


class Hpa:
    """An HPA with the rule's bounds and two metrics: the workers' utilisation, and the queue against its target."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._recommended: deque[tuple[float, int]] = deque()

    def workers(self, now_s: float, seen: Observation, workers: int) -> int:
        """How many workers it wants; to be asked every SYNC_S seconds."""
        ratios = (seen.utilisation / CALM_UTILISATION, seen.queue_depth / self._rule.target_queue_depth)
        desired = max(workers if abs(ratio - 1) <= TOLERANCE else math.ceil(workers * ratio) for ratio in ratios)
        desired = min(max(desired, self._rule.min_workers), self._rule.max_workers)
        self._recommended.append((now_s, desired))
        while self._recommended[0][0] < now_s - STABILISATION_S:
            self._recommended.popleft()
        if desired < workers:
            return min(workers, max(one for _, one in self._recommended))
        return min(desired, max(workers + _UP_PODS, workers * _UP_FACTOR))
