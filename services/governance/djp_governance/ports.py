"""What governance needs of a ledger. Every change is one transaction and answers the same request the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date, datetime

    from djp_governance.events import Event, Kind, NewEvent
    from djp_governance.limits import Budget, Limits
    from djp_governance.model import (
        Call,
        Charged,
        Grant,
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

    The changes with a key may be repeated: the same key gives the first answer and changes nothing. They raise
    RequestIdReused when the id came with another body, and NotFound for another tenant's reservation.
    """

    async def reserve(self, key: RequestKey, order: Order, limits: Limits, now: datetime) -> Grant:
        """Hold the order in all windows of the moment, or in none. What was set at run time wins over `limits`.

        Raises BudgetExceeded (nothing is kept but an event: the same request may be granted later), RunBudgetExceeded,
        InvalidInput.
        """

    async def charge(self, key: RequestKey, reservation_id: str, calls: Sequence[Call], now: datetime) -> Charged:
        """Record what calls cost, each call_id of the tenant once ever, in the windows of the reservation.

        What the reservation does not cover is recorded all the same, a charge after its end too. What a lapse has
        charged at its bound is put right. Raises InvalidInput, FailedPrecondition (a window cannot count that far).
        """

    async def extend(
        self, key: RequestKey, reservation_id: str, open_calls: Sequence[Call], default_s: float, now: datetime
    ) -> Reservation:
        """Renew the lease, by as long as the run asked for or else `default_s`, and note the calls under way.

        A reservation that has ended stays as it is; the answer says how it ended.
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

    async def lapse(self, now: datetime) -> Sequence[Reservation]:
        """End every held reservation whose lease is over: its unfinished calls are charged at their bound, the rest
        goes back. Of several processes each reservation is taken by one."""


class BudgetStore(Protocol):
    """Limits that are set at run time, and the windows as they are."""

    async def set(self, key: RequestKey, scope: str, budget: Budget, event: NewEvent, now: datetime) -> Budget:
        """Set all limits of a scope and record the event; may be repeated."""

    async def delete(self, key: RequestKey, scope: str, event: NewEvent, now: datetime) -> None:
        """Take back what was set; may be repeated. Raises NotFound where nothing was."""

    async def scopes(self, month: date, after: str, limit: int) -> Sequence[str]:
        """The scopes behind `after` that have limits of their own or were used in the month, by name."""

    async def windows(self, keys: Sequence[WindowKey], limits: Limits) -> tuple[Sequence[Window], Mapping[str, Budget]]:
        """The windows as they are now, in the order of the keys, empty ones where nothing was reserved yet; and of
        their scopes what was set at that instant."""


class EventStore(Protocol):
    """Events, each recorded once. `tenant` None is an operator, who sees all."""

    async def append(self, *new: NewEvent) -> None:
        """Record the events whose keys are new."""

    async def after(self, sequence: int, tenant: str | None, limit: int) -> Sequence[Event]:
        """The events that came after one, in their order."""

    async def last_sequence(self) -> int:
        """Of the newest event; 0 where there is none."""

    async def newest(
        self,
        tenant: str | None,
        *,
        kind: Kind | None,
        since: datetime | None,
        until: datetime | None,
        before: int | None,
        limit: int,
    ) -> Sequence[Event]:
        """Events of [since, until), newest first, from the one before the sequence `before` on."""
