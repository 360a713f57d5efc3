"""What governance needs of a ledger. Every change is one transaction and answers the same request the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from djp_governance.model import (
        Call,
        Charged,
        Grant,
        Limits,
        Order,
        RequestKey,
        Reservation,
        State,
        Statement,
        Window,
        WindowKey,
    )


class Ledger(Protocol):
    """Money held, spent and given back.

    The four changes may be repeated: the same key gives the first answer and changes nothing. They raise
    RequestIdReused when the id came with another body, and NotFound for another tenant's reservation.
    """

    async def reserve(self, key: RequestKey, order: Order, limits: Limits, now: datetime) -> Grant:
        """Hold the order in all windows of the moment, or in none.

        Raises BudgetExceeded (nothing is kept: the same request may be granted later), RunBudgetExceeded,
        InvalidInput.
        """

    async def charge(self, key: RequestKey, reservation_id: str, calls: Sequence[Call], now: datetime) -> Charged:
        """Record what calls cost, each call_id of the tenant once ever, in the windows of the reservation.

        What the reservation does not cover is recorded all the same, a charge after its end too.
        Raises InvalidInput, FailedPrecondition (a window cannot count that far).
        """

    async def close(
        self, key: RequestKey, reservation_id: str, state: State, now: datetime, reason: str = ""
    ) -> Statement:
        """Give back what is held and end the reservation as settled or released; one that has ended stays as it is."""

    async def statement(self, tenant: str, reservation_id: str) -> Statement:
        """A reservation and its totals. Raises NotFound."""

    async def reservations(
        self, tenant: str, *, state: State | None, run_id: str, after: tuple[int, str] | None, limit: int
    ) -> Sequence[Reservation]:
        """The tenant's reservations, newest first, from the one behind `after` (created_us, reservation_id) on."""

    async def windows(self, keys: Sequence[WindowKey], limits: Limits) -> Sequence[Window]:
        """The windows as they are now, in the order of the keys; empty ones where nothing was reserved yet."""
