"""The RPCs that hold money, spend it and give it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.database import to_us
from djp.mesh.identity import current_identity
from djp.mesh.paging import page_token, read_page_token
from djp.v1 import governance_pb2
from djp_governance.model import Order, RunLimits
from djp_governance.servicer.wire import (
    FROM_STATE,
    PAGE_SIZE,
    clean,
    from_call,
    from_open_call,
    request_key,
    to_reservation,
    to_totals,
)

if TYPE_CHECKING:
    import grpc

    from djp_governance.model import Statement
    from djp_governance.parts import Parts


class ReservationRpcs:
    """Serves the calling tenant's reservations."""

    _parts: Parts

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
            tags={clean(key): clean(value) for key, value in sorted(request.tags.items())},
            lease_s=request.lease.seconds + request.lease.nanos / 1e9 if self._parts.lease_s else 0,
        )
        grant = await self._parts.ledger.reserve(request_key(request), order, self._parts.limits, self._parts.now())
        return governance_pb2.ReserveResponse(
            reservation=to_reservation(grant.reservation),
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
        calls = [from_call(one) for one in request.calls]
        charged = await self._parts.ledger.charge(
            request_key(request), clean(request.reservation_id), calls, self._parts.now()
        )
        return governance_pb2.ChargeResponse(
            reservation=to_reservation(charged.reservation), over_reservation=charged.over_reservation
        )

    async def Settle(
        self,
        request: governance_pb2.SettleRequest,
        context: grpc.aio.ServicerContext[governance_pb2.SettleRequest, governance_pb2.SettleResponse],
    ) -> governance_pb2.SettleResponse:
        """Ends the reservation of a run that got to its end."""
        closed = await self._parts.ledger.close(
            request_key(request), clean(request.reservation_id), "settled", self._parts.now()
        )
        return governance_pb2.SettleResponse(
            reservation=to_reservation(closed.reservation), totals=to_totals(closed.totals), total_nano_usd=closed.total
        )

    async def Release(
        self,
        request: governance_pb2.ReleaseRequest,
        context: grpc.aio.ServicerContext[governance_pb2.ReleaseRequest, governance_pb2.ReleaseResponse],
    ) -> governance_pb2.ReleaseResponse:
        """Ends the reservation of a run that did not get to its end."""
        reason = clean(request.reason)
        closed = await self._parts.ledger.close(
            request_key(request), clean(request.reservation_id), "released", self._parts.now(), reason
        )
        return governance_pb2.ReleaseResponse(
            reservation=to_reservation(closed.reservation), total_nano_usd=closed.total
        )

    async def GetReservation(
        self,
        request: governance_pb2.GetReservationRequest,
        context: grpc.aio.ServicerContext[governance_pb2.GetReservationRequest, governance_pb2.GetReservationResponse],
    ) -> governance_pb2.GetReservationResponse:
        """A reservation of the calling tenant, with its totals by model."""
        found: Statement = await self._parts.ledger.statement(current_identity().tenant, clean(request.reservation_id))
        return governance_pb2.GetReservationResponse(
            reservation=to_reservation(found.reservation), totals=to_totals(found.totals)
        )

    async def ListReservations(
        self,
        request: governance_pb2.ListReservationsRequest,
        context: grpc.aio.ServicerContext[
            governance_pb2.ListReservationsRequest, governance_pb2.ListReservationsResponse
        ],
    ) -> governance_pb2.ListReservationsResponse:
        """The calling tenant's, newest first."""
        size = request.page_size or PAGE_SIZE
        found = await self._parts.ledger.reservations(
            current_identity().tenant,
            state=FROM_STATE.get(request.state),
            run_id=clean(request.run_id).lower(),
            after=read_page_token(request.page_token, int, str),
            limit=size + 1,
        )
        more = ""
        if len(found) > size:
            last = found[size - 1]
            more = page_token(to_us(last.created_at), last.reservation_id)
        return governance_pb2.ListReservationsResponse(
            reservations=[to_reservation(one) for one in found[:size]], next_page_token=more
        )

    async def Extend(
        self,
        request: governance_pb2.ExtendRequest,
        context: grpc.aio.ServicerContext[governance_pb2.ExtendRequest, governance_pb2.ExtendResponse],
    ) -> governance_pb2.ExtendResponse:
        """Renews the lease; the calls under way replace those of the Extend before."""
        extended = await self._parts.ledger.extend(
            request_key(request),
            clean(request.reservation_id),
            [from_open_call(one) for one in request.open_calls],
            self._parts.lease_s,
            self._parts.now(),
        )
        return governance_pb2.ExtendResponse(reservation=to_reservation(extended))
