"""A model of a queue before a pool of workers: what an autoscaler's decisions would come to under a load."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from djp.scaling.autoscaler import COOL_LOOKS, Autoscaler, p95
from djp.scaling.hpa import SYNC_S, Hpa
from djp.scaling.lately import Lately
from djp.scaling.loads import FALLS, SETTLED, Load, arrivals
from djp.scaling.rule import Observation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp.scaling.rule import Rule

MAX_RUNS = 200_000
"""As many runs may a modelled load have."""

Decide = Callable[[float, Observation, int], int]
"""Asked how many workers there should be, at a time in seconds, by what is seen, and how many there are."""


@dataclass(frozen=True)
class Job:
    """A run of the model: when it arrives, and how many seconds of a worker it takes."""

    arrives_s: float
    takes_s: float


@dataclass(frozen=True)
class Tick:
    """What was seen at a moment, and how many workers there were from then on."""

    time_s: float
    workers: int
    queue_depth: int
    p95_wait_ms: float
    utilisation: float


@dataclass(frozen=True)
class Course:
    """How a load went with one autoscaler. `waits` are of the runs in the order of their arrival, None: not begun."""

    ticks: Sequence[Tick]
    waits: Sequence[float | None]


@dataclass(frozen=True)
class Figures:
    """What a course comes to."""

    runs: int
    begun: int
    settled_p95_ms: float
    """p95 of the waits of the runs that arrived when the load had settled; those that never began: up to the end."""
    peak_queue: int
    peak_workers: int
    changes: int
    direction_changes: int
    most_direction_changes_in_a_cool_down: int
    """In the COOL_LOOKS intervals after any change."""
    to_minimum_s: float | None
    """From the load's last fall until the workers were at their minimum for good; None: not before the end."""
    worker_hours: float


def jobs_of(load: Load, *, rate: float, seconds: float, mean_s: float, seed: int) -> list[Job]:
    """A load's runs, each with a time of its own: gamma-distributed around `mean_s`, which varies by about a half."""
    chance = random.Random(f"{seed} times")  # noqa: S311  a model, no secret
    return [Job(at, chance.gammavariate(4, mean_s / 4)) for at in arrivals(load, rate=rate, seconds=seconds, seed=seed)]


def by_rule(rule: Rule) -> Decide:
    """Our autoscaler, as a model asks it."""
    autoscaler = Autoscaler(rule)
    return lambda now_s, seen, workers: autoscaler.look(now_s, seen, workers).workers


def by_hpa(rule: Rule) -> Decide:
    """The HPA, which looks at its own times only."""
    hpa, next_look = Hpa(rule), 0.0

    def decide(now_s: float, seen: Observation, workers: int) -> int:
        nonlocal next_look
        if now_s < next_look:
            return workers
        next_look = now_s + SYNC_S
        return hpa.workers(now_s, seen, workers)

    return decide


def run_model(jobs: Sequence[Job], rule: Rule, decide: Decide, *, seconds: float) -> Course:
    """Let the jobs arrive at a pool that begins at its minimum and is looked at every interval of the rule.

    Jobs begin in the order of their arrival. A worker that is taken away finishes its job; a new one is there at once.
    """
    pool = _Pool(jobs, rule)
    ticks = []
    for number in range(1, math.floor(seconds / rule.interval_s) + 1):
        now = number * rule.interval_s
        seen = pool.advance(now)
        pool.workers = decide(now, seen, pool.workers)
        pool.begin_what_can(now)
        ticks.append(Tick(now, pool.workers, seen.queue_depth, seen.p95_wait_ms, seen.utilisation))
    return Course(ticks, pool.waits)


class _Pool:
    """Jobs that wait, and jobs in work."""

    def __init__(self, jobs: Sequence[Job], rule: Rule) -> None:
        self._jobs = jobs
        self.workers = rule.min_workers
        self.waits: list[float | None] = [None] * len(jobs)
        self._arrived = 0
        self._queue: deque[int] = deque()
        self._ends: list[float] = []  # a heap
        self._lately = Lately(rule, 0.0)

    def advance(self, until: float) -> Observation:
        """Let the time pass, and say what is seen then."""
        while True:
            arrival = self._jobs[self._arrived].arrives_s if self._arrived < len(self._jobs) else math.inf
            end = self._ends[0] if self._ends else math.inf
            if min(arrival, end) > until:
                break
            if end <= arrival:
                self._lately.ended(heapq.heappop(self._ends))
            else:
                self._queue.append(self._arrived)
                self._arrived += 1
            self.begin_what_can(min(arrival, end))
        return self._lately.look(until, [until - self._jobs[one].arrives_s for one in self._queue], self.workers)

    def begin_what_can(self, now: float) -> None:
        """Give idle workers their next jobs."""
        while self._queue and len(self._ends) < self.workers:
            number = self._queue.popleft()
            job = self._jobs[number]
            self.waits[number] = wait = now - job.arrives_s
            self._lately.began(now, wait)
            heapq.heappush(self._ends, now + job.takes_s)


def figures_of(course: Course, jobs: Sequence[Job], load: Load, rule: Rule, *, seconds: float) -> Figures:
    """Sum a course up."""
    first, last = (part * seconds for part in SETTLED[load])
    settled = [
        seconds - job.arrives_s if wait is None else wait
        for job, wait in zip(jobs, course.waits, strict=True)
        if first <= job.arrives_s < last
    ]
    changes, turns = _changes(course, rule)
    cool_s = COOL_LOOKS * rule.interval_s
    return Figures(
        runs=len(jobs),
        begun=sum(wait is not None for wait in course.waits),
        settled_p95_ms=p95(settled) * 1000,
        peak_queue=max(tick.queue_depth for tick in course.ticks),
        peak_workers=max(tick.workers for tick in course.ticks),
        changes=len(changes),
        direction_changes=len(turns),
        most_direction_changes_in_a_cool_down=max(
            (sum(at < one <= at + cool_s for one in turns) for at in changes), default=0
        ),
        to_minimum_s=_to_minimum(course, load, rule, seconds),
        worker_hours=sum(tick.workers for tick in course.ticks) * rule.interval_s / 3600,
    )


def _changes(course: Course, rule: Rule) -> tuple[list[float], list[float]]:
    """When the workers' number changed, and at which of these times it began to go the other way."""
    changes, turns, way, workers = [], [], 0, rule.min_workers
    for tick in course.ticks:
        if tick.workers != workers:
            new_way = 1 if tick.workers > workers else -1
            changes.append(tick.time_s)
            if new_way == -way:
                turns.append(tick.time_s)
            way, workers = new_way, tick.workers
    return changes, turns


def _to_minimum(course: Course, load: Load, rule: Rule, seconds: float) -> float | None:
    if load not in FALLS:
        return None
    above = [tick.time_s for tick in course.ticks if tick.workers > rule.min_workers]
    if not above:
        return 0.0
    if above[-1] == course.ticks[-1].time_s:
        return None
    return max(0.0, above[-1] + rule.interval_s - FALLS[load] * seconds)
