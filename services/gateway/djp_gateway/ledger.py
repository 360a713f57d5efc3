"""The steps that move a run's money: reserve, charge, settle, release."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import grpc

from djp.v1 import common_pb2, governance_pb2, run_pb2
from djp_gateway.live import count
from djp_gateway.patience import may_pass, persistently, step_id, to_the_end

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.live import LiveRun

_log = logging.getLogger(__name__)

_ASK_S = 20.0

# A run in one of these stages has not asked for money yet.
_BEFORE_MONEY = frozenset({common_pb2.STAGE_UNSPECIFIED, common_pb2.STAGE_SEARCH, common_pb2.STAGE_PROJECT})


async def reserve(live: LiveRun, leaves: Leaves) -> None:
    """Hold the bound in every budget window that the run falls in."""
    run, spec = live.run, live.run.spec
    async with live.stage(common_pb2.STAGE_RESERVE) as finished:
        request = governance_pb2.ReserveRequest(
            request_id=step_id(run.run_id, "reserve"),
            run_id=run.run_id,
            amount_nano_usd=run.projection.total.cost_nano_usd,
            tokens=run.projection.total.tokens,
            tags={"workflow": spec.workflow, "preset": spec.preset},
        )
        if spec.HasField("budget_nano_usd"):
            request.run_limit_nano_usd = spec.budget_nano_usd
        if spec.HasField("budget_tokens"):
            request.run_limit_tokens = spec.budget_tokens

        async def hold() -> governance_pb2.ReserveResponse:
            return await leaves.governance.Reserve(request, timeout=_ASK_S)

        answer = await to_the_end(hold())
        run.reservation_id = answer.reservation.reservation_id
        for warning in answer.warnings:
            await live.warn(warning)
        finished.summary = "throttled" if answer.outcome == governance_pb2.RESERVE_OUTCOME_THROTTLED else "granted"


async def charge(live: LiveRun, leaves: Leaves, calls: Sequence[common_pb2.ModelCall], event: run_pb2.RunEvent) -> None:
    """Record model calls that were made, then the event that they led to; the run may be stopped, but they are paid."""
    if not calls:
        await live.emit(event)
        return
    request = governance_pb2.ChargeRequest(
        request_id=step_id(live.run.run_id, "charge " + " ".join(call.call_id for call in calls)),
        reservation_id=live.run.reservation_id,
        calls=calls,
    )
    for call in request.calls:
        call.ClearField("error")  # a provider's words may quote the task, which the ledger is not to know

    async def pay() -> governance_pb2.ChargeResponse:
        return await leaves.governance.Charge(request)

    live.owed.append(request)
    answer = await to_the_end(persistently(pay))
    live.owed.remove(request)
    await live.charged(calls, event)
    if answer.over_reservation:
        await live.warn("the run has cost more than was reserved for it; the ledger has the true cost")


async def pay_owed(owed: list[governance_pb2.ChargeRequest], leaves: Leaves) -> None:
    """Record the charges that a run knew of and could not record itself: the calls were made, whatever became of it.

    Raises:
        grpc.aio.AioRpcError: governance cannot take them now; what is left of `owed` is to be offered again.
    """
    while owed:
        try:
            await leaves.governance.Charge(owed[0])
        except grpc.aio.AioRpcError as error:
            if may_pass(error):
                raise
            _log.error("governance refuses a charge of %s for good: %s", owed[0].reservation_id, error.details())
        del owed[0]


async def settle(live: LiveRun, leaves: Leaves) -> None:
    """Give back what was held and not spent; the run's cost is what the ledger says."""
    async with live.stage(common_pb2.STAGE_SETTLE) as finished:
        await to_the_end(close(live.run, leaves))
        calls = sum(total.calls for total in live.run.result.totals)
        finished.summary = f"{count(calls, 'model call')} paid, the rest given back"


async def close(run: run_pb2.Run, leaves: Leaves) -> None:
    """Settle a run with the ledger; done again, it changes nothing more."""
    request = governance_pb2.SettleRequest(request_id=step_id(run.run_id, "settle"), reservation_id=run.reservation_id)

    async def ask() -> governance_pb2.SettleResponse:
        return await leaves.governance.Settle(request)

    settled = await persistently(ask)
    del run.result.totals[:]
    run.result.totals.extend(settled.totals)
    run.result.total_nano_usd = settled.total_nano_usd
    run.result.total_tokens = sum(total.input_tokens + total.output_tokens for total in settled.totals)


async def release(run: run_pb2.Run, leaves: Leaves, reason: str) -> None:
    """Give back whatever a run that did not get to its end still holds; charges so far stand and are its cost."""
    if run.stage in _BEFORE_MONEY:
        return
    found = await leaves.governance.ListReservations(governance_pb2.ListReservationsRequest(run_id=run.run_id))
    cost = 0
    for reservation in found.reservations:
        if reservation.state != governance_pb2.RESERVATION_STATE_HELD:
            cost += reservation.charged_nano_usd
            continue
        released = await leaves.governance.Release(
            governance_pb2.ReleaseRequest(
                request_id=step_id(run.run_id, f"release {reservation.reservation_id}"),
                reservation_id=reservation.reservation_id,
                reason=reason,
            )
        )
        cost += released.total_nano_usd
    run.result.total_nano_usd = cost
