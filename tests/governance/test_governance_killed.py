"""A server dies by SIGKILL while it holds a run's money: another one ends what it held, and hears the truth later."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import sqlalchemy as sa
from google.protobuf.duration_pb2 import Duration

from djp.v1 import governance_pb2, governance_pb2_grpc
from tests.governance.ledger_fleet import Member, free_ports, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from pathlib import Path

    from tests.governance.conftest import Client, Governance

LAPSED = governance_pb2.RESERVATION_STATE_LAPSED
WAITING = (
    "SELECT count(*) AS many FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


class Doomed:
    """A server process of its own, and a client of it."""

    def __init__(self, governance: Governance, folder: Path) -> None:
        (port,) = free_ports(1)
        environment = {"DJP_HOME": str(folder), "DJP_GOVERNANCE_DATABASE_URL": governance.url}
        self._governance = governance
        self.process = Member(serve, port, environment)
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        stub = governance_pb2_grpc.GovernanceServiceStub(self.channel)
        self.client: Client = replace(governance.client(), stub=stub)

    async def die_in(self, work: Awaitable[Any], make: Any) -> None:
        """Kill it in the middle of the work's transaction, which others keep from going on."""
        engine = sa.create_engine(self._governance.url.replace("+aiosqlite", ""))
        lock = "BEGIN IMMEDIATE" if engine.dialect.name == "sqlite" else "LOCK TABLE entries"
        with engine.connect() as connection:
            await asyncio.to_thread(connection.execute, sa.text(lock))
            task = asyncio.ensure_future(work)
            if engine.dialect.name == "sqlite":  # of who waits for a file nobody tells; but this came later
                await self.client.budget("tenant")
            else:
                await make.until(self._waits)
            await self.die()
            await asyncio.to_thread(connection.rollback)
        engine.dispose()
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await task
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE

    async def _waits(self) -> bool:
        return bool((await self._governance.sql(WAITING))[0]["many"])

    async def die(self) -> None:
        await asyncio.to_thread(self.process.kill)


@pytest.fixture
async def acme(governance: Governance) -> Client:
    """A client of the server that stays."""
    governance.clock.moment = datetime.now(UTC)  # as the other server has it
    return (await governance.start()).client()


@pytest.fixture
async def doomed(acme: Client, governance: Governance, tmp_path: Path) -> AsyncIterator[Doomed]:
    async with _doomed(governance, tmp_path) as one:
        yield one


@asynccontextmanager
async def _doomed(governance: Governance, folder: Path) -> AsyncIterator[Doomed]:
    one = Doomed(governance, folder)
    try:
        await asyncio.wait_for(one.channel.channel_ready(), 120)
        yield one
    finally:
        await one.channel.close()
        await one.die()


async def sums(governance: Governance) -> set[tuple[int, int, int, int]]:
    """What is in the windows, which all have the same in them."""
    found = await governance.sql("SELECT reserved_nano, spent_nano, reserved_tokens, spent_tokens FROM windows")
    return {tuple(row.values()) for row in found}


@pytest.mark.parametrize("moment", ["between two charges", "in a charge", "in the settlement"])
async def test_what_a_dead_server_granted_lapses_at_another_and_the_truth_comes_later(
    moment: str, doomed: Doomed, acme: Client, governance: Governance, make: Any
) -> None:
    order = make.reserve(1000, 100, lease=Duration(seconds=60))
    granted = await doomed.client.call("Reserve", order)
    name = granted.reservation.reservation_id
    bounds = [make.model_call(0, bound_nano_usd=bound, tokens=(10, 0), usage_unknown=True) for bound in (300, 200, 100)]
    truths = [
        make.model_call(cost, call_id=one.call_id, tokens=(9, 0))
        for cost, one in zip((250, 150, 120), bounds, strict=True)
    ]
    await doomed.client.extend(name, *bounds)
    first, second, end = make.charge(name, truths[0]), make.charge(name, truths[1]), make.settle(name)
    charged = await doomed.client.call("Charge", first)
    if moment == "in a charge":
        await doomed.die_in(doomed.client.call("Charge", second), make)
    elif moment == "in the settlement":
        await doomed.die_in(doomed.client.call("Settle", end), make)
    else:
        await doomed.die()

    assert await acme.reservation(name) == charged.reservation  # nothing was lost, and nothing half done
    assert await sums(governance) == {(750, 250, 91, 9)}
    governance.clock.moment = datetime.now(UTC) + timedelta(seconds=61)

    async def has_lapsed() -> Any:
        found = await acme.reservation(name)
        return found if found.state == LAPSED else None

    lapsed = await make.until(has_lapsed)
    assert (lapsed.charged_nano_usd, lapsed.charged_tokens) == (250 + 200 + 100, 29)
    assert await sums(governance) == {(0, 550, 0, 29)}

    late = await acme.call("Charge", second)  # the holder asks the other server the same again
    assert (late.reservation.state, late.reservation.charged_nano_usd) == (LAPSED, 500)
    assert not late.over_reservation
    settled = await acme.call("Settle", end)
    assert (settled.reservation.state, settled.total_nano_usd) == (LAPSED, 500)
    dearer = await acme.charge(name, truths[2])  # than its bound; and after the settlement
    assert dearer.reservation.charged_nano_usd == 520
    assert await sums(governance) == {(0, 520, 0, 27)}
    assert await acme.call("Reserve", order) == granted
    assert await acme.call("Charge", first) == charged
    assert await acme.call("Charge", second) == late
    events = await acme.events()
    assert [one.kind for one in events] == [governance_pb2.GOVERNANCE_EVENT_KIND_LEASE_LAPSED]


async def test_a_reservation_that_died_with_its_server_was_never_made(
    doomed: Doomed, acme: Client, governance: Governance, make: Any
) -> None:
    order = make.reserve(5 * 10**9, lease=Duration(seconds=60))  # all that there is
    await doomed.die_in(doomed.client.call("Reserve", order), make)
    assert await governance.sql("SELECT * FROM reservations") == []
    granted = await acme.call("Reserve", order)
    assert (await acme.window()).reserved_nano_usd == 5 * 10**9
    await acme.settle(granted.reservation.reservation_id)
