"""Reports against the simple model of the ledger: whatever was charged, in whatever order, they agree with it."""

from __future__ import annotations

from collections import Counter
from datetime import date

from hypothesis import HealthCheck, settings
from hypothesis.stateful import initialize, invariant

from djp_governance.adapters.sql_reports import SqlReports
from tests.governance.test_governance_model import TENANTS, LedgerMachine


class ReportMachine(LedgerMachine):
    """The ledger's machine, whose reports are read after every step."""

    @initialize()
    def open(self) -> None:
        super().open()
        self.reports = SqlReports(self.engine)

    @invariant()
    def reports_agree_with_the_model(self) -> None:
        for tenant in (*TENANTS, None):
            mine = [held for held in self.model.values() if held.calls and tenant in (held.tenant, None)]
            by_day: dict[str, Counter[str]] = {}
            for held in mine:
                sums = by_day.setdefault(held.windows[0].day.isoformat(), Counter())
                sums.update(runs=1, calls=len(held.calls), tokens=held.charged_tokens, cost=held.charged)
            rows = self.run(self.reports.rows(tenant, date.min, date.max))
            told = {
                row.day: Counter(
                    runs=row.runs, calls=row.calls, tokens=row.input_tokens + row.output_tokens, cost=row.cost
                )
                for row in rows
            }
            assert told == by_day
            totals = self.run(self.reports.totals(tenant, date.min, date.max))
            for whole in (True, False):
                some = [one for one in totals if whole == (not one.model)]
                assert sum(one.cost for one in some) == sum(held.charged for held in mine)
                assert sum(one.runs for one in some) == len(mine)


class TestReports(ReportMachine.TestCase):  # type: ignore[misc,valid-type]
    settings = settings(
        max_examples=12,
        stateful_step_count=15,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
