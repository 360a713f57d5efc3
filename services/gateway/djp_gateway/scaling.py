"""The autoscaler at work: looks at the queue and the places every interval of the rule, and changes their number."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import djp
from djp.scaling.autoscaler import Autoscaler, ScalingStats
from djp.scaling.rule import Observation
from djp_gateway.patience import to_the_end

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from djp.scaling.rule import Decision, Rule
    from djp_gateway.places import Places
    from djp_gateway.ports import RunQueue

_log = logging.getLogger(__name__)
_KEPT = 20
"""Changes that can be asked for."""


@dataclass(frozen=True)
class Decided:
    """A decision, when it was made, and how many workers there were before."""

    at: datetime
    before: int
    decision: Decision


class Scaler:
    """Of one gateway's places; other gateways see the same queue, and each scales its own.

    A place that is taken away is given back by its run, whenever that ends: no run is stopped.
    """

    def __init__(
        self,
        queue: RunQueue,
        places: Places,
        rule: Rule,
        *,
        executor: str,
        per_tenant: int,
        more: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rule = rule
        self.executor = executor
        self.places = places
        self.seen = Observation(0, 0.0, 0.0)
        """What the last decision was made by."""
        self.last: Decided | None = None
        self.newer = 0
        """Runs that wait for a newer gateway, as the last decision saw them."""
        self._queue = queue
        self._per_tenant = per_tenant
        self._more = more
        self._clock = clock
        self._autoscaler = Autoscaler(rule)
        self._changes: deque[Decided] = deque(maxlen=_KEPT)

    async def watch(self) -> None:
        """Decide every interval, until cancelled. While the queue cannot be looked at, nothing changes."""
        while True:
            await asyncio.sleep(self.rule.interval_s)
            try:
                await to_the_end(self.look())
            except Exception as error:
                _log.warning("the queue cannot be looked at (%s); trying again", type(error).__name__)

    async def look(self) -> None:
        """Decide now, and do it."""
        await self._look_for_newer()
        waiting_s = await self._queue.ready(self.executor, per_tenant=self._per_tenant)
        before = self.places.count
        self.seen = self.places.look(waiting_s)
        decision = self._autoscaler.look(self._clock(), self.seen, before)
        self.last = Decided(datetime.now(UTC), before, decision)
        if decision.direction == "hold":
            return
        self._changes.append(self.last)
        self.places.count = decision.workers
        if decision.direction == "up":
            self._more()

    async def _look_for_newer(self) -> None:
        newer = await self._queue.newer()
        if newer and not self.newer:
            _log.warning(
                "%d runs wait for a gateway of a newer release than this, djp %s: start one, or cancel them",
                newer,
                djp.__version__,
            )
        self.newer = newer

    async def queue(self) -> tuple[int, float]:
        """How many runs wait, at all gateways together, and for how many seconds the first of them."""
        return await self._queue.depth()

    @property
    def stats(self) -> ScalingStats:
        """What was decided since the start."""
        return self._autoscaler.stats

    @property
    def changes(self) -> Sequence[Decided]:
        """The last changes of the number, oldest first."""
        return list(self._changes)
