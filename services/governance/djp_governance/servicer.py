"""GovernanceService on the wire: protobuf to domain and back."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from djp.database import to_us
from djp.mesh.errors import NotFound
from djp.mesh.identity import current_identity
from djp.mesh.paging import page_token, read_page_token
from djp.mesh.times import to_timestamp
from djp.v1 import common_pb2, governance_pb2, governance_pb2_grpc
from djp_governance.model import Call, Order, RequestKey, RunLimits
from djp_governance.rules import scopes_of, windows_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import grpc

    from djp_governance.model import Limits, ModelTotal, Reservation, State, Statement, Window
    from djp_governance.ports import Ledger

    MutatingRequest = (
        governance_pb2.ReserveRequest
        | governance_pb2.ChargeRequest
        | governance_pb2.SettleRequest
        | governance_pb2.ReleaseRequest
    )

_PAGE_SIZE = 100

_STATE: dict[State, governance_pb2.ReservationState.ValueType] = {
    "held": governance_pb2.RESERVATION_STATE_HELD,
    "settled": governance_pb2.RESERVATION_STATE_SETTLED,
    "released": governance_pb2.RESERVATION_STATE_RELEASED,
}
_FROM_STATE = {wire: state for state, wire in _STATE.items()}
_PERIOD = {"day": governance_pb2.BUDGET_PERIOD_DAY, "month": governance_pb2.BUDGET_PERIOD_MONTH}


def utc_now() -> datetime:
    """The clock of the world."""
    return datetime.now(UTC)


class GovernanceServicer(governance_pb2_grpc.GovernanceServiceServicer):
    """Serves the calling tenant's reservations, its budget and the global one."""

    def __init__(self, ledger: Ledger, limits: Limits, now: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._limits = limits
        self._now = now

    async def Reserve(
        self,
        request: governance_pb2.ReserveRequest,
        context: grpc.aio.ServicerContext[governance_pb2.ReserveRequest, governance_pb2.ReserveResponse],
    ) -> governance_pb2.ReserveResponse:
        """Holds the order in all windows or in none."""
        order = Order(
            run_id=request.run_id.lower(),
            amount=request.amount_nano_usd,
            tokens=request.tokens,
            limits=RunLimits(
                nano_usd=request.run_limit_nano_usd if request.HasField("run_limit_nano_usd") else None,
                tokens=request.run_limit_tokens if request.HasField("run_limit_tokens") else None,
            ),
            tags=dict(sorted(request.tags.items())),
        )
        grant = await self._ledger.reserve(_key(request), order, self._limits, self._now())
        return governance_pb2.ReserveResponse(
            reservation=_reservation(grant.reservation),
            outcome=governance_pb2.RESERVE_OUTCOME_THROTTLED
            if grant.throttled
            else governance_pb2.RESERVE_OUTCOME_GRANTED,
            warnings=grant.warnings,
            pace_ms=grant.pace_ms,
        )

    async def Charge(
        self,
        request: governance_pb2.ChargeRequest,
        context: grpc.aio.ServicerContext[governance_pb2.ChargeRequest, governance_pb2.ChargeResponse],
    ) -> governance_pb2.ChargeResponse:
        """Records the calls that were not charged before."""
        calls = [_call(one) for one in request.calls]
        charged = await self._ledger.charge(_key(request), _text(request.reservation_id), calls, self._now())
        return governance_pb2.ChargeResponse(
            reservation=_reservation(charged.reservation), over_reservation=charged.over_reservation
        )

    async def Settle(
        self,
        request: governance_pb2.SettleRequest,
        context: grpc.aio.ServicerContext[governance_pb2.SettleRequest, governance_pb2.SettleResponse],
    ) -> governance_pb2.SettleResponse:
        """Ends the reservation of a run that got to its end."""
        closed = await self._ledger.close(_key(request), _text(request.reservation_id), "settled", self._now())
        return governance_pb2.SettleResponse(
            reservation=_reservation(closed.reservation), totals=_totals(closed.totals), total_nano_usd=closed.total
        )

    async def Release(
        self,
        request: governance_pb2.ReleaseRequest,
        context: grpc.aio.ServicerContext[governance_pb2.ReleaseRequest, governance_pb2.ReleaseResponse],
    ) -> governance_pb2.ReleaseResponse:
        """Ends the reservation of a run that did not get to its end."""
        reason = _text(request.reason)
        closed = await self._ledger.close(_key(request), _text(request.reservation_id), "released", self._now(), reason)
        return governance_pb2.ReleaseResponse(reservation=_reservation(closed.reservation), total_nano_usd=closed.total)

    async def GetReservation(
        self,
        request: governance_pb2.GetReservationRequest,
        context: grpc.aio.ServicerContext[governance_pb2.GetReservationRequest, governance_pb2.GetReservationResponse],
    ) -> governance_pb2.GetReservationResponse:
        """A reservation of the calling tenant, with its totals by model."""
        found: Statement = await self._ledger.statement(current_identity().tenant, _text(request.reservation_id))
        return governance_pb2.GetReservationResponse(
            reservation=_reservation(found.reservation), totals=_totals(found.totals)
        )

    async def ListReservations(
        self,
        request: governance_pb2.ListReservationsRequest,
        context: grpc.aio.ServicerContext[
            governance_pb2.ListReservationsRequest, governance_pb2.ListReservationsResponse
        ],
    ) -> governance_pb2.ListReservationsResponse:
        """The calling tenant's, newest first."""
        if request.state == governance_pb2.RESERVATION_STATE_LAPSED:
            return governance_pb2.ListReservationsResponse()  # no lease ends yet, so none has lapsed
        size = request.page_size or _PAGE_SIZE
        found = await self._ledger.reservations(
            current_identity().tenant,
            state=_FROM_STATE.get(request.state),
            run_id=_text(request.run_id).lower(),
            after=read_page_token(request.page_token, int, str),
            limit=size + 1,
        )
        more = ""
        if len(found) > size:
            last = found[size - 1]
            more = page_token(to_us(last.created_at), last.reservation_id)
        return governance_pb2.ListReservationsResponse(
            reservations=[_reservation(one) for one in found[:size]], next_page_token=more
        )

    async def GetBudget(
        self,
        request: governance_pb2.GetBudgetRequest,
        context: grpc.aio.ServicerContext[governance_pb2.GetBudgetRequest, governance_pb2.GetBudgetResponse],
    ) -> governance_pb2.GetBudgetResponse:
        """The global budget or the calling tenant's, with its windows now."""
        tenant = current_identity().tenant
        scope = f"tenant:{tenant}" if request.scope == "tenant" else request.scope
        if scope not in scopes_of(tenant):
            raise NotFound(
                f"scope: there is no budget {scope[:80]!r} that this tenant may see; ask for global or tenant",
                field="scope",
            )
        return governance_pb2.GetBudgetResponse(budget=(await self._budgets([scope]))[0])

    async def ListBudgets(
        self,
        request: governance_pb2.ListBudgetsRequest,
        context: grpc.aio.ServicerContext[governance_pb2.ListBudgetsRequest, governance_pb2.ListBudgetsResponse],
    ) -> governance_pb2.ListBudgetsResponse:
        """By scope: the global budget and the calling tenant's."""
        size, (after,) = request.page_size or _PAGE_SIZE, read_page_token(request.page_token, str) or ("",)
        scopes = [scope for scope in sorted(scopes_of(current_identity().tenant)) if scope > after]
        more = page_token(scopes[size - 1]) if len(scopes) > size else ""
        return governance_pb2.ListBudgetsResponse(budgets=await self._budgets(scopes[:size]), next_page_token=more)

    async def _budgets(self, scopes: Sequence[str]) -> list[governance_pb2.Budget]:
        keys = [key for key in windows_at(current_identity().tenant, self._now()) if key.scope in scopes]
        found = await self._ledger.windows(keys, self._limits) if keys else []
        return [
            governance_pb2.Budget(
                scope=scope,
                daily_nano_usd=self._limits.of(scope, "day"),
                monthly_nano_usd=self._limits.of(scope, "month"),
                origin=self._limits.origin(scope),
                windows=[_window(one) for one in found if one.key.scope == scope],
            )
            for scope in scopes
        ]


def _key(request: MutatingRequest) -> RequestKey:
    digest = sha256(type(request).__name__.encode() + request.SerializeToString(deterministic=True))
    return RequestKey(current_identity().tenant, request.request_id.lower(), digest.hexdigest())


def _text(given: str) -> str:
    """A text as databases can take it: Postgres knows no NUL."""
    return given.replace("\0", "\ufffd")


def _call(call: common_pb2.ModelCall) -> Call:
    """A call without usage stands at its bound; never below what its caller says it cost."""
    return Call(
        call_id=call.call_id.lower(),
        model=call.model,
        cost=max(call.cost_nano_usd, call.bound_nano_usd) if call.usage_unknown else call.cost_nano_usd,
        input_tokens=call.usage.input_tokens,
        output_tokens=call.usage.output_tokens,
        usage_unknown=call.usage_unknown,
    )


def _reservation(reservation: Reservation) -> governance_pb2.Reservation:
    return governance_pb2.Reservation(
        reservation_id=reservation.reservation_id,
        run_id=reservation.run_id,
        tenant=reservation.tenant,
        state=_STATE[reservation.state],
        reserved_nano_usd=reservation.reserved,
        reserved_tokens=reservation.reserved_tokens,
        charged_nano_usd=reservation.charged,
        charged_tokens=reservation.charged_tokens,
        created_at=to_timestamp(reservation.created_at),
        closed_at=to_timestamp(reservation.closed_at) if reservation.closed_at else None,
        tags=reservation.tags,
    )


def _totals(totals: Iterable[ModelTotal]) -> list[common_pb2.ModelTotal]:
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


def _window(window: Window) -> governance_pb2.BudgetWindow:
    return governance_pb2.BudgetWindow(
        scope=window.key.scope,
        period=_PERIOD[window.key.period],
        starts_at=to_timestamp(window.key.starts_at),
        resets_at=to_timestamp(window.key.resets_at),
        limit_nano_usd=window.limit,
        reserved_nano_usd=window.reserved,
        spent_nano_usd=window.spent,
        reserved_tokens=window.reserved_tokens,
        spent_tokens=window.spent_tokens,
    )
