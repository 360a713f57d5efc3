"""GovernanceService on the wire, a module for each of its subjects."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from djp.v1 import governance_pb2_grpc
from djp_governance.servicer.budgets import BudgetRpcs
from djp_governance.servicer.events import EventRpcs, Last
from djp_governance.servicer.reports import ReportRpcs
from djp_governance.servicer.reservations import ReservationRpcs

if TYPE_CHECKING:
    from djp_governance.parts import Parts


class GovernanceServicer(
    ReservationRpcs, BudgetRpcs, EventRpcs, ReportRpcs, governance_pb2_grpc.GovernanceServiceServicer
):
    """Serves a tenant what is its own and the global budget, and operators everything."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._draining = asyncio.Event()
        self._last = Last(parts.events.last_sequence)

    def end_watches(self) -> None:
        """End the streams of events, which have no end of their own."""
        self._draining.set()
