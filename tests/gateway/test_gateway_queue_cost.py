"""What the database has to read for a run that begins, and to look at the queue: no more for another tenant's flood."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import event, insert
from sqlalchemy.pool import Pool

import djp_gateway
from djp.database import open_engine
from djp.v1 import run_pb2
from djp_gateway.adapters.sql_queue import SqlRunQueue
from djp_gateway.adapters.sql_store import SqlRunStore
from djp_gateway.adapters.tables import metadata, runs
from djp_gateway.adapters.transactions import Transactions
from djp_gateway.ports import COMMAND
from djp_gateway.seal import Seal
from djp_gateway.spec import SPEC_VERSION
from tests.governance.ledger_postgres import new_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from sqlalchemy.ext.asyncio import AsyncConnection

MIGRATIONS = Path(djp_gateway.__file__).parent / "migrations"
FLOOD = 3000


class Work:
    """What databases did since it was last asked: instructions of SQLite, rows that Postgres read."""

    def __init__(self) -> None:
        self.done = 0

    def watch(self, connection: Any, _record: Any) -> None:
        """Every connection that is opened."""
        if isinstance(connection, sqlite3.Connection):
            connection.set_progress_handler(self._count, 1)
        elif isinstance(connection, psycopg.Connection):
            work = self

            class Explaining(psycopg.Cursor[Any]):
                def execute(self, query: Any, params: Any = None, **more: Any) -> Any:
                    if isinstance(query, bytes) and query.startswith((b"SELECT", b"WITH", b"UPDATE")):
                        super().execute("SAVEPOINT explained")
                        super().execute(b"EXPLAIN (ANALYZE, FORMAT JSON) " + query, params)
                        work.done += _rows_read(self.fetchall()[0][0][0]["Plan"])
                        super().execute("ROLLBACK TO explained")
                    return super().execute(query, params, **more)

            connection.cursor_factory = Explaining

    def _count(self) -> int:
        self.done += 1
        return 0


def _rows_read(plan: dict[str, Any]) -> int:
    """By the scans of a plan and of its parts, those that were thrown away included."""
    own = 0.0
    if "Scan" in plan["Node Type"] and "Relation Name" in plan:
        own = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return round(own) + sum(_rows_read(part) for part in plan.get("Plans", ()))


@contextmanager
def watched() -> Iterator[Work]:
    work = Work()
    event.listen(Pool, "connect", work.watch)
    try:
        yield work
    finally:
        event.remove(Pool, "connect", work.watch)


class Gateway:
    """Its memory, and what was read of it."""

    def __init__(self, tables: Transactions, work: Work, executor: str) -> None:
        self.tables, self.work, self.executor = tables, work, executor
        self.store = SqlRunStore(tables, Seal(b"k" * 32))
        self.queue = SqlRunQueue(tables, self.store)

    def run(self, tenant: str) -> run_pb2.Run:
        spec = run_pb2.RunSpec(task="Why?", spec_version=SPEC_VERSION)
        run = run_pb2.Run(run_id=str(uuid.uuid4()), tenant=tenant, state=run_pb2.RUN_STATE_QUEUED, spec=spec, attempt=1)
        run.created_at.GetCurrentTime()
        return run

    async def start(self, tenant: str) -> bool:
        """Whether the run begins at once."""
        run, ids = self.run(tenant), {"request_id": str(uuid.uuid4()), "request_sha256": "x"}
        return (await self.queue.add(run, executor=self.executor, per_tenant=5, **ids))[1]

    async def be_flooded(self, executor: str) -> None:
        def row() -> dict[str, Any]:
            ids = {"request_id": str(uuid.uuid4()), "request_sha256": "x"}
            return self.store.row_of(self.run("flood"), executor=executor, **ids)

        async def added(connection: AsyncConnection) -> None:
            await connection.execute(insert(runs), [row() for _ in range(FLOOD)])

        await self.tables.change(added)

    async def reads(self, what: Callable[[], Awaitable[Any]]) -> int:
        await what()  # the first time statements are compiled, and plans made
        before = self.work.done
        await what()
        return self.work.done - before

    async def costs(self) -> dict[str, int]:
        """Of all that is done for a run that begins, and all the time."""
        queue, mine, started = self.queue, self.executor, 0

        async def start_another() -> None:
            nonlocal started
            started += 1
            assert await self.start(f"other {started}")

        return {
            "start": await self.reads(start_another),
            "claim": await self.reads(lambda: queue.claim(mine, per_tenant=5)),
            "ready": await self.reads(lambda: queue.ready(mine, per_tenant=5)),
            "newer": await self.reads(queue.newer),
            "beat": await self.reads(lambda: queue.beat(mine)),
            "beats": await self.reads(queue.beats),
            "wake parked": await self.reads(lambda: queue.wake_parked(mine)),
            "take from the dead": await self.reads(lambda: queue.take_from("dead", 1, taker=mine)),
            "hand back": await self.reads(lambda: queue.hand_back("leaving")),
        }


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with new_postgres() as url:
        yield url


@pytest.fixture(params=[("sqlite", "gateway"), ("sqlite", COMMAND), ("postgres", "gateway")], ids=" ".join)
async def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Gateway]:
    kind, executor = request.param
    url = f"sqlite+aiosqlite:///{tmp_path / 'gateway.db'}"
    if kind == "postgres":
        url = request.getfixturevalue("postgres")
    with watched() as work:
        engine = await open_engine(url, MIGRATIONS, metadata)
        yield Gateway(Transactions(engine), work, executor)
        await engine.dispose()


async def test_no_look_at_the_queue_reads_the_runs_of_a_tenant_that_waits_for_its_own(gateway: Gateway) -> None:
    for _ in range(7):
        await gateway.start("flood")
    few = await gateway.costs()
    await gateway.be_flooded(gateway.executor)
    many = await gateway.costs()
    assert few["start"] > 0
    assert {what: (few[what], cost) for what, cost in many.items() if cost - few[what] > FLOOD / 10} == {}


async def test_the_cost_is_seen_where_it_grows(gateway: Gateway) -> None:
    """Or the test before would prove nothing: to count what waits, all of it is read."""
    before = await gateway.reads(gateway.queue.depth)
    await gateway.be_flooded("gateway")
    assert await gateway.reads(gateway.queue.depth) - before >= FLOOD
