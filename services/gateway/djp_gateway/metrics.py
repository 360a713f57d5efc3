"""Prometheus's view of the queue: how many runs wait, since when, and how many are in work here."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Gauge

    from djp_gateway.ports import RunQueue
    from djp_gateway.runner import Runner

_log = logging.getLogger(__name__)

_LOOK_S = 5.0


class QueueMetrics:
    """Looks at the queue, which all gateways share, so that each of them tells the same."""

    def __init__(self, queue: RunQueue, runner: Runner) -> None:
        self._queue = queue
        self._runner = runner
        self._depth, self._age, self._working = _gauges()

    async def watch(self) -> None:
        """Tell it every few seconds, until cancelled."""
        while True:
            try:
                await self.look()
            except Exception as error:
                _log.warning("the queue cannot be measured (%s); trying again", type(error).__name__)
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Tell what is so now."""
        depth, age_s = await self._queue.depth()
        self._depth.set(depth)
        self._age.set(age_s)
        self._working.set(self._runner.working)


@functools.cache
def _gauges() -> tuple[Gauge, Gauge, Gauge]:
    """One of each for the whole process, for a metric's name can be taken once."""
    from prometheus_client import Gauge

    return (
        Gauge("djp_queue_depth", "Runs that wait for a place, at all gateways together."),
        Gauge("djp_queue_age_seconds", "How long the oldest of them has waited."),
        Gauge("djp_runs_working", "Runs that this gateway works on."),
    )
