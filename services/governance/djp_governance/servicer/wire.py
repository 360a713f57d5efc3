"""Between protobuf and the words of the ledger."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from djp.mesh.identity import current_identity
from djp.mesh.times import to_timestamp
from djp.v1 import common_pb2, governance_pb2
from djp_governance.model import Call, RequestKey

if TYPE_CHECKING:
    from collections.abc import Iterable

    from djp_governance.model import ModelTotal, Reservation, State, Window

    MutatingRequest = (
        governance_pb2.ReserveRequest
        | governance_pb2.ChargeRequest
        | governance_pb2.SettleRequest
        | governance_pb2.ReleaseRequest
        | governance_pb2.ExtendRequest
        | governance_pb2.SetBudgetRequest
        | governance_pb2.DeleteBudgetRequest
    )

PAGE_SIZE = 100

STATE: dict[State, governance_pb2.ReservationState.ValueType] = {
    "held": governance_pb2.RESERVATION_STATE_HELD,
    "settled": governance_pb2.RESERVATION_STATE_SETTLED,
    "released": governance_pb2.RESERVATION_STATE_RELEASED,
    "lapsed": governance_pb2.RESERVATION_STATE_LAPSED,
}
FROM_STATE = {wire: state for state, wire in STATE.items()}
PERIOD = {"day": governance_pb2.BUDGET_PERIOD_DAY, "month": governance_pb2.BUDGET_PERIOD_MONTH}


def request_key(request: MutatingRequest) -> RequestKey:
    """What makes a request of the calling tenant itself."""
    digest = sha256(type(request).__name__.encode() + request.SerializeToString(deterministic=True))
    return RequestKey(current_identity().tenant, request.request_id.lower(), digest.hexdigest())


def clean(given: str) -> str:
    """A text as databases can take it: Postgres knows no NUL."""
    return given.replace("\0", "\ufffd")


def from_call(call: common_pb2.ModelCall) -> Call:
    """A call without usage stands at its bound; never below what its caller says it cost."""
    return Call(
        call_id=call.call_id.lower(),
        model=call.model,
        cost=max(call.cost_nano_usd, call.bound_nano_usd) if call.usage_unknown else call.cost_nano_usd,
        input_tokens=call.usage.input_tokens,
        output_tokens=call.usage.output_tokens,
        usage_unknown=call.usage_unknown,
    )


def from_open_call(call: common_pb2.ModelCall) -> Call:
    """A call under way stands at its bound until it is charged."""
    return Call(
        call_id=call.call_id.lower(),
        model=call.model,
        cost=max(call.cost_nano_usd, call.bound_nano_usd),
        input_tokens=call.usage.input_tokens,
        output_tokens=call.usage.output_tokens,
        usage_unknown=True,
    )


def to_reservation(reservation: Reservation) -> governance_pb2.Reservation:
    """A reservation on the wire."""
    return governance_pb2.Reservation(
        reservation_id=reservation.reservation_id,
        run_id=reservation.run_id,
        tenant=reservation.tenant,
        state=STATE[reservation.state],
        reserved_nano_usd=reservation.reserved,
        reserved_tokens=reservation.reserved_tokens,
        charged_nano_usd=reservation.charged,
        charged_tokens=reservation.charged_tokens,
        created_at=to_timestamp(reservation.created_at),
        lease_expires_at=to_timestamp(reservation.lease_expires_at) if reservation.lease_expires_at else None,
        closed_at=to_timestamp(reservation.closed_at) if reservation.closed_at else None,
        tags=reservation.tags,
    )


def to_totals(totals: Iterable[ModelTotal]) -> list[common_pb2.ModelTotal]:
    """Totals on the wire."""
    return [
        common_pb2.ModelTotal(
            model=total.model,
            calls=total.calls,
            input_tokens=total.input_tokens,
            output_tokens=total.output_tokens,
            cost_nano_usd=total.cost,
            usage_unknown_calls=total.unknown_calls,
        )
        for total in totals
    ]


def to_window(window: Window) -> governance_pb2.BudgetWindow:
    """A window on the wire."""
    return governance_pb2.BudgetWindow(
        scope=window.key.scope,
        period=PERIOD[window.key.period],
        starts_at=to_timestamp(window.key.starts_at),
        resets_at=to_timestamp(window.key.resets_at),
        limit_nano_usd=window.limit,
        reserved_nano_usd=window.reserved,
        spent_nano_usd=window.spent,
        limit_tokens=window.limit_tokens,
        reserved_tokens=window.reserved_tokens,
        spent_tokens=window.spent_tokens,
    )
