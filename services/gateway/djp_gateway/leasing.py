"""The lease that keeps a run's money held for as long as the run goes on, and no longer."""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import grpc

from djp.mesh.errors import Unavailable
from djp.v1 import governance_pb2
from djp_gateway.ledger import for_the_ledger
from djp_gateway.patience import may_pass, persistently

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.live import LiveRun

_log = logging.getLogger(__name__)


class LeaseLostError(Unavailable):
    """What the run had reserved is no longer held, so nothing more may be spent for it."""

    reason = "INTERRUPTED"


@asynccontextmanager
async def lease(live: LiveRun, leaves: Leaves) -> AsyncIterator[None]:
    """Keep what the run holds for as long as the block lasts, and tell the ledger which calls are under way.

    If this process dies, the ledger charges those at their bound and gives the rest back. The lease is extended at half
    its time and when a call begins that costs something.

    Raises:
        LeaseLostError: governance could not be told in time, or has ended the reservation; the block was cancelled.
    """
    if not live.lease_s:
        yield
        return
    try:
        async with asyncio.timeout(live.lease_s) as held:
            keeper = asyncio.create_task(_extend(live, leaves, held))
            try:
                yield
            finally:
                keeper.cancel()
                await asyncio.wait([keeper])
    except TimeoutError:
        if not held.expired():
            raise
        raise LeaseLostError(
            "what the run had reserved is no longer held, because governance could not be told in time that the run "
            "goes on; see that governance answers, and start the run again"
        ) from None


async def _extend(live: LiveRun, leaves: Leaves, held: asyncio.Timeout) -> None:
    """Extend the lease until cancelled, or until the reservation has ended; each success puts off when `held` ends."""
    clock = asyncio.get_running_loop().time
    while not held.expired():
        with suppress(TimeoutError):
            async with asyncio.timeout(live.lease_s / 2):
                await live.call_to_tell.wait()
        live.call_to_tell.clear()
        request = governance_pb2.ExtendRequest(
            request_id=str(uuid.uuid4()),
            reservation_id=live.run.reservation_id,
            open_calls=[for_the_ledger(call) for call in live.owed.values()],
        )
        sent_at = clock()

        async def ask(request: governance_pb2.ExtendRequest = request) -> governance_pb2.ExtendResponse:
            return await leaves.governance.Extend(request)

        try:
            state = (await persistently(ask)).reservation.state
        except grpc.aio.AioRpcError as error:
            live.call_to_tell.set()  # there is no time to lose
            if may_pass(error):
                continue
            _log.error("governance refuses to extend %s: %s", request.reservation_id, error.details())
            state = governance_pb2.RESERVATION_STATE_UNSPECIFIED
        if held.expired() or request.reservation_id != live.run.reservation_id:
            continue  # too late, or settled because the rest was reserved anew
        if state == governance_pb2.RESERVATION_STATE_SETTLED:
            return
        held.reschedule(sent_at + live.lease_s if state == governance_pb2.RESERVATION_STATE_HELD else sent_at)
