"""The rule of the autoscaler: how many workers there should be, and why. Pure: no clock, no state, no I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

CALM_QUEUE = 0.3
"""A queue below this share of its target is short enough to take workers away."""
CALM_P95 = 0.5
"""And so is a wait below this share of its target."""
CALM_UTILISATION = 0.7
"""And workers that are busy for less than this share of their time; those that stay are not busier than that."""

_ROUNDING_S = 1e-6  # of who looks every interval, and adds them up

Direction = Literal["up", "down", "hold"]


class Tuning(StrEnum):
    """What a rule is made for."""

    COST = "cost"
    BALANCED = "balanced"
    LATENCY = "latency"


@dataclass(frozen=True)
class Rule:
    """The bounds, targets and steps of the autoscaler; see `ScalingSettings` for the variables that set them."""

    min_workers: int
    max_workers: int
    target_queue_depth: int
    target_p95_ms: int
    up_step: int
    down_step: int
    interval_ms: int
    """Time between two decisions, and the least time between two changes."""

    @property
    def interval_s(self) -> float:
        """The same in seconds."""
        return self.interval_ms / 1000


@dataclass(frozen=True)
class Observation:
    """What is seen of a pool of workers: runs that wait, how long runs waited lately, and how busy the workers are."""

    queue_depth: int
    p95_wait_ms: float
    utilisation: float
    """Mean share of the workers that was busy, 0 to 1."""


@dataclass(frozen=True)
class Decision:
    """How many workers there should be, and why."""

    workers: int
    direction: Direction
    reason: str


def needed(rule: Rule, seen: Observation, workers: int) -> int:
    """How many workers are needed for what is seen: more than there are, or so many that they are not too busy."""
    if _pressing(rule, seen):
        return workers + 1
    return math.ceil(seen.utilisation * workers / CALM_UTILISATION - 1e-9)


def decide(rule: Rule, seen: Observation, workers: int, since_change_s: float, needed_lately: int = 0) -> Decision:
    """What the rule says about a pool of `workers` whose number last changed so many seconds ago (inf: never).

    No more workers are taken away than leave those that were `needed_lately`, in the time before this look.
    """
    if not rule.min_workers <= workers <= rule.max_workers:
        bound = min(max(workers, rule.min_workers), rule.max_workers)
        return _changed(workers, bound, f"the bounds are {rule.min_workers} to {rule.max_workers}")
    if since_change_s < rule.interval_s - _ROUNDING_S:
        return _held(workers, f"the last change was {since_change_s:.1f} s ago, less than {rule.interval_s:g} s")
    if why := _pressing(rule, seen):
        if workers == rule.max_workers:
            return _held(workers, f"{why}, but there are MAX_WORKERS already")
        return _changed(workers, min(workers + rule.up_step, rule.max_workers), why)
    if why := _not_calm(rule, seen):
        return _held(workers, why)
    if workers == rule.min_workers:
        return _held(workers, "calm, and there are MIN_WORKERS")
    enough = max(needed(rule, seen, workers), needed_lately)
    fewer = max(workers - rule.down_step, rule.min_workers, min(enough, workers))
    if fewer == workers:
        return _held(workers, f"calm, but {enough} workers are needed, or were lately")
    return _changed(workers, fewer, f"calm: queue {seen.queue_depth}, workers {seen.utilisation:.0%} busy")


def _pressing(rule: Rule, seen: Observation) -> str:
    """Why more workers are needed; empty if they are not.

    A long wait counts only while there is a queue or the workers are busy: it may be that of runs that are through by
    now, and where workers are idle, more of them help nobody.
    """
    if seen.queue_depth > rule.target_queue_depth:
        return f"queue {seen.queue_depth} is over its target {rule.target_queue_depth}"
    if seen.p95_wait_ms > rule.target_p95_ms and (seen.queue_depth or seen.utilisation >= CALM_UTILISATION):
        return f"p95 wait {seen.p95_wait_ms:.0f} ms is over its target {rule.target_p95_ms} ms"
    return ""


def _not_calm(rule: Rule, seen: Observation) -> str:
    """Why no worker can be spared; empty if one can."""
    if seen.queue_depth >= CALM_QUEUE * rule.target_queue_depth:
        return f"queue {seen.queue_depth} is not below {CALM_QUEUE:.0%} of its target {rule.target_queue_depth}"
    if seen.p95_wait_ms >= CALM_P95 * rule.target_p95_ms:
        return f"p95 wait {seen.p95_wait_ms:.0f} ms is not below {CALM_P95:.0%} of its target {rule.target_p95_ms} ms"
    if seen.utilisation >= CALM_UTILISATION:
        return f"workers are {seen.utilisation:.0%} busy, not below {CALM_UTILISATION:.0%}"
    return ""


def _changed(workers: int, wanted: int, reason: str) -> Decision:
    return Decision(wanted, "up" if wanted > workers else "down", reason)


def _held(workers: int, reason: str) -> Decision:
    return Decision(workers, "hold", reason)
