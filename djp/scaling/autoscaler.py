"""The rule over time: remembers when the number of workers last changed, logs each decision, and keeps count."""

from __future__ import annotations

import logging
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from djp.scaling.rule import Decision, Direction, Observation, Rule, decide, needed

if TYPE_CHECKING:
    from collections.abc import Iterable

COOL_LOOKS = 60
"""The cool-down, in intervals: a worker is spared only if for so long none was added and it was not needed. Runs come
at random, and so do quiet moments."""

_log = logging.getLogger(__name__)


@dataclass
class ScalingStats:
    """What an autoscaler decided so far."""

    decisions: int = 0
    ups: int = 0
    downs: int = 0
    direction_changes: int = 0
    """Changes up that followed one down, and the other way round."""

    @property
    def holds(self) -> int:
        """Decisions that changed nothing."""
        return self.decisions - self.ups - self.downs


class Autoscaler:
    """Decides for one pool of workers. Times are seconds of any clock that does not go back."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.stats = ScalingStats()
        self._changed_at = -math.inf
        self._last: Direction = "hold"
        self._needed: deque[tuple[float, int]] = deque()

    def look(self, now_s: float, seen: Observation, workers: int) -> Decision:
        """Decide what is to be done now about a pool of `workers`. The caller does it."""
        while self._needed and self._needed[0][0] < now_s - COOL_LOOKS * self.rule.interval_s:
            self._needed.popleft()
        lately = max((workers for _, workers in self._needed), default=0)
        decision = decide(self.rule, seen, workers, now_s - self._changed_at, lately)
        added = decision.workers if decision.direction == "up" else 0
        self._needed.append((now_s, max(added, needed(self.rule, seen, workers))))
        self.stats.decisions += 1
        if decision.direction == "hold":
            _log.debug("Scale decision: hold %d (%s)", workers, decision.reason)
            return decision
        _log.info("Scale decision: %s %d -> %d (%s)", decision.direction, workers, decision.workers, decision.reason)
        self._changed_at = now_s
        self.stats.ups += decision.direction == "up"
        self.stats.downs += decision.direction == "down"
        self.stats.direction_changes += self._last not in ("hold", decision.direction)
        self._last = decision.direction
        return decision


def p95(values: Iterable[float]) -> float:
    """The smallest of the values that at least 95 % of them do not pass; 0 for none."""
    ordered = sorted(values)
    return ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else 0.0
