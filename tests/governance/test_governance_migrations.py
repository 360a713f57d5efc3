"""Ledgers of older releases: they come up with everything that was in them, on both kinds of database."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from djp.database import open_engine
from djp_governance.adapters.sql_ledger import SqlLedger
from djp_governance.adapters.tables import metadata
from djp_governance.model import Call, RequestKey
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


def test_processes_that_open_a_new_database_on_postgres_at_once_all_succeed(postgres_url: str) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", OPEN, postgres_url], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 3
