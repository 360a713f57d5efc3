"""Several processes on one ledger: no window is ever beyond its limit, and a process that is killed leaves it whole."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Callable

WORKER = """
import asyncio, json, os, sys, uuid
from datetime import UTC, datetime
from decimal import Decimal
from djp.database import open_engine
from djp_governance.adapters.sql_ledger import SqlLedger
from djp_governance.adapters.tables import metadata
from djp_governance.limits import Budget, Limits
from djp_governance.model import BudgetExceeded, Call, Order, RequestKey, RunLimits
from djp_governance.server import MIGRATIONS

url, what = sys.argv[1:3]
limit, amount, processes = map(int, sys.argv[3:])
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits(Budget(limit, limit), Budget(limit, limit), soft_threshold=Decimal(1))

def key(request_id=None):
    return RequestKey("acme", request_id or str(uuid.uuid4()), "body")

def say(*words):
    os.write(1, (json.dumps(words) + "\\n").encode())  # the others write too: a line at once

async def reserve_many(ledger):
    async def one():
        try:
            await ledger.reserve(key(), Order(str(uuid.uuid4()), amount, 1, RunLimits()), LIMITS, NOW)
            return True
        except BudgetExceeded:
            return False
    granted = 0
    for _ in range(10):
        granted += sum(await asyncio.gather(*(one() for _ in range(5))))
    say(granted)

async def reserve_same(ledger):
    order = Order("run", amount, 1, RunLimits())
    grant = await ledger.reserve(key("00000000-0000-4000-8000-000000000000"), order, LIMITS, NOW)
    say(grant.reservation.reservation_id)

async def work_forever(ledger):
    while True:
        order = Order(str(uuid.uuid4()), amount, 1, RunLimits())
        held = (await ledger.reserve(key(), order, LIMITS, NOW)).reservation.reservation_id
        say("held", held, os.getpid())
        for _ in range(2):
            await ledger.charge(key(), held, [Call(str(uuid.uuid4()), "m", amount // 4, 1, 1)], NOW)
            say("charged", held, os.getpid())
        await ledger.close(key(), held, "settled", NOW)
        say("settled", held, os.getpid())

async def main():
    engine = await open_engine(url, MIGRATIONS, metadata)
    await globals()[what](SqlLedger(engine))
    await engine.dispose()

children = []
while len(children) < processes - 1:  # one import for all; nothing is open or running yet
    child = os.fork()
    if not child:
        children = []
        break
    children.append(child)
asyncio.run(main())
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""


FOUND = "SELECT reservation_id, state, charged_nano FROM reservations"


def start(url: str, what: str, *, limit: int = 10**12, amount: int = 8, processes: int = 1) -> subprocess.Popen[str]:
    arguments = [url, what, str(limit), str(amount), str(processes)]
    return subprocess.Popen([sys.executable, "-c", WORKER, *arguments], stdout=subprocess.PIPE, text=True)


def words(process: subprocess.Popen[str]) -> Any:
    assert process.stdout
    return json.loads(process.stdout.readline())


def test_processes_that_draw_on_one_budget_take_exactly_what_fits(
    database_url: str, sql: Any, audit: Callable[[str], None]
) -> None:
    amount, fit = 7, 123
    limit = amount * fit + 3
    seen = set()

    def rows(query: str) -> list[Any]:
        return [tuple(row.values()) for row in sql(database_url, query)]

    with start(database_url, "reserve_many", limit=limit, amount=amount, processes=4) as workers:
        while workers.poll() is None:  # how often we look while they are at it is up to the machine
            with contextlib.suppress(sa.exc.DBAPIError):  # there is no database yet
                seen |= {sum(window) for window in rows("SELECT reserved_nano, spent_nano FROM windows")}
            with contextlib.suppress(subprocess.TimeoutExpired):
                workers.wait(0.002)
        granted = [words(workers)[0] for _ in range(4)]
    assert workers.returncode == 0
    assert sum(granted) == fit
    assert all(taken <= limit for taken in seen)
    assert rows("SELECT reserved_nano, reserved_tokens FROM windows") == [(amount * fit, fit)] * 4
    assert rows("SELECT count(*) FROM reservations") == [(fit,)]
    assert rows("SELECT count(*) FROM requests") == [(fit,)]  # a refusal leaves nothing behind
    audit(database_url)


def test_one_request_sent_by_several_processes_is_one(
    database_url: str, sql: Any, audit: Callable[[str], None]
) -> None:
    with start(database_url, "reserve_same", limit=8, processes=4) as workers:
        names = [words(workers)[0] for _ in range(4)]
    assert workers.returncode == 0
    assert len(set(names)) == 1
    assert uuid.UUID(names[0])
    assert [row["reserved_nano"] for row in sql(database_url, "SELECT DISTINCT reserved_nano FROM windows")] == [8]
    audit(database_url)


def test_processes_killed_at_any_moment_leave_a_ledger_that_balances(
    database_url: str, sql: Any, audit: Callable[[str], None]
) -> None:
    said: list[Any] = []
    alive: set[int] = set()
    with start(database_url, "work_forever", processes=3) as workers:
        try:
            while len(alive) < 3:
                said.append(words(workers))
                alive.add(said[-1][2])
            for pid in sorted(alive, reverse=True):  # the first process, the others' parent, goes last
                said += [words(workers) for _ in range(7)]
                os.kill(pid, signal.SIGKILL)
                alive.remove(pid)
        finally:
            for pid in alive:
                os.kill(pid, signal.SIGKILL)
        assert workers.stdout
        said += [json.loads(line) for line in workers.stdout if line.endswith("]\n")]
    audit(database_url)
    assert len(sql(database_url, "SELECT entry_id FROM entries")) >= len(said)
    found = {name: (state, charged) for name, state, charged in map(dict.values, map(dict, sql(database_url, FOUND)))}
    for what, name, pid in said:  # what was answered has happened
        state, charged = found[name]
        assert charged >= 2 * said.count(["charged", name, pid])
        assert state == "settled" or what != "settled"
