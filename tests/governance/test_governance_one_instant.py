"""What one answer tells is of one instant; a limit is set when nobody reserves under the old one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from djp.v1 import governance_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tests.governance.conftest import Governance

WAITING = (
    "SELECT count(*) AS many FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


@pytest.fixture
def database_url(postgres_url: str) -> str:
    """Postgres alone shows other transactions' changes between two statements."""
    return postgres_url


async def meanwhile(governance: Governance, make: Any, table: str, change: str, asked: Awaitable[Any]) -> Any:
    """The answer to a request, for which a change is made, at once, when it comes to read the table."""
    engine = sa.create_engine(governance.url)
    with engine.connect() as connection:
        await asyncio.to_thread(connection.execute, sa.text(f"LOCK TABLE {table}"))
        task = asyncio.ensure_future(asked)

        async def waits() -> bool:
            return bool((await governance.sql(WAITING))[0]["many"])

        await make.until(waits)
        await asyncio.to_thread(connection.execute, sa.text(change))
        await asyncio.to_thread(connection.commit)
    engine.dispose()
    return await task


async def test_a_reservation_has_the_totals_of_its_charges(governance: Governance, make: Any) -> None:
    acme = (await governance.start()).client()
    name = (await acme.reserve(1000)).reservation.reservation_id
    await acme.charge(name, make.model_call(100))
    dearer = "UPDATE calls SET cost_nano = 300; UPDATE reservations SET charged_nano = 300"
    request = governance_pb2.GetReservationRequest(reservation_id=name)
    answer = await meanwhile(governance, make, "calls", dearer, acme.call("GetReservation", request))
    assert answer.reservation.charged_nano_usd == sum(one.cost_nano_usd for one in answer.totals)
    await governance.sql("UPDATE calls SET cost_nano = 100; UPDATE reservations SET charged_nano = 100")


async def test_a_report_has_the_windows_of_its_totals(governance: Governance, make: Any) -> None:
    acme = (await governance.start()).client()
    await acme.charge((await acme.reserve(1000)).reservation.reservation_id, make.model_call(100))
    more = "UPDATE rollups SET cost_nano = cost_nano {0} 300; UPDATE windows SET spent_nano = spent_nano {0} 300"
    asked = acme.call("Report", governance_pb2.ReportRequest())
    answer = await meanwhile(governance, make, "windows", more.format("+"), asked)
    assert {one.spent_nano_usd for one in answer.windows} == {one.cost_nano_usd for one in answer.totals}
    await governance.sql(more.format("-"))


async def test_who_sets_a_limit_waits_for_those_that_reserve_under_the_old_one(
    governance: Governance, make: Any
) -> None:
    operator = (await governance.start()).client("ops", "operator")
    await governance.client().reserve(1000)
    engine = sa.create_engine(governance.url)
    with engine.connect() as reserving:
        lock = sa.text("SELECT * FROM windows WHERE scope = 'tenant:acme' FOR UPDATE")
        await asyncio.to_thread(reserving.execute, lock)
        task = asyncio.ensure_future(operator.set_budget("tenant:acme", daily_nano_usd=1000))

        async def waits() -> bool:
            return task.done() or bool((await governance.sql(WAITING))[0]["many"])

        await make.until(waits)
        assert not task.done()
        await asyncio.to_thread(reserving.rollback)
    engine.dispose()
    assert (await task).daily_nano_usd == 1000
