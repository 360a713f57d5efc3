"""The steps that move a run's money: reserve, charge, settle, release."""

from __future__ import annotations

import logging
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

import grpc

from djp.mesh.errors import FailedPrecondition
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import common_pb2, governance_pb2, run_pb2
from djp_gateway.live import at_bound, count
from djp_gateway.patience import may_pass, persistently, step_id, to_the_end
from djp_gateway.publishing import clean_message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.live import LiveRun

_log = logging.getLogger(__name__)

_ASK_S = 20.0
_OVER = "the run has cost more than was reserved for it; the ledger has the true cost"

# A run in one of these stages has not asked for money yet, unless it passed through them before, at another gateway.
_BEFORE_MONEY = frozenset(
    {common_pb2.STAGE_UNSPECIFIED, common_pb2.STAGE_SEARCH, common_pb2.STAGE_HIDE, common_pb2.STAGE_PROJECT}
)


class NoRoomError(FailedPrecondition):
    """What a run that is taken up again can still cost finds no room in the budget."""


async def take_up(live: LiveRun, leaves: Leaves) -> None:
    """Make the books of a run right that another process has left: the calls that it made are recorded, those that it
    had under way at their bound, and what it reserved is found."""
    run = live.run
    if not run.reservation_id:  # it may have been reserved, and nobody have heard of that
        found = await _reservations(run, leaves)
        if not found.reservations:
            return
        run.reservation_id = found.reservations[-1].reservation_id
    await pay_owed(live, leaves, live.kept_calls(), live.events)
    drafts = sum(event.HasField("draft_finished") for event in live.events)
    ballots = sum(event.HasField("ballot") for event in live.events)
    live.warn(
        f"the process that worked on the run stopped or died; it goes on with {count(drafts, 'draft')} and "
        f"{count(ballots, 'ballot')}"
    )


async def reserve(live: LiveRun, leaves: Leaves) -> timedelta:
    """Hold the bound in every budget window that the run falls in; how long the tenant is to wait between runs."""
    async with live.stage(common_pb2.STAGE_RESERVE) as finished:
        answer = await _reserve(live, leaves, live.run.projection.total, "reserve")
        pace = timedelta(milliseconds=answer.pace_ms)
        finished.summary = "granted"
        if answer.outcome == governance_pb2.RESERVE_OUTCOME_THROTTLED:
            finished.summary = "throttled"
            live.warn(
                "a budget is nearly used up; runs like this one last until it resets if they start at least "
                f"{timedelta(seconds=round(pace.total_seconds()))} apart (hours:minutes:seconds)"
            )
        return pace


async def hold(live: LiveRun, leaves: Leaves, rest: common_pb2.CostBound) -> bool:
    """See that what the run can still cost is held, now that work is done again; whether there is room for it.

    Where what is left of the reservation does not cover it, the reservation is settled and the rest reserved anew, so
    that at no time anything is spent that is not held.
    """
    run = live.run
    now = (await _reservation(run.reservation_id, leaves)).reservation
    if (
        now.state == governance_pb2.RESERVATION_STATE_HELD
        and rest.cost_nano_usd <= now.reserved_nano_usd - now.charged_nano_usd
        and rest.tokens <= now.reserved_tokens - now.charged_tokens
    ):
        return True
    live.reserved_anew = True
    await to_the_end(_close_reservation(run, leaves))
    try:
        await _reserve(live, leaves, rest, f"reserve after {run.reservation_id}")
    except grpc.aio.AioRpcError as error:
        if may_pass(error):
            raise
        live.warn(f"there is no room in the budget for asking again: {error_from_rpc(error).told}")
        return False
    await live.emit()
    return True


async def _reserve(
    live: LiveRun, leaves: Leaves, bound: common_pb2.CostBound, step: str
) -> governance_pb2.ReserveResponse:
    run, spec = live.run, live.run.spec
    request = governance_pb2.ReserveRequest(
        request_id=step_id(run.run_id, step),
        run_id=run.run_id,
        amount_nano_usd=bound.cost_nano_usd,
        tokens=bound.tokens,
        tags={"workflow": spec.workflow, "preset": spec.preset},
    )
    if live.lease_s:
        request.lease.FromTimedelta(timedelta(seconds=live.lease_s))
    spent = live.cost()
    if spec.HasField("budget_nano_usd"):
        request.run_limit_nano_usd = max(1, spec.budget_nano_usd - spent.cost_nano_usd)
    if spec.HasField("budget_tokens"):
        request.run_limit_tokens = max(1, spec.budget_tokens - spent.tokens)

    async def ask() -> governance_pb2.ReserveResponse:
        return await leaves.governance.Reserve(request, timeout=_ASK_S)

    answer = await to_the_end(persistently(ask, live.waiting_for("governance")))
    run.reservation_id = answer.reservation.reservation_id
    for warning in answer.warnings:
        live.warn(warning)
    return answer


async def charge(
    live: LiveRun, leaves: Leaves, calls: Sequence[common_pb2.ModelCall], *events: run_pb2.RunEvent
) -> None:
    """Record the calls that are not recorded yet, then what they led to; a run that is stopped still pays them."""
    new = live.not_charged(calls)
    if not new:
        if events:
            live.tell(*events)
        return
    request = _charge_request(live.run, new)

    async def pay() -> governance_pb2.ChargeResponse:
        return await leaves.governance.Charge(request)

    answer = await to_the_end(persistently(pay))
    live.charged(new, await _shown(new, live.run, leaves), *events)
    if answer.over_reservation and _OVER not in live.run.warnings:
        live.warn(_OVER)


async def pay_owed(
    live: LiveRun, leaves: Leaves, owed: Mapping[str, common_pb2.ModelCall], events: Sequence[run_pb2.RunEvent]
) -> None:
    """Record the calls that a run made and did not record itself: at what they cost where `owed` or the ledger know it,
    at their bound where its events tell only that they were started.

    Raises:
        grpc.aio.AioRpcError: governance cannot take them now; to be offered again.
    """
    live.calls = [event.call_ended for event in events if event.HasField("call_ended")]
    started = [at_bound(event.call_started) for event in events if event.HasField("call_started")]
    unpaid = live.not_charged(list(({call.call_id: call for call in started} | dict(owed)).values()))
    if not unpaid:
        return
    try:
        await leaves.governance.Charge(_charge_request(live.run, unpaid))
    except grpc.aio.AioRpcError as error:
        if may_pass(error):
            raise
        _log.error("governance refuses a charge of %s for good: %s", live.run.reservation_id, error.details())
        return
    live.charged(unpaid, await _shown(unpaid, live.run, leaves))


def _charge_request(run: run_pb2.Run, calls: Sequence[common_pb2.ModelCall]) -> governance_pb2.ChargeRequest:
    request = governance_pb2.ChargeRequest(
        reservation_id=run.reservation_id, calls=[for_the_ledger(call) for call in calls]
    )
    # Of the whole body: the same calls may be offered again at another cost, by who knows less about them.
    body = sha256(request.SerializeToString(deterministic=True)).hexdigest()
    request.request_id = step_id(run.run_id, f"charge {body}")
    return request


def for_the_ledger(call: common_pb2.ModelCall) -> common_pb2.ModelCall:
    """A provider's words may quote the task, which the ledger is not to know."""
    bare = common_pb2.ModelCall()
    bare.CopyFrom(call)
    bare.ClearField("error")
    return bare


async def _shown(calls: Sequence[common_pb2.ModelCall], run: run_pb2.Run, leaves: Leaves) -> list[common_pb2.ModelCall]:
    """The calls as they may be shown: a provider's words about what failed are redacted."""
    shown = []
    for call in calls:
        copy = common_pb2.ModelCall()
        copy.CopyFrom(call)
        copy.error = await clean_message(call.error, run, leaves)
        shown.append(copy)
    return shown


async def settle(live: LiveRun, leaves: Leaves) -> None:
    """Give back what was held and not spent; the run's cost is what the ledger says."""
    async with live.stage(common_pb2.STAGE_SETTLE) as finished:
        await to_the_end(close(live.run, leaves, several=live.resumed or live.reserved_anew))
        calls = sum(total.calls for total in live.run.result.totals)
        finished.summary = f"{count(calls, 'model call')} paid, the rest given back"


async def close(run: run_pb2.Run, leaves: Leaves, *, several: bool = True) -> None:
    """Settle a run, which may have had several reservations, with the ledger; done again, it changes nothing more."""
    totals = list((await _close_reservation(run, leaves)).totals)
    for earlier in (await _reservations(run, leaves)).reservations if several else ():
        if earlier.reservation_id != run.reservation_id:  # work was done again, and the rest reserved anew
            totals += (await _reservation(earlier.reservation_id, leaves)).totals
    del run.result.totals[:]
    run.result.totals.extend(_by_model(totals))
    run.result.total_nano_usd = sum(total.cost_nano_usd for total in totals)
    run.result.total_tokens = sum(total.input_tokens + total.output_tokens for total in totals)


async def _close_reservation(run: run_pb2.Run, leaves: Leaves) -> governance_pb2.SettleResponse:
    request = governance_pb2.SettleRequest(
        request_id=step_id(run.run_id, f"settle {run.reservation_id}"), reservation_id=run.reservation_id
    )

    async def ask() -> governance_pb2.SettleResponse:
        return await leaves.governance.Settle(request)

    return await persistently(ask)


async def _reservations(run: run_pb2.Run, leaves: Leaves) -> governance_pb2.ListReservationsResponse:
    async def ask() -> governance_pb2.ListReservationsResponse:
        return await leaves.governance.ListReservations(governance_pb2.ListReservationsRequest(run_id=run.run_id))

    return await persistently(ask)


async def _reservation(reservation_id: str, leaves: Leaves) -> governance_pb2.GetReservationResponse:
    request = governance_pb2.GetReservationRequest(reservation_id=reservation_id)

    async def ask() -> governance_pb2.GetReservationResponse:
        return await leaves.governance.GetReservation(request)

    return await persistently(ask)


def _by_model(totals: Sequence[common_pb2.ModelTotal]) -> list[common_pb2.ModelTotal]:
    summed: dict[str, common_pb2.ModelTotal] = {}
    for total in totals:
        whole = summed.setdefault(total.model, common_pb2.ModelTotal(model=total.model))
        whole.calls += total.calls
        whole.input_tokens += total.input_tokens
        whole.output_tokens += total.output_tokens
        whole.cost_nano_usd += total.cost_nano_usd
        whole.usage_unknown_calls += total.usage_unknown_calls
    return [summed[model] for model in sorted(summed)]


async def release(run: run_pb2.Run, leaves: Leaves, reason: str) -> None:
    """Give back whatever a run that did not get to its end still holds; charges so far stand and are its cost."""
    if run.stage in _BEFORE_MONEY and run.attempt <= 1:
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
