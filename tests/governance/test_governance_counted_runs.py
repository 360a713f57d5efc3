"""Runs in roll-ups: each counts once a model and once over all, also when its reservations are charged at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from djp.v1 import governance_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from tests.governance.conftest import Client, Governance

LAPSED = governance_pb2.RESERVATION_STATE_LAPSED
WAITING = (
    "SELECT count(*) AS many FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
RUNS = "SELECT day, model, runs, calls FROM rollups WHERE runs <> 0 OR calls <> 0 ORDER BY day, model"


async def runs(governance: Governance) -> list[tuple[Any, ...]]:
    """The rows of the roll-ups: day, model, runs, calls."""
    return [tuple(row.values()) for row in await governance.sql(RUNS)]


async def at_once(governance: Governance, make: Any, *changes: Awaitable[Any]) -> None:
    """Sends changes that all have read what they need, and written what they may, before any of them can end."""

    def hold() -> Any:
        engine = sa.create_engine(governance.url)
        connection = engine.connect()
        connection.execute(sa.text("SELECT * FROM windows FOR UPDATE"))
        return connection

    holding = await asyncio.to_thread(hold)
    tasks = [asyncio.ensure_future(one) for one in changes]

    async def all_wait() -> bool:
        return bool((await governance.sql(WAITING))[0]["many"] == len(tasks))

    await make.until(all_wait)
    await asyncio.to_thread(holding.close)
    await asyncio.to_thread(holding.engine.dispose)
    await asyncio.gather(*tasks)


async def lapsed(client: Client, make: Any, run_id: str, model: str) -> tuple[str, str]:
    """A reservation of the run that lapsed with a call of the model under way: its id and the call's."""
    name = (await client.reserve(100, run_id=run_id)).reservation.reservation_id
    call = make.model_call(10, model, bound_nano_usd=10, usage_unknown=True)
    await client.extend(name, call)
    return name, call.call_id


async def all_lapse(governance: Governance, make: Any, client: Client, *names: str) -> None:
    governance.clock.turn(minutes=5)

    async def have_lapsed() -> bool:
        return all([(await client.reservation(name)).state == LAPSED for name in names])

    await make.until(have_lapsed)


class TestOnPostgres:
    """Where two transactions of one ledger go on at the same time."""

    @pytest.fixture
    def database_url(self, postgres_url: str) -> str:
        return postgres_url

    async def test_two_reservations_of_a_run_charged_at_once_are_one_run(
        self, governance: Governance, make: Any
    ) -> None:
        acme, run_id = (await governance.start()).client(), make.id()
        held = [(await acme.reserve(100, run_id=run_id)).reservation.reservation_id for _ in range(3)]
        await at_once(governance, make, *(acme.charge(one, make.model_call(1, "a/m")) for one in held))
        assert await runs(governance) == [("2026-03-31", "", 1, 3), ("2026-03-31", "a/m", 1, 3)]

    async def test_two_truths_about_a_run_at_once_take_it_from_the_model_that_made_no_call(
        self, governance: Governance, make: Any
    ) -> None:
        acme, run_id = (await governance.start()).client(), make.id()
        bounds = [await lapsed(acme, make, run_id, "a/m") for _ in range(2)]
        await all_lapse(governance, make, acme, *(name for name, _ in bounds))
        assert await runs(governance) == [("2026-03-31", "", 1, 2), ("2026-03-31", "a/m", 1, 2)]
        truths = [acme.charge(name, make.model_call(7, "b/m", call_id=call_id)) for name, call_id in bounds]
        await at_once(governance, make, *truths)
        assert await runs(governance) == [("2026-03-31", "", 1, 2), ("2026-03-31", "b/m", 1, 2)]

    async def test_a_truth_and_a_new_call_of_the_same_model_at_once(self, governance: Governance, make: Any) -> None:
        acme, run_id = (await governance.start()).client(), make.id()
        name, call_id = await lapsed(acme, make, run_id, "a/m")
        await all_lapse(governance, make, acme, name)
        other = (await acme.reserve(100, run_id=run_id)).reservation.reservation_id
        await at_once(
            governance,
            make,
            acme.charge(name, make.model_call(7, "b/m", call_id=call_id)),
            acme.charge(other, make.model_call(1, "a/m")),
        )
        assert await runs(governance) == [
            (("2026-03-31"), "", 1, 2),
            ("2026-03-31", "a/m", 1, 1),
            ("2026-03-31", "b/m", 1, 1),
        ]


async def test_a_truth_takes_a_run_from_where_it_was_counted(governance: Governance, make: Any) -> None:
    acme, run_id = (await governance.start()).client(), make.id()
    first = await lapsed(acme, make, run_id, "a/m")
    governance.clock.turn(days=1)
    second = await lapsed(acme, make, run_id, "a/m")
    await all_lapse(governance, make, acme, first[0], second[0])
    (name, call_id), (other, other_id) = first, second
    await acme.charge(name, make.model_call(7, "b/m", call_id=call_id))
    of_a = [row for row in await runs(governance) if row[1] == "a/m"]
    assert of_a == [("2026-03-31", "a/m", 1, 0), ("2026-04-01", "a/m", 0, 1)]
    await acme.charge(other, make.model_call(7, "b/m", call_id=other_id))
    assert await runs(governance) == [
        ("2026-03-31", "", 1, 1),
        ("2026-03-31", "b/m", 1, 1),
        ("2026-04-01", "", 0, 1),
        ("2026-04-01", "b/m", 0, 1),
    ]
    answer = await acme.call("Report", governance_pb2.ReportRequest())
    assert [(one.model, one.runs, one.calls) for one in answer.totals] == [("", 1, 2), ("b/m", 1, 2)]


async def test_a_run_that_comes_back_to_a_model_counts_where_it_did(governance: Governance, make: Any) -> None:
    acme, run_id = (await governance.start()).client(), make.id()
    name, call_id = await lapsed(acme, make, run_id, "a/m")
    await all_lapse(governance, make, acme, name)
    await acme.charge(name, make.model_call(7, "b/m", call_id=call_id))
    governance.clock.turn(days=1)
    again = (await acme.reserve(100, run_id=run_id, tags={"workflow": "other"})).reservation.reservation_id
    await acme.charge(again, make.model_call(1, "a/m"), make.model_call(2, "a/m"))
    assert [row for row in await runs(governance) if row[1] == "a/m"] == [("2026-04-01", "a/m", 1, 2)]
