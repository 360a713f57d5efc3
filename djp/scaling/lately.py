"""What was seen of a pool of workers lately: how long runs had waited that began, and how busy the workers were."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from djp.scaling.autoscaler import p95
from djp.scaling.rule import Observation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp.scaling.rule import Rule

WINDOW_LOOKS = 5
"""Over so many intervals waits and utilisation are observed."""


class Lately:
    """Told of every run that begins and ends. Times are seconds of any clock that does not go back."""

    def __init__(self, rule: Rule, now_s: float) -> None:
        self._interval_s = rule.interval_s
        self.working = 0
        """Runs in work now."""
        self._begun: deque[tuple[float, float]] = deque()  # when, and how long it had waited
        self._looks: deque[tuple[float, float]] = deque([(now_s, 0.0)])  # when, and busy seconds until then
        self._now_s = now_s
        self._busy_s = 0.0

    def began(self, now_s: float, waited_s: float) -> None:
        """A run got a worker."""
        self._pass(now_s)
        self.working += 1
        self._begun.append((now_s, waited_s))

    def ended(self, now_s: float) -> None:
        """A run needs its worker no more."""
        self._pass(now_s)
        self.working -= 1

    def look(self, now_s: float, waiting_s: Sequence[float], workers: int) -> Observation:
        """What is seen of so many workers now; `waiting_s`: for how long each of the runs that wait for one has.

        Those count as if they waited on until the next look: a worker that is added then would come too late for them.
        """
        self._pass(now_s)
        since = now_s - WINDOW_LOOKS * self._interval_s
        while self._begun and self._begun[0][0] < since:
            self._begun.popleft()
        while len(self._looks) > 1 and self._looks[1][0] <= since:
            self._looks.popleft()
        at, busy_s = self._looks[0]
        self._looks.append((now_s, self._busy_s))
        mean_busy = (self._busy_s - busy_s) / (now_s - at) if now_s > at else float(self.working)
        waits = [*(waited_s + self._interval_s for waited_s in waiting_s), *(waited_s for _, waited_s in self._begun)]
        return Observation(len(waiting_s), p95(waits) * 1000, min(1.0, mean_busy / workers))

    def _pass(self, now_s: float) -> None:
        self._busy_s += self.working * (now_s - self._now_s)
        self._now_s = now_s
