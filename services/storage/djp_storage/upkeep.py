"""What storage does unasked: it tells that it lives, removes what is left over, watches sizes, logs events."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from djp.mesh.errors import DjpError, FailedPrecondition
from djp_storage.model import ArtifactKey, By, Tier

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from djp.event_log import EventLog
    from djp_storage.adapters.sql_lifecycle import SqlLifecycle
    from djp_storage.lifecycle import Lifecycle
    from djp_storage.model import Event
    from djp_storage.ports import Catalogue, EventStore
    from djp_storage.worker import Worker

_POLL_S = 2.0
_SWEEP_S = 5.0
_TIDY_S = 3600.0
_OVER, _UNDER = "tier_over_threshold", "tier_under_threshold"

_log = logging.getLogger(__name__)


class Upkeep:
    """Background work. Every process does it; nothing is harmed if two do the same at once."""

    def __init__(
        self,
        worker: Worker,
        lifecycle: Lifecycle,
        store: SqlLifecycle,
        sizes: Sizes,
        log: EventLog[Event] | None,
        reload: Callable[[], None],
        *,
        request_days: int,
    ) -> None:
        """`reload` blocks, and takes over what has changed of the retention file. Raises FailedPrecondition."""
        self._worker = worker
        self._lifecycle = lifecycle
        self._store = store
        self._sizes = sizes
        self._log = log
        self._reload = reload
        self._beat_s = worker.lease_s / 4
        self._request_days = request_days

    async def run(self) -> None:
        """Until it is cancelled. What fails is logged and tried again: a database that is away comes back."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_forever(self._beat_s, self._worker.beat))
            tasks.create_task(_forever(min(_SWEEP_S, self._beat_s), self.sweep))
            tasks.create_task(_forever(_POLL_S, self.flush))
            tasks.create_task(_forever(_POLL_S, self.reload))
            tasks.create_task(_forever(_TIDY_S, self.tidy))

    async def sweep(self) -> None:
        """Remove what crashes left behind."""
        await self._lifecycle.tidy()
        if swept := await self._worker.sweep():
            _log.info("removed %d objects that were left over", swept)

    async def tidy(self) -> None:
        """Look at the sizes, and forget old requests."""
        await self._sizes.watch()
        await self._store.forget_requests(self._worker.now() - timedelta(days=self._request_days))

    async def reload(self) -> None:
        """Take over a retention file that has changed; one that is broken is told, and changes nothing."""
        try:
            await asyncio.to_thread(self._reload)
        except FailedPrecondition as error:
            _log.error("%s; the retention of before still counts", error.message)

    async def flush(self) -> None:
        """Write what the log lacks."""
        if self._log:
            try:
                await self._log.flush()
            except OSError as error:
                _log.error("the log of events could not be written (%s); the catalogue has them", error)


class Sizes:
    """Tells when a tier gets larger than its threshold, in bytes, and when it is back below."""

    def __init__(
        self, catalogue: Catalogue, events: EventStore, worker: Worker, thresholds: Mapping[Tier, int]
    ) -> None:
        self._catalogue = catalogue
        self._events = events
        self._worker = worker
        self._thresholds = thresholds

    async def watch(self) -> None:
        """Compare, and record an event where a tier has passed its threshold since the last one."""
        totals = await self._catalogue.totals(None, by_workflow=False)
        for tier, most in self._thresholds.items():
            size = sum(one.bytes for one in totals if one.tier is tier)
            over = size > most
            if over is await self._was_over(tier):
                continue
            told = f"tier {tier} has {size} bytes, {'more' if over else 'no more'} than the {most} of its threshold"
            _log.log(logging.WARNING if over else logging.INFO, "%s", told)
            by = By("storage", told, self._worker.now())
            await self._events.append(f"{_OVER if over else _UNDER}:{tier}", ArtifactKey("", "", ""), by)

    async def _was_over(self, tier: Tier) -> bool:
        found = [
            event
            for action in (_OVER, _UNDER)
            for event in await self._events.newest("", action=f"{action}:{tier}", limit=1)
        ]
        last = max(found, key=lambda event: event.sequence, default=None)
        return last is not None and last.action.startswith(_OVER)


async def _forever(every_s: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except DjpError as error:
            _log.warning("storage's upkeep did not get through and tries again: %s", error.message)
        except Exception:
            _log.exception("storage's upkeep failed and tries again")
        await asyncio.sleep(every_s)
