"""The RPCs of events: lists of them, and a stream that can be resumed."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from djp.mesh.errors import Unavailable
from djp.mesh.paging import page_token, read_page_token
from djp.mesh.times import from_timestamp, to_timestamp
from djp.v1 import governance_pb2
from djp_governance.parts import visible_tenant
from djp_governance.servicer.wire import PAGE_SIZE, PERIOD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    import grpc

    from djp_governance.events import Event, Kind
    from djp_governance.parts import Parts

_POLL_S = 0.5  # how soon a watcher of one replica hears of another's event
_BATCH = 500

KIND: dict[Kind, governance_pb2.GovernanceEventKind.ValueType] = {
    "throttled": governance_pb2.GOVERNANCE_EVENT_KIND_THROTTLED,
    "denied": governance_pb2.GOVERNANCE_EVENT_KIND_DENIED,
    "over_reservation": governance_pb2.GOVERNANCE_EVENT_KIND_OVER_RESERVATION,
    "lease_lapsed": governance_pb2.GOVERNANCE_EVENT_KIND_LEASE_LAPSED,
    "anomaly": governance_pb2.GOVERNANCE_EVENT_KIND_ANOMALY,
    "budget_set": governance_pb2.GOVERNANCE_EVENT_KIND_BUDGET_SET,
    "budget_deleted": governance_pb2.GOVERNANCE_EVENT_KIND_BUDGET_DELETED,
    "config_rejected": governance_pb2.GOVERNANCE_EVENT_KIND_CONFIG_REJECTED,
}
_FROM_KIND = {wire: kind for kind, wire in KIND.items()}


class Last:
    """The last event's sequence, for which the database is asked once for all who watch."""

    def __init__(self, ask: Callable[[], Awaitable[int]]) -> None:
        self._ask = ask
        self._asking = asyncio.Lock()
        self._known = 0
        self._asked_at = -math.inf

    async def sequence(self) -> int:
        """As it was at most half of `_POLL_S` ago."""
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if now - self._asked_at >= _POLL_S / 2:
                self._known, self._asked_at = await self._ask(), now
            return self._known


class EventRpcs:
    """Serves a tenant the events of its own budget and reservations, and operators all."""

    _parts: Parts
    _draining: asyncio.Event
    _last: Last

    async def ListEvents(
        self,
        request: governance_pb2.ListEventsRequest,
        context: grpc.aio.ServicerContext[governance_pb2.ListEventsRequest, governance_pb2.ListEventsResponse],
    ) -> governance_pb2.ListEventsResponse:
        """Newest first."""
        size = request.page_size or PAGE_SIZE
        (before,) = read_page_token(request.page_token, int) or (None,)
        found = await self._parts.events.newest(
            visible_tenant(request.tenant),
            kind=_FROM_KIND.get(request.kind),
            since=from_timestamp(request.range.since, "range.since") if request.range.HasField("since") else None,
            until=from_timestamp(request.range.until, "range.until") if request.range.HasField("until") else None,
            before=before,
            limit=size + 1,
        )
        more = page_token(found[size - 1].sequence) if len(found) > size else ""
        return governance_pb2.ListEventsResponse(events=[to_event(one) for one in found[:size]], next_page_token=more)

    async def WatchEvents(
        self,
        request: governance_pb2.WatchEventsRequest,
        context: grpc.aio.ServicerContext[governance_pb2.WatchEventsRequest, governance_pb2.WatchEventsResponse],
    ) -> AsyncIterator[governance_pb2.WatchEventsResponse]:
        """Every event behind the given sequence, those of other replicas too, until the caller goes.

        A server that drains ends it with UNAVAILABLE: the caller goes on at another one, after its last sequence.
        """
        tenant, sequence, seen = visible_tenant(""), request.after_sequence, -1
        while True:
            last = await self._last.sequence()
            events = await self._parts.events.after(sequence, tenant, _BATCH) if last != seen else ()
            for event in events:
                sequence = event.sequence
                yield governance_pb2.WatchEventsResponse(event=to_event(event))
            if self._draining.is_set():
                raise Unavailable("the server is draining; watch again after the last sequence that came")
            if len(events) < _BATCH:
                seen = last
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._draining.wait(), _POLL_S)


def to_event(event: Event) -> governance_pb2.GovernanceEvent:
    """An event on the wire."""
    return governance_pb2.GovernanceEvent(
        sequence=event.sequence,
        at=to_timestamp(event.at),
        kind=KIND[event.kind],
        scope=event.scope,
        run_id=event.run_id,
        actor=event.actor,
        message=event.message,
        window=_snapshot(event.window) if event.window else None,
    )


def _snapshot(window: Mapping[str, str | int | None]) -> governance_pb2.BudgetWindow:
    """The window as it was when the event was recorded."""
    fields: dict[str, Any] = dict(window)
    return governance_pb2.BudgetWindow(
        period=PERIOD[str(fields.pop("period"))],
        starts_at=to_timestamp(datetime.fromisoformat(str(fields.pop("starts_at")))),
        resets_at=to_timestamp(datetime.fromisoformat(str(fields.pop("resets_at")))),
        **fields,
    )
