"""What governance does unasked: leases that lapse, a changed budgets file, events, anomalies, days that are over."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from djp.mesh.errors import DjpError
from djp_governance.anomalies import find_anomalies, of_anomaly
from djp_governance.reports import first_of
from djp_governance.windows import day_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from djp.event_log import EventLog
    from djp_governance.adapters.sql_closing import Closing
    from djp_governance.adapters.sql_retention import Retention
    from djp_governance.events import Event
    from djp_governance.parts import Parts

_POLL_S = 2.0
_SWEEP_S = 5.0  # a lease is to have lapsed within 30 s of its end
_TIDY_S = 3600.0
_ANOMALY_S = 60.0

_log = logging.getLogger(__name__)


class Upkeep:
    """Background work. Every process does it; the database sees to it that each thing is done by one."""

    def __init__(self, parts: Parts, closing: Closing, retention: Retention, event_log: EventLog[Event] | None) -> None:
        self._parts = parts
        self._closing = closing
        self._retention = retention
        self._event_log = event_log

    async def run(self) -> None:
        """Until it is cancelled. What fails is logged and tried again: a database that is away comes back."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_forever(_POLL_S, self.look_around))
            tasks.create_task(_forever(_SWEEP_S, self.sweep))
            tasks.create_task(_forever(_TIDY_S, self.tidy))
            tasks.create_task(_forever(_ANOMALY_S, self.tell_anomalies))

    async def look_around(self) -> None:
        """Take over a changed budgets file, and write new events to the log."""
        rejected = await asyncio.to_thread(self._parts.file.poll, self._parts.now())
        if rejected:
            _log.error("%s", rejected.message)
            await self._parts.events.append(rejected)
        await self.close()

    async def sweep(self) -> None:
        """End the reservations whose holders are lost."""
        for one in await self._parts.ledger.lapse(self._parts.now()):
            _log.warning("the lease of reservation %s of run %s lapsed", one.reservation_id, one.run_id)

    async def tell_anomalies(self) -> None:
        """Record an event for each tenant that spends unusually much today, or did until midnight."""
        parts = self._parts
        now, today = parts.now(), day_of(parts.now(), parts.zone)
        async with parts.reports.reader() as reader:
            found = await find_anomalies(reader, None, first_of(2, today), today, parts.anomaly_rules)
        for one in found:
            await parts.events.append(of_anomaly(one, now))

    async def tidy(self) -> None:
        """Close the days that are over, and forget what is older than it has to be kept."""
        await self._closing.close_days(day_of(self._parts.now(), self._parts.zone))
        await self._retention.retire(self._parts.now())

    async def close(self) -> None:
        """Write what the log lacks."""
        if self._event_log:
            try:
                await self._event_log.flush()
            except (OSError, DjpError) as error:
                _log.error("the log of events could not be written (%s); the ledger has them", error)


async def _forever(every_s: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except DjpError as error:
            _log.warning("governance's upkeep did not get through and tries again: %s", error.message)
        except Exception:
            _log.exception("governance's upkeep failed and tries again")
        await asyncio.sleep(every_s)
