"""A year of 10 million charges of 1,000 tenants on Postgres: what reports, calls and retention cost in it.

Asked is a governance server of its own, through its RPCs: the report over everybody's last 30 days, over one tenant's
and over everybody's whole year, each with its anomalies, and how much the server grew by them all. The peer is a scan
of the ledger for the totals of the year. Then what one call costs (Reserve, Charge, Settle, one client) in this ledger
next to an empty one, in turns; the plans of all that the ledger asks its database for a run; and what it costs to take
the oldest month away, and a Charge meanwhile. Postgres is as it comes, 128 MB of shared buffers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import grpc
import psycopg
import sqlalchemy as sa

from djp.database import open_engine
from djp.v1 import common_pb2, governance_pb2
from djp_governance.adapters.sql_ledger import SqlLedger
from djp_governance.adapters.tables import metadata
from djp_governance.limits import Budget, Limits
from djp_governance.model import Call, Order, RequestKey, RunLimits
from djp_governance.server import MIGRATIONS
from tests.governance.ledger_audit import audit
from tests.governance.ledger_fleet import Fleet
from tests.governance.ledger_postgres import new_postgres
from tests.governance.ledger_year import TABLES, fill, first_day

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OPERATOR = (("djp-tenant", "operations"), ("djp-role", "operator"))
WARM = 50
STEPS = ("Reserve", "Charge", "Settle")
SCAN = """
    SELECT r.tenant, c.model, count(DISTINCT r.run_id), count(*), sum(input_tokens), sum(output_tokens), sum(cost_nano)
    FROM calls c JOIN reservations r USING (reservation_id) WHERE r.day >= :first
    GROUP BY GROUPING SETS ((r.tenant, c.model), (r.tenant))"""
OLD = """
    SELECT EXISTS (SELECT 1 FROM reservations WHERE day < :before)
        OR EXISTS (SELECT 1 FROM windows WHERE starts_on < :before)"""
OLD_CALLS = "SELECT count(*) FROM calls JOIN reservations USING (reservation_id) WHERE day < :before"


class Ledger:
    """A ledger, its server and a connection to look into it."""

    def __init__(self, url: str, folder: str) -> None:
        self.fleet = Fleet(url, folder, servers=1, crews=0)
        self._engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        """End the server."""
        self._engine.dispose()
        self.fleet.close()

    def query(self, statement: str, **values: Any) -> Sequence[Any]:
        """The rows of a statement."""
        with self._engine.connect() as connection:
            return connection.execute(sa.text(statement), values).all()

    def run(self, tenant: str) -> dict[str, float]:
        """A run of one call; the seconds of each step."""
        name, took = str(uuid.uuid4()), {}
        requests: dict[str, Callable[[str], Any]] = {
            "Reserve": lambda _: governance_pb2.ReserveRequest(
                request_id=str(uuid.uuid4()), run_id=name, amount_nano_usd=1000, tags={"workflow": "flow-0"}
            ),
            "Charge": lambda held: governance_pb2.ChargeRequest(
                request_id=str(uuid.uuid4()),
                reservation_id=held,
                calls=[
                    common_pb2.ModelCall(
                        call_id=str(uuid.uuid4()),
                        stage=common_pb2.STAGE_DEBATE,
                        model="provider/model-0",
                        cost_nano_usd=900,
                        attempt=1,
                    )
                ],
            ),
            "Settle": lambda held: governance_pb2.SettleRequest(request_id=str(uuid.uuid4()), reservation_id=held),
        }
        held = ""
        for step in STEPS:
            request = requests[step](held)
            began = time.perf_counter()
            answer = getattr(self.fleet.stub, step)(request, metadata=(("djp-tenant", tenant),))
            took[step] = time.perf_counter() - began
            held = answer.reservation.reservation_id
        return took

    def report(self, tenant: str, days: int) -> tuple[float, int]:
        """Seconds of a report, and its rows."""
        request = governance_pb2.ReportRequest(tenant=tenant, days=days)
        began = time.perf_counter()
        answer = self.fleet.stub.Report(request, metadata=OPERATOR)
        return time.perf_counter() - began, len(answer.rows) + len(answer.totals)

    def rss_mib(self) -> float:
        """What the server has in memory."""
        told = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self.fleet.servers[0].pid)], capture_output=True, check=True
        )
        return int(told.stdout) / 1024


async def make_tables(url: str) -> None:
    """As the service makes them."""
    await (await open_engine(url, MIGRATIONS, metadata)).dispose()


async def statements_of_a_run(url: str) -> dict[str, Any]:
    """What the ledger asks its database for a run, once each, with parameters."""
    asked: dict[str, Any] = {}

    execute = psycopg.Cursor.execute

    def note(cursor: Any, statement: Any, values: Any = None, **more: Any) -> Any:
        asked.setdefault(statement.decode() if isinstance(statement, bytes) else str(statement), values)
        return execute(cursor, statement, values, **more)

    engine = await open_engine(url, MIGRATIONS, metadata)
    ledger, now = SqlLedger(engine), datetime.now(UTC)

    def key() -> RequestKey:
        return RequestKey("tenant-7", str(uuid.uuid4()), "0" * 64)

    order = Order(str(uuid.uuid4()), 1000, 1000, RunLimits(), {"workflow": "flow-0"}, 60)
    call = Call(str(uuid.uuid4()), "provider/model-1", 900, 500, 400)
    with patch.object(psycopg.Cursor, "execute", note):
        granted = await ledger.reserve(key(), order, Limits(Budget(), Budget()), now)
        name = granted.reservation.reservation_id
        await ledger.extend(key(), name, [call], 60, now)
        await ledger.charge(key(), name, [call], now)
        await ledger.close(key(), name, "settled", now)
    await engine.dispose()
    told = {
        statement: values
        for statement, values in asked.items()
        if re.match("SELECT|INSERT|UPDATE|DELETE|WITH", statement)
    }
    if len(told) < 10:
        raise RuntimeError(f"of a run's statements only {len(told)} were seen")
    return told


def plans(url: str) -> int:
    """Print the plan of each statement of a run in a line; how many of them scan a whole table."""
    scans = 0
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    for statement, values in asyncio.run(statements_of_a_run(url)).items():
        with engine.connect() as connection:
            plan = [row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", values)]
        nodes = [re.sub(r"^\s*(->)?\s*|\s*\(cost.*", "", line) for line in plan if "(cost" in line]
        cost = re.search(r"cost=[\d.]+\.\.([\d.]+)", plan[0])
        scans += sum(f"Seq Scan on {table}" in node for table in TABLES for node in nodes)
        print(f"  {cost[1] if cost else '?':>9}  {' <- '.join(nodes)}")
    engine.dispose()
    return scans


def p50_ms(runs: Sequence[dict[str, float]], step: str) -> float:
    """Median milliseconds of a step."""
    return round(statistics.median(run[step] for run in runs) * 1000, 2)


def measure_reports(ledger: Ledger, days: int, first: date) -> dict[str, float]:
    """The reports, the server's growth, and the scan that they are instead of."""
    figures: dict[str, float] = {}
    ledger.report("tenant-1", 1)
    before = ledger.rss_mib()
    for name, tenant, back in (
        ("everybody_30_days", "", 30),
        ("tenant_30_days", "tenant-1", 30),
        ("everybody_year", "", days),
    ):
        found = [ledger.report(tenant, back) for _ in range(5)]
        figures |= {f"{name}_s": round(statistics.median(took for took, _ in found), 3), f"{name}_rows": found[0][1]}
        print(f"report {name}: {figures[f'{name}_s']:.3f} s, {found[0][1]:,} rows", flush=True)
    figures |= {"server_mib": round(before, 1), "server_grew_mib": round(ledger.rss_mib() - before, 1)}
    print(f"the server had {before:.0f} MiB and has {figures['server_grew_mib']:+.0f}")
    began = time.perf_counter()
    ledger.query(SCAN, first=first.isoformat())
    figures["scan_of_the_ledger_s"] = round(time.perf_counter() - began, 3)
    print(f"the totals by a scan of the ledger: {figures['scan_of_the_ledger_s']:.3f} s", flush=True)
    return figures


def measure_calls(year: Ledger, empty: Ledger, turns: int, chance: random.Random) -> dict[str, float]:
    """A run's steps in both ledgers, in turns."""
    figures: dict[str, float] = {}
    took: dict[str, list[dict[str, float]]] = {"year": [], "empty": []}
    tenants = [f"tenant-{number}" for number in chance.sample(range(1000), WARM)]
    for turn in range(WARM + turns):  # the first run of a tenant in an empty ledger makes its windows
        for name, ledger in (("year", year), ("empty", empty)):
            run = ledger.run(tenants[turn % WARM])
            if turn >= WARM:
                took[name].append(run)
    for step in STEPS:
        figures |= {f"{step.lower()}_{name}_p50_ms": p50_ms(took[name], step) for name in took}
        print(
            f"{step}: {p50_ms(took['year'], step)} ms, in an empty ledger {p50_ms(took['empty'], step)} ms", flush=True
        )
    return figures


def measure_retention(year: Ledger, today: date, chance: random.Random) -> dict[str, float]:
    """Take the first month away, with a server that keeps the others, and go on with runs meanwhile."""
    second = (first_day(today) + timedelta(days=32)).replace(day=1)
    calls = year.query(OLD_CALLS, before=f"{second}")[0][0]
    year.fleet.environment["DJP_GOVERNANCE_RETENTION_DAYS"] = str((today - second).days)
    year.fleet.kill_server(0)
    deadline = time.monotonic() + 60
    while True:
        try:
            year.fleet.stub.ListBudgets(governance_pb2.ListBudgetsRequest(), wait_for_ready=True, timeout=60)
            break
        except grpc.RpcError as error:  # the old server's end
            if time.monotonic() > deadline:
                raise RuntimeError("the server did not come back") from error
    began, runs = time.perf_counter(), [year.run("tenant-1")]
    while year.query(OLD, before=f"{second}")[0][0]:
        runs += [year.run(f"tenant-{chance.randrange(1000)}") for _ in range(5)]
    took = time.perf_counter() - began
    charge = p50_ms(runs, "Charge")
    print(f"retention of a month: {calls:,} calls in {took:.1f} s; a Charge meanwhile {charge} ms", flush=True)
    return {"retention_calls": calls, "retention_s": round(took, 1), "charge_meanwhile_p50_ms": charge}


def main() -> int:
    """Fill, measure and print; the exit code is 1 if the ledger scans a whole table for a run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="100,000 charges, and the journal audited")
    parser.add_argument("--charges", type=int, help="10 million if not said")
    options = parser.parse_args()
    charges = options.charges or (100_000 if options.quick else 10_000_000)
    today, chance = datetime.now(UTC).date(), random.Random(0)
    days = (today - first_day(today)).days + 1
    figures: dict[str, float] = {"charges": charges, "tenants": 1000, "days": days}
    with ExitStack() as stack:
        url = stack.enter_context(new_postgres())
        with sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool).connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE empty")
        began = time.monotonic()
        asyncio.run(make_tables(url))
        fill(url, charges, 1000, today)
        print(f"a ledger of {charges:,} charges in {time.monotonic() - began:.0f} s", flush=True)
        if options.quick:
            audit(url)
        urls = (url, sa.make_url(url).set(database="empty").render_as_string(hide_password=False))
        ledgers = [Ledger(one, stack.enter_context(tempfile.TemporaryDirectory(prefix="djp-"))) for one in urls]
        year, empty = ledgers
        for ledger in ledgers:
            stack.callback(ledger.close)
        figures |= measure_reports(year, days, first_day(today))
        figures |= measure_calls(year, empty, 50 if options.quick else 300, chance)
        print("estimated cost and plan of what a run asks the database:")
        figures["whole_table_scans"] = plans(url)
        figures |= measure_retention(year, today, chance)
    print(json.dumps({"benchmark": "report", "figures": figures}))
    return 1 if figures["whole_table_scans"] else 0


if __name__ == "__main__":
    sys.exit(main())
