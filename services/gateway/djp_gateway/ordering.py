"""What callers order of a run: to cancel it, to approve it, to reject it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from djp.mesh.errors import FailedPrecondition
from djp.mesh.identity import current_identity
from djp.run_states import TERMINAL_STATES
from djp.v1 import run_pb2
from djp_gateway.ports import CANCEL, Order

if TYPE_CHECKING:
    from djp_gateway.ports import RunOrders, RunStore
    from djp_gateway.runner import Runner
    from djp_gateway.watching import Watchers

_END_S = 5.0  # a cancelled run mostly ends within 2 s; what is under way in a leaf that hangs gets 5
_LOOK_S = 0.2  # until the store is asked again, for no bell rings here for another gateway's run


class Request(Protocol):
    """What these RPCs are asked with."""

    request_id: str
    run_id: str
    reason: str


@dataclass(frozen=True)
class Ordering:
    """Keeps what callers order, and sees that it is done."""

    store: RunStore
    orders: RunOrders
    runner: Runner
    watchers: Watchers

    async def give(self, kind: str, request: Request) -> run_pb2.Run:
        """Order something of the caller's run; the run when it has ended, or as it is after a moment.

        Raises:
            NotFound: the tenant has no such run.
            FailedPrecondition: there is nothing to approve or reject; one that has ended can be cancelled, and stays.
            RequestIdReused: the request_id came with another body.
        """
        run = await self.store.get(current_identity().tenant, request.run_id)
        order = Order(kind=kind, by=current_identity().who(), reason=request.reason)
        request_sha256 = sha256(repr((kind, run.run_id, order.reason)).encode()).hexdigest()
        known = await self.orders.earlier(run.tenant, request.request_id, request_sha256)
        if not known and kind != CANCEL and run.state != run_pb2.RUN_STATE_PENDING_APPROVAL:
            state = run_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_")
            raise FailedPrecondition(
                f"run {run.run_id} is {state} and does not wait for approval, so there is nothing to {kind}",
                field="run_id",
            )
        if run.state in TERMINAL_STATES:
            return run
        if not known:
            await self.orders.give(
                run.tenant, run.run_id, order, request_id=request.request_id, request_sha256=request_sha256
            )
        await self.runner.obey(run.run_id)
        return await self._ended(run)

    async def _ended(self, run: run_pb2.Run) -> run_pb2.Run:
        """The run when it has ended, or as it is after a moment: another gateway may have to hear of it."""
        with self.watchers.follower(run.run_id) as follower, suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                while (run := await self.store.get(run.tenant, run.run_id)).state not in TERMINAL_STATES:
                    follower.bell.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_LOOK_S):
                            await follower.bell.wait()
        return run
