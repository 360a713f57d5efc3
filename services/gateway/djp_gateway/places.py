"""The places for runs in work: how many there are, and which runs have one."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from djp.scaling.lately import Lately
    from djp.scaling.rule import Observation


class Places:
    """`count` of them, which may change at any time; a run keeps its place until it gives it back.

    A tenant that has no run in work finds a place as long as fewer than `most` are taken, also where all that are
    counted are: others' floods make it wait for no autoscaler.
    """

    def __init__(self, lately: Lately, count: int, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = count
        self._most = most
        self._lately = lately
        self._clock = clock
        self._taken: set[str] = set()
        self._held: list[str] = []

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._taken

    def __iter__(self) -> Iterator[str]:
        return iter((*self._taken, *self._held))

    @property
    def working(self) -> int:
        """How many are taken."""
        return len(self._taken)

    def room(self, per_tenant: int) -> int:
        """How many runs in work a tenant may have at most for another one to find a place; 0: none does."""
        working = self.working + len(self._held)
        if working < self.count:
            return per_tenant
        return 1 if working < self._most else 0

    def replace(self, lost: int) -> None:
        """Have as many more, up to `most`, for so many runs that a dead gateway had places for: they had begun, so they
        are not to wait for an autoscaler."""
        self.count = min(self.count + lost, self._most)

    @contextmanager
    def held(self, run_id: str = "") -> Iterator[None]:
        """Within the block a place is kept for that run, or for another one, that may get it."""
        self._held.append(run_id)
        try:
            yield
        finally:
            self._held.remove(run_id)

    def take(self, run_id: str, waited_s: float) -> None:
        """A run begins that has waited for so long."""
        if run_id not in self._taken:
            self._taken.add(run_id)
            self._lately.began(self._clock(), waited_s)

    def give_back(self, run_id: str) -> None:
        """The run needs its place no more, if it has one."""
        if run_id in self._taken:
            self._taken.remove(run_id)
            self._lately.ended(self._clock())

    def look(self, waiting_s: Sequence[float]) -> Observation:
        """What is seen of them now; `waiting_s`: for how long each of the runs that wait for one has."""
        return self._lately.look(self._clock(), waiting_s, self.count)
