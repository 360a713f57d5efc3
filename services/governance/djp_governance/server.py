"""Opens the governance service: its ledger, its configuration, its servicer and its background work."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from djp.database import open_engine
from djp.mesh.server import Service
from djp.v1 import governance_pb2, governance_pb2_grpc
from djp_governance.adapters.budgets_file import open_budgets_file
from djp_governance.adapters.event_log import governance_log
from djp_governance.adapters.sql_budgets import SqlBudgets
from djp_governance.adapters.sql_closing import Closing
from djp_governance.adapters.sql_events import SqlEvents
from djp_governance.adapters.sql_ledger import SqlLedger
from djp_governance.adapters.sql_reports import SqlReports
from djp_governance.adapters.sql_retention import Retention
from djp_governance.adapters.tables import metadata
from djp_governance.parts import Parts, utc_now
from djp_governance.servicer import GovernanceServicer
from djp_governance.upkeep import Upkeep
from djp_governance.windows import zone_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from djp_governance.settings import GovernanceSettings

MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def open_service(settings: GovernanceSettings, now: Callable[[], datetime] = utc_now) -> AsyncIterator[Service]:
    """The service over the ledger in `settings.database_url`; `now` is its clock, aware of its zone.

    Raises InvalidInput for a limit or a zone that cannot be used, FailedPrecondition for a broken budgets file, and
    what `open_engine` raises.
    """
    zone = zone_of(settings.zone)
    file = open_budgets_file(settings)
    engine = await open_engine(settings.database_url, MIGRATIONS, metadata)
    try:
        ledger = SqlLedger(engine, zone)
        transactions = ledger.transactions
        events = SqlEvents(transactions)
        parts = Parts(
            ledger,
            SqlBudgets(transactions),
            events,
            SqlReports(engine),
            file,
            zone,
            now,
            settings.lease_s,
            settings.anomaly_rules(),
        )
        retention = Retention(
            transactions,
            zone,
            ledger_days=settings.retention_days,
            request_days=settings.request_retention_days,
        )
        log = governance_log(settings.event_log, events) if settings.event_log else None
        upkeep = Upkeep(parts, Closing(transactions), retention, log)
        descriptor = governance_pb2.DESCRIPTOR.services_by_name["GovernanceService"]
        servicer = GovernanceServicer(parts)
        yield Service(
            "governance",
            [(descriptor, servicer, governance_pb2_grpc.add_GovernanceServiceServicer_to_server)],
            background=[upkeep.run],
            on_drain=[servicer.end_watches],
        )
        await upkeep.close()
    finally:
        await engine.dispose()
