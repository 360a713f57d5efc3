"""Days that are over: reports tell the same before, while and after they move, whatever is charged for them later."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from djp.database import open_engine
from djp.v1 import governance_pb2
from djp_governance.adapters import sql_closing
from djp_governance.adapters.sql_closing import OPEN_DAYS, Closing
from djp_governance.adapters.sql_ledger import SqlLedger
from djp_governance.adapters.tables import metadata
from djp_governance.server import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from tests.governance.conftest import Governance

USD = 10**9
SPANS = (1, 2, 3, 28, 29, 31, 32, 60, 61, 90, 91, 3660)


@asynccontextmanager
async def closer(governance: Governance) -> AsyncIterator[Closing]:
    """What another replica would close with."""
    engine = await open_engine(governance.url, MIGRATIONS, metadata)
    try:
        yield Closing(SqlLedger(engine).transactions)
    finally:
        await engine.dispose()


async def reports(governance: Governance) -> list[Any]:
    """What everybody and one tenant are told about many spans."""
    told = []
    for client, tenant in ((governance.client("ops", "operator"), ""), (governance.client("acme"), "acme")):
        for days in SPANS:
            answer = await client.call("Report", governance_pb2.ReportRequest(tenant=tenant, days=days))
            told.append((tenant, days, list(answer.rows), list(answer.totals), list(answer.anomalies)))
    return told


async def spend(governance: Governance, make: Any, tenant: str, cost: int, **tags: str) -> str:
    client = governance.client(tenant)
    run = (await client.reserve(USD, 1000, tags=tags)).reservation.reservation_id
    await client.charge(run, make.model_call(cost, "a/m", (1, 2)), make.model_call(cost * 2, "b/m", (3, 4)))
    return str(run)


async def test_reports_tell_the_same_of_days_that_are_closed(governance: Governance, make: Any) -> None:
    """Over two ends of months, with gaps, unusual days, and what comes late: calls, and truths of what had lapsed."""
    await governance.start(
        anomaly_min_events=1, tenant_daily=100, tenant_monthly=1000, global_daily=1000, global_monthly=9999
    )
    acme = governance.client("acme")
    late = await spend(governance, make, "acme", 5, workflow="weekly", preset="quick")
    lost, call = await spend(governance, make, "acme", 7), make.model_call(0, "c/m", bound_nano_usd=900)
    await acme.extend(lost, call)
    for day in range(36):
        governance.clock.turn(days=1)
        if day % 3:
            await spend(governance, make, "acme", 3 * USD if day == 20 else 10**6, workflow=f"flow-{day % 2}")
            await spend(governance, make, "globex", 11)

    async def lapsed() -> bool:
        return bool((await acme.reservation(lost)).state == governance_pb2.RESERVATION_STATE_LAPSED)

    await make.until(lapsed)
    as_written = await reports(governance)
    assert any(anomalies for *_, anomalies in as_written)
    today = governance.clock().date()
    async with closer(governance) as closing:
        assert await closing.close_days(today) > 100
        assert await closing.close_days(today) == 0
        assert await reports(governance) == as_written

        await acme.charge(late, make.model_call(1, "a/m"))
        await acme.charge(lost, make.model_call(2, "d/m", call_id=call.call_id))
        with_late = await reports(governance)
        assert with_late != as_written
        assert await closing.close_days(today) > 0
        assert await reports(governance) == with_late
    rows = await make.sql(governance.url, "SELECT min(day) AS oldest FROM rollups")
    assert rows[0]["oldest"] >= (today - timedelta(days=OPEN_DAYS - 1)).isoformat()


async def test_a_clock_set_back_over_a_months_end_tells_no_later_days(governance: Governance, make: Any) -> None:
    await governance.start()
    await spend(governance, make, "acme", 5)
    as_of_march = await reports(governance)
    governance.clock.turn(hours=4)  # to April
    await spend(governance, make, "acme", 70)
    governance.clock.turn(hours=-4)
    async with closer(governance) as closing:
        assert await closing.close_days(governance.clock().date() + timedelta(days=30)) == 6
    assert await reports(governance) == as_of_march


async def test_nothing_is_lost_when_charges_come_while_their_day_is_closed(
    governance: Governance, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two replicas close all days, in small steps, again and again, while runs go on."""
    monkeypatch.setattr(sql_closing, "BATCH", 2)
    await governance.start(tenant_daily=1000, global_daily=1000, global_monthly=9999)
    over = asyncio.Event()

    async def close() -> int:
        moved = 0
        async with closer(governance) as closing:
            while not over.is_set():
                moved += await closing.close_days(governance.clock().date() + timedelta(days=30))
        return moved

    closers = [asyncio.create_task(close()) for _ in range(2)]

    async def runs(tenant: str) -> None:
        for _ in range(15):
            await spend(governance, make, tenant, 1)

    await asyncio.gather(*(runs(tenant) for tenant in ("acme", "acme", "globex")))
    over.set()
    assert min(await asyncio.gather(*closers)) >= 0
    operator = governance.client("ops", "operator")
    answer = await operator.call("Report", governance_pb2.ReportRequest())
    assert [(one.tenant, one.model, one.runs, one.calls, one.cost_nano_usd) for one in answer.totals] == [
        ("acme", "", 30, 60, 90),
        ("acme", "b/m", 30, 30, 60),
        ("acme", "a/m", 30, 30, 30),
        ("globex", "", 15, 30, 45),
        ("globex", "b/m", 15, 15, 30),
        ("globex", "a/m", 15, 15, 15),
    ]
