"""Ledgers of older releases: they come up with everything that was in them, on both kinds of database."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import uuid
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from djp.database import open_engine
from djp_governance.adapters.sql_ledger import SqlLedger
from djp_governance.adapters.sql_reports import SqlReports
from djp_governance.adapters.tables import metadata
from djp_governance.limits import Budget, Limits
from djp_governance.model import Call, Order, RequestKey, RunLimits
from djp_governance.server import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

US = 1_000_000
MADE = int(datetime(2026, 3, 31, 23, 30, tzinfo=UTC).timestamp()) * US
DAY = int(datetime(2026, 3, 31, tzinfo=UTC).timestamp()) * US
MONTH = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp()) * US
HELD = "11111111-1111-4111-8111-111111111111"
OLD = [
    *(
        f"INSERT INTO windows VALUES ('{scope}', '{period}', {starts}, 60, 40, 6, 4)"
        for scope in ("tenant:acme", "global")
        for period, starts in (("day", DAY), ("month", MONTH))
    ),
    f"INSERT INTO reservations VALUES ('{HELD}', 'run', 'acme', 'held', 100, 10, 40, 4, {MADE}, NULL, '{{}}', '[]')",
    f"INSERT INTO entries VALUES (1, '{HELD}', 'reserve', 100, 0, 10, 0, {MADE}, '')",
    f"INSERT INTO entries VALUES (2, '{HELD}', 'charge', -40, 40, -4, 4, {MADE}, '')",
    f"INSERT INTO calls VALUES ('acme', 'call', '{HELD}', 'm', 40, 2, 2, false, {MADE})",
    "INSERT INTO requests VALUES ('acme', 'request', 'body', '{}')",
]


async def test_an_older_ledger_goes_on(
    database_url: str, tmp_path: Path, make: Any, audit: Callable[[str], None]
) -> None:
    older = tmp_path / "migrations"
    await asyncio.to_thread(shutil.copytree, MIGRATIONS, older, ignore=shutil.ignore_patterns("000[2-9]*", "__pyc*"))
    engine = await open_engine(database_url, older)
    async with engine.begin() as connection:
        for line in OLD:
            await connection.execute(sa.text(line.replace(":acme", r"\:acme")))
        if connection.dialect.name == "postgresql":
            await connection.execute(sa.text("SELECT setval('entries_entry_id_seq', 2)"))
    await engine.dispose()

    engine = await open_engine(database_url, MIGRATIONS, metadata)
    ledger, now = SqlLedger(engine), datetime(2026, 4, 2, tzinfo=UTC)
    statement = await ledger.statement("acme", HELD)
    assert (statement.reservation.held, statement.total) == (60, 40)
    key = RequestKey("acme", make.id(), "body")
    await ledger.charge(key, HELD, [Call("call", "m", 5, 1, 1), Call(make.id(), "m", 10, 1, 1)], now)
    closed = await ledger.close(RequestKey("acme", make.id(), "body"), HELD, "settled", now)
    assert (closed.total, str(closed.reservation.day)) == (50, "2026-03-31")
    await engine.dispose()
    rows = await make.sql(database_url, "SELECT scope, period, starts_on, reserved_nano, spent_nano FROM windows")
    assert sorted(tuple(row.values()) for row in rows) == [
        (scope, period, first, 0, 50)
        for scope in ("global", "tenant:acme")
        for period, first in (("day", "2026-03-31"), ("month", "2026-03-01"))
    ]
    (request,) = await make.sql(database_url, "SELECT at_us FROM requests WHERE answer = '{}'")
    assert request["at_us"] > MADE  # it is remembered as if it had come just now
    await make.sql(database_url, "DELETE FROM requests WHERE answer = '{}'")
    audit(database_url)


async def test_both_ways_to_new_tables_lead_to_the_same_on_postgres(postgres_url: str, make: Any) -> None:
    def found() -> Any:
        engine = sa.create_engine(postgres_url)
        inspector = sa.inspect(engine)
        tables = {
            name: (
                [
                    (one["name"], str(one["type"]), one["nullable"], one["default"])
                    for one in inspector.get_columns(name)
                ],
                inspector.get_pk_constraint(name),
                sorted(str(one) for one in inspector.get_indexes(name)),
                sorted(str(one) for one in inspector.get_foreign_keys(name)),
            )
            for name in inspector.get_table_names()
        }
        engine.dispose()
        return tables

    await (await open_engine(postgres_url, MIGRATIONS)).dispose()
    migrated = await asyncio.to_thread(found)
    await make.sql(postgres_url, "DROP SCHEMA public CASCADE")
    await make.sql(postgres_url, "CREATE SCHEMA public")
    await (await open_engine(postgres_url, MIGRATIONS, metadata)).dispose()
    assert await asyncio.to_thread(found) == migrated
    assert "windows" in migrated


OPEN = """
import asyncio, sys
from djp.database import open_engine
from djp_governance.adapters.tables import metadata
from djp_governance.server import MIGRATIONS

async def main():
    await (await open_engine(sys.argv[1], MIGRATIONS, metadata)).dispose()

asyncio.run(main())
"""


def open_at_once(url: str, processes: int = 3) -> list[tuple[str, int]]:
    """What processes say that open a database at the same time, and how they end."""
    started = [
        subprocess.Popen([sys.executable, "-c", OPEN, url], stderr=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    return [(process.communicate()[1], process.returncode) for process in started]


def test_processes_that_open_a_new_database_on_postgres_at_once_all_succeed(postgres_url: str) -> None:
    assert open_at_once(postgres_url) == [("", 0)] * 3


# Whatever a workflow may be called: what stands for a NUL, and what only looks like one; quotes; signs of one to four
# bytes, and more of them than a roll-up tells; signs that combine.
NAMES = (
    "nul\ufffdnul",
    "\\u0000",
    "\\\\u0000\\",
    "\ufffd\ufffd\\\ufffd",
    "'; DROP TABLE calls; --",
    '{"workflow": "x"}',
    "\u202eGru\u0308ße 模型 💶\uffff",
    "💶" * 120,
    "e\u0301" * 60,
)
MIDNIGHT = datetime(2026, 4, 1, tzinfo=UTC)


async def nasty_ledger(url: str) -> None:
    """Runs that end in all ways, and those that have not ended, around the midnight of a month's end."""

    def key() -> RequestKey:
        return RequestKey("acme", str(uuid.uuid4()), "body")

    def call(model: str, cost: int) -> Call:
        return Call(str(uuid.uuid4()), model, cost, 3, 2)

    engine = await open_engine(url, MIGRATIONS, metadata)
    ledger, moment = SqlLedger(engine), MIDNIGHT - timedelta(microseconds=len(NAMES) + 1)
    for number, name in enumerate(NAMES):
        tags = {"workflow": name, "preset": NAMES[-1 - number], "other": "\\u0000"}
        run, lost = str(uuid.uuid4()), call("ö/模型", 900)
        for again in range(2):  # the second reservation of a run is of the next day
            order = Order(run, 1000, 100, RunLimits(), tags, 60)
            held = (await ledger.reserve(key(), order, Limits(Budget(), Budget()), moment)).reservation
            for cost in range(2):
                moment += timedelta(microseconds=1)
                await ledger.charge(key(), held.reservation_id, [call("a/m", cost), call("b/m", 10 * number)], moment)
            if number % 3 == 0:
                await ledger.close(key(), held.reservation_id, "settled", moment)
            elif number % 3 == 1 and not again:
                await ledger.extend(key(), held.reservation_id, [lost], 60, moment)
                await ledger.lapse(moment + timedelta(minutes=2))
                await ledger.charge(key(), held.reservation_id, [replace(lost, model="c/m", cost=7)], moment)
            moment += timedelta(days=again)
    await engine.dispose()


async def told(url: str) -> list[Any]:
    """What reports tell of two tenants and of everybody, and where runs count."""
    engine = await open_engine(url, MIGRATIONS, metadata)
    async with SqlReports(engine).reader() as reader:
        first, last = date(2026, 3, 1), date(2026, 12, 31)
        found: list[Any] = [
            await ask(tenant, first, last) for tenant in (None, "acme") for ask in (reader.rows, reader.totals)
        ]
    await engine.dispose()
    counted = await asyncio.to_thread(_query, url, "SELECT * FROM counted_runs ORDER BY tenant, run_id, model")
    return [*found, counted]


def _query(url: str, *statements: str) -> Any:
    engine = sa.create_engine(url.replace("+aiosqlite", ""), poolclass=sa.NullPool)
    try:
        with engine.begin() as connection:
            for statement in statements:
                result = connection.exec_driver_sql(statement)
            return [tuple(row) for row in result] if result.returns_rows else None
    finally:
        engine.dispose()


LATER_TABLES = ("rollups", "closed_rollups", "closed_days", "closed_tenant_days", "closed_months", "counted_runs")


@pytest.mark.parametrize("revision", ["0002", "0003", "0004"])
async def test_roll_ups_of_an_older_ledger_are_those_that_charges_would_have_kept(
    database_url: str, tmp_path: Path, revision: str, audit: Callable[[str], None]
) -> None:
    """Two processes bring up what a revision left, twice."""
    await nasty_ledger(database_url)
    audit(database_url)
    kept = await told(database_url)
    assert len(kept[0]) > 20

    def go_back() -> None:
        _query(
            database_url,
            *(f"DROP TABLE {table}" for table in LATER_TABLES),
            "UPDATE alembic_version SET version_num = '0002'",
            r"UPDATE reservations SET tags = replace(tags, '\ufffd', '\u0000')",  # the first ledgers took a NUL
        )
        newer = [path.name for path in MIGRATIONS.glob("versions/0*.py") if path.name[:4] > revision]
        shutil.copytree(MIGRATIONS, tmp_path / "then", ignore=shutil.ignore_patterns(*newer, "__pyc*"))

    await asyncio.to_thread(go_back)
    await (await open_engine(database_url, tmp_path / "then")).dispose()
    for _ in range(2):
        assert await asyncio.to_thread(open_at_once, database_url, 2) == [("", 0)] * 2
        audit(database_url)
        assert await told(database_url) == kept
