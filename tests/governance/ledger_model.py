"""The plain model of governance: the rules of the ledger, and what lists, reports and anomalies make of it."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from math import isqrt
from typing import TYPE_CHECKING, Any

from djp.v1 import governance_pb2
from tests.governance.ledger_books import Books
from tests.governance.ledger_words import ANOMALY, REJECTED, Event, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.governance.ledger_words import Caller, Paid, Place

Row = tuple[str, date, str, str, str]
"""What reports sum by: tenant, day, model (none: over all), workflow, preset."""
SUMS = ("runs", "calls", "input_tokens", "output_tokens", "cost_nano_usd")


class Model(Books):
    """All that governance has been told, and what it answers."""

    def reservations(self, tenant: str, state: int = 0, run_id: str = "") -> list[governance_pb2.Reservation]:
        """The tenant's, newest first."""
        mine = [one for one in self.held.values() if one.tenant == tenant and state in (0, one.state)]
        mine = [one for one in mine if run_id in ("", one.run_id)]
        return [one.told() for one in sorted(mine, key=lambda one: (one.created, one.name), reverse=True)]

    def budgets(self, caller: Caller) -> list[governance_pb2.Budget]:
        """By scope: those that the caller sees in a list."""
        scopes = {"global", f"tenant:{caller.tenant}"}
        if caller.role != "tenant":
            month = self.today.replace(day=1)
            scopes |= {*self.named, *self.chosen, *(scope for scope, used in self.in_use if used == month)}
        return [self.budget(scope) for scope in sorted(scopes)]

    def seen_events(self, caller: Caller) -> list[Event]:
        """Those that the caller may see."""
        return [one for one in self.events.values() if caller.role != "tenant" or one.tenant == caller.tenant]

    def reject_file(self, content: str) -> None:
        """A broken budgets file is told once a day and content."""
        self.tell(f"{REJECTED}|{self.now:%Y-%m-%d}|{content}", Event(self.now, REJECTED, "global", ""))

    def tell_anomalies(self) -> None:
        """Those of today and of yesterday."""
        for one in self._anomalies("", 2):
            event = Event(self.now, ANOMALY, f"tenant:{one.tenant}", one.tenant, about=one.day)
            self.tell(f"{ANOMALY}|{one.tenant}|{one.day}", event)

    def _listreservations(self, caller: Caller, request: Any, _: Any) -> Any:
        found = self.reservations(caller.tenant, request.state, request.run_id)
        return governance_pb2.ListReservationsResponse(reservations=found)

    def _listbudgets(self, caller: Caller, _request: Any, _: Any) -> Any:
        return governance_pb2.ListBudgetsResponse(budgets=self.budgets(caller))

    def _listanomalies(self, caller: Caller, request: Any, _: Any) -> Any:
        tenant = self._visible(caller, request.tenant)
        return governance_pb2.ListAnomaliesResponse(anomalies=self._anomalies(tenant, request.days))

    def _report(self, caller: Caller, request: Any, _: Any) -> Any:
        tenant = self._visible(caller, request.tenant)
        first = self._first(request.days)
        rows: dict[tuple[int, str, str, str], Counter[str]] = {}
        totals: dict[tuple[str, str], Counter[str]] = {}
        for (of, day, model, workflow, preset), sums in self._sums().items():
            if tenant in ("", of) and first <= day <= self.today:
                totals.setdefault((of, model), Counter()).update(sums)
                if model:
                    rows.setdefault((-day.toordinal(), model, workflow, preset), Counter()).update(sums)
        cost = {of: sums["cost_nano_usd"] for (of, model), sums in totals.items() if not model}
        by_cost = sorted(
            totals, key=lambda one: (-cost[one[0]], one[0], bool(one[1]), -totals[one]["cost_nano_usd"], one)
        )
        return governance_pb2.ReportResponse(
            rows=[
                governance_pb2.ReportRow(
                    tenant=tenant,
                    day=date.fromordinal(-key[0]).isoformat(),
                    model=key[1],
                    workflow=key[2],
                    preset=key[3],
                    **rows[key],
                )
                for key in sorted(rows)
                if rows[key]["calls"] or rows[key]["runs"]
            ],
            totals=[
                governance_pb2.ReportRow(tenant=of, model=model, **totals[of, model])
                for of, model in by_cost
                if totals[of, model]["calls"] or totals[of, model]["runs"]
            ],
            windows=self.budget(f"tenant:{tenant}" if tenant else "global").windows,
            anomalies=self._anomalies(tenant, request.days),
        )

    def _sums(self) -> dict[Row, Counter[str]]:
        """All that was ever charged. A run counts where its first call did, once a model and once over all."""
        sums: dict[Row, Counter[str]] = {}
        for held in (*self.held.values(), *self.gone):
            for call in held.calls.values():
                for model in ("", call.model):
                    sums.setdefault(_row(held.tenant, model, held.place), Counter()).update(_of(call))
        counted = [(tenant, model, place) for (tenant, _, model), (place, _) in self.counted.items()]
        for tenant, model, place in (*counted, *self.counted_and_gone):
            sums.setdefault(_row(tenant, model, place), Counter()).update(runs=1)
        return sums

    def _anomalies(self, tenant: str, days: int) -> Sequence[governance_pb2.Anomaly]:
        """Days that are above the mean of the 28 days before, from the first of them with a call on, by `least_nano`
        and by `sigma` of their deviations, which are at least a tenth of the mean."""
        found = []
        rules, first = self.rules, self._first(days)
        for (of, day), (_, spent) in self._days(tenant):
            before = {one: sums for (name, one), sums in self._days(of) if 1 <= (day - one).days <= 28}
            calls = sum(one for one, _ in before.values())
            if day < first or not before or calls < rules.least_calls:
                continue
            length = (day - min(before)).days
            mean = sum(cost for _, cost in before.values()) // length
            square = sum((cost - mean) ** 2 for _, cost in before.values()) + (length - len(before)) * mean**2
            deviation = max(isqrt(square // length), mean // 10, 1)
            if spent - mean >= max(rules.least_nano, rules.sigma * deviation, 1):
                found.append(
                    governance_pb2.Anomaly(
                        tenant=of,
                        day=day.isoformat(),
                        spent_nano_usd=spent,
                        baseline_mean_nano_usd=mean,
                        baseline_stddev_nano_usd=isqrt(square // length),
                        sigmas=(spent - mean) / deviation,
                        baseline_events=calls,
                    )
                )
        return sorted(
            found, key=lambda one: (_backwards(one.day), one.baseline_mean_nano_usd - one.spent_nano_usd, one.tenant)
        )

    def _days(self, tenant: str) -> Iterator[tuple[tuple[str, date], tuple[int, int]]]:
        """The calls and the cost of each tenant's days until today."""
        days: dict[tuple[str, date], Counter[str]] = {}
        for (of, day, model, _, _), sums in self._sums().items():
            if not model and tenant in ("", of) and day <= self.today and sums["calls"]:
                days.setdefault((of, day), Counter()).update(sums)
        for key, sums in days.items():
            yield key, (sums["calls"], sums["cost_nano_usd"])

    def _first(self, days: int) -> date:
        return self.today - timedelta(days=(days or 30) - 1)

    def _visible(self, caller: Caller, asked: str) -> str:
        """Whose things the caller is shown; empty: everybody's."""
        if caller.role == "tenant" and asked not in ("", caller.tenant):
            raise refusal("NOT_FOUND", "tenant")
        return asked or (caller.tenant if caller.role == "tenant" else "")


def _row(tenant: str, model: str, place: Place) -> Row:
    day, workflow, preset = place
    return tenant, day, model, workflow, preset


def _of(call: Paid) -> dict[str, int]:
    return dict(zip(SUMS, (0, 1, call.input_tokens, call.output_tokens, call.cost), strict=True))


def _backwards(day: str) -> int:
    return -date.fromisoformat(day).toordinal()
