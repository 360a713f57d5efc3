"""The RPCs of reports: what was spent, and the days that stand out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.v1 import governance_pb2
from djp_governance.anomalies import find_anomalies
from djp_governance.parts import visible_tenant
from djp_governance.reports import first_of
from djp_governance.servicer.wire import clean, to_window
from djp_governance.windows import day_of, windows_of

if TYPE_CHECKING:
    import grpc

    from djp_governance.anomalies import Anomaly
    from djp_governance.parts import Parts
    from djp_governance.reports import Sums


class ReportRpcs:
    """Serves a tenant what it spent itself, and operators everybody."""

    _parts: Parts

    async def Report(
        self,
        request: governance_pb2.ReportRequest,
        context: grpc.aio.ServicerContext[governance_pb2.ReportRequest, governance_pb2.ReportResponse],
    ) -> governance_pb2.ReportResponse:
        """By day, model, workflow and preset; totals by tenant, over all models and by model; windows as they are now.

        Rows over everybody have no tenant, and the windows are those of the global budget.
        """
        parts, tenant = self._parts, visible_tenant(clean(request.tenant))
        today = day_of(parts.now(), parts.zone)
        first = first_of(request.days, today)
        scope = "global" if tenant is None else f"tenant:{tenant}"
        async with parts.reports.reader() as reader:
            rows = await reader.rows(tenant, first, today)
            totals = await reader.totals(tenant, first, today)
            windows = await reader.windows(windows_of([scope], today, parts.zone), parts.limits)
            anomalies = await find_anomalies(reader, tenant, first, today, parts.anomaly_rules)
        return governance_pb2.ReportResponse(
            rows=map(_to_row, rows),
            totals=map(_to_row, totals),
            windows=map(to_window, windows),
            anomalies=map(_to_anomaly, anomalies),
        )

    async def ListAnomalies(
        self,
        request: governance_pb2.ListAnomaliesRequest,
        context: grpc.aio.ServicerContext[governance_pb2.ListAnomaliesRequest, governance_pb2.ListAnomaliesResponse],
    ) -> governance_pb2.ListAnomaliesResponse:
        """Newest first."""
        parts, tenant = self._parts, visible_tenant(clean(request.tenant))
        today = day_of(parts.now(), parts.zone)
        async with parts.reports.reader() as reader:
            found = await find_anomalies(reader, tenant, first_of(request.days, today), today, parts.anomaly_rules)
        return governance_pb2.ListAnomaliesResponse(anomalies=map(_to_anomaly, found))


def _to_row(sums: Sums) -> governance_pb2.ReportRow:
    return governance_pb2.ReportRow(
        tenant=sums.tenant,
        day=sums.day,
        model=sums.model,
        workflow=sums.workflow,
        preset=sums.preset,
        runs=sums.runs,
        calls=sums.calls,
        input_tokens=sums.input_tokens,
        output_tokens=sums.output_tokens,
        cost_nano_usd=sums.cost,
    )


def _to_anomaly(anomaly: Anomaly) -> governance_pb2.Anomaly:
    return governance_pb2.Anomaly(
        tenant=anomaly.tenant,
        day=anomaly.day.isoformat(),
        spent_nano_usd=anomaly.spent,
        baseline_mean_nano_usd=anomaly.mean,
        baseline_stddev_nano_usd=anomaly.stddev,
        sigmas=anomaly.sigmas,
        baseline_events=min(anomaly.events, 2**31 - 1),
    )
