"""Prometheus's view of the queue and the workers: what waits, since when, what is in work, and what was decided."""

from __future__ import annotations

import asyncio
import functools
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from djp.scaling.autoscaler import ScalingStats

if TYPE_CHECKING:
    from prometheus_client import Counter, Gauge

    from djp_gateway.scaling import Scaler

_log = logging.getLogger(__name__)

_LOOK_S = 5.0


class QueueMetrics:
    """Tells of the queue, which all gateways share, so that each tells the same, and of this gateway's own workers."""

    def __init__(self, scaler: Scaler) -> None:
        self._scaler = scaler
        self._told = ScalingStats()

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
        scaler, metrics = self._scaler, _metrics()
        depth, age_s = await scaler.queue()
        metrics.depth.set(depth)
        metrics.age.set(age_s)
        metrics.newer.set(scaler.newer)
        metrics.working.set(scaler.places.working)
        metrics.workers.set(scaler.places.count)
        metrics.wait.set(scaler.seen.p95_wait_ms / 1000)
        metrics.utilisation.set(scaler.seen.utilisation)
        now, told = scaler.stats, self._told
        metrics.decisions.labels("up").inc(now.ups - told.ups)
        metrics.decisions.labels("down").inc(now.downs - told.downs)
        metrics.decisions.labels("hold").inc(now.holds - told.holds)
        self._told = replace(now)


class _Metrics:
    """One of each for the whole process, for a metric's name can be taken once."""

    def __init__(self) -> None:
        from prometheus_client import Counter, Gauge

        self.depth: Gauge = Gauge("djp_queue_depth", "Runs that wait for a place, at all gateways together.")
        self.age: Gauge = Gauge("djp_queue_age_seconds", "How long the first of them has waited.")
        self.newer: Gauge = Gauge("djp_queue_waiting_for_newer", "Of them, those that only a newer release can take.")
        self.working: Gauge = Gauge("djp_runs_working", "Runs that this gateway works on.")
        self.workers: Gauge = Gauge("djp_workers", "Places that this gateway has for them.")
        self.wait: Gauge = Gauge(
            "djp_queue_wait_p95_seconds",
            "p95 of the waits of runs that began lately, or wait for a place.",
        )
        self.utilisation: Gauge = Gauge("djp_worker_utilisation", "Mean share of the places that was taken lately.")
        self.decisions: Counter = Counter("djp_scale_decisions_total", "What the autoscaler decided.", ["direction"])


@functools.cache
def _metrics() -> _Metrics:
    return _Metrics()
