"""Opens the governance service: its ledger and its servicer."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from djp.database import open_engine
from djp.mesh.server import Service
from djp.v1 import governance_pb2, governance_pb2_grpc
from djp_governance.adapters.sql_ledger import SqlLedger
from djp_governance.adapters.tables import metadata
from djp_governance.servicer import GovernanceServicer, utc_now

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from djp_governance.settings import GovernanceSettings

MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def open_service(settings: GovernanceSettings, now: Callable[[], datetime] = utc_now) -> AsyncIterator[Service]:
    """The service over the ledger in `settings.database_url`; `now` is its clock, aware of its zone.

    Raises InvalidInput for a limit that cannot be counted, and what `open_engine` raises.
    """
    limits = settings.limits()
    engine = await open_engine(settings.database_url, MIGRATIONS, metadata)
    try:
        servicer = GovernanceServicer(SqlLedger(engine), limits, now)
        descriptor = governance_pb2.DESCRIPTOR.services_by_name["GovernanceService"]
        yield Service(
            "governance", [(descriptor, servicer, governance_pb2_grpc.add_GovernanceServiceServicer_to_server)]
        )
    finally:
        await engine.dispose()
