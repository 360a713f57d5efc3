"""What only a server of its own can do to the ledger: go away, come back, and hold rows for others."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Any

import grpc
import pytest

from djp.mesh.errors import Unavailable
from djp.v1 import governance_pb2, governance_pb2_grpc
from djp_governance.server import open_service
from djp_governance.settings import GovernanceSettings

USD = 10**9
CUT_OFF = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid != "


@pytest.fixture
def database_url(postgres_url: str) -> str:
    return postgres_url


async def test_a_database_that_is_away_is_unavailable_and_its_password_is_not_told(tmp_path: Any) -> None:
    url = f"postgresql+psycopg://djp:hunter2@/ledger?host={tmp_path}"
    with pytest.raises(Unavailable) as refused:
        async with open_service(GovernanceSettings(database_url=url)):
            pass
    assert "does not answer" in refused.value.message
    assert "hunter2" not in refused.value.message


async def test_connections_that_were_cut_are_made_anew_and_nothing_is_done_twice(governance: Any, make: Any) -> None:
    acme = (await governance.start()).client()
    for _ in range(3):
        await acme.reserve(5)
        await governance.sql(CUT_OFF + "pg_backend_pid()")
    assert (await acme.window()).reserved_nano_usd == 15

    order = make.reserve(7)

    async def persistently() -> Any:
        while True:
            try:
                return await acme.call("Reserve", order)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise

    async def cut() -> None:
        for _ in range(10):
            await governance.sql(CUT_OFF + "pg_backend_pid()")

    answers = await asyncio.gather(*(persistently() for _ in range(5)), cut())
    assert len({one.reservation.reservation_id for one in answers[:-1]}) == 1
    assert (await acme.window()).reserved_nano_usd == 22


async def test_two_replicas_are_one_ledger(governance: Any, make: Any, serving: Any) -> None:
    acme = (await governance.start(tenant_daily="0.000000100", soft_threshold="0.5")).client()
    async with AsyncExitStack() as stack:
        settings = GovernanceSettings(
            database_url=governance.url, tenant_daily=Decimal("0.000000100"), soft_threshold=Decimal("0.5")
        )
        channel = await stack.enter_async_context(serving(open_service(settings, governance.clock)))
        other = type(acme)(governance_pb2_grpc.GovernanceServiceStub(channel), "acme")
        order = make.reserve(10)
        both = await asyncio.gather(*(one.call("Reserve", order) for one in (acme, other) for _ in range(4)))
        assert len({one.SerializeToString(deterministic=True) for one in both}) == 1

        async def take(client: Any) -> bool:
            try:
                await client.reserve(10)
            except grpc.aio.AioRpcError:
                return False
            return True

        granted = await asyncio.gather(*(take(one) for one in (acme, other) for _ in range(10)))
        assert sum(granted) == 9
        held = both[0].reservation.reservation_id
        call = make.model_call(4)
        await asyncio.gather(*(one.charge(held, call) for one in (acme, other) for _ in range(4)))
        assert (await other.window()).spent_nano_usd == 4
        operator = type(acme)(other.stub, "ops", "operator")
        await operator.set_budget("tenant:acme", daily_nano_usd=105)
        assert (await acme.refused("Reserve", make.reserve(6))).reason == "BUDGET_EXCEEDED"  # at once, everywhere
        await acme.reserve(5)
        kinds = [one.kind for one in await other.events()]
        assert kinds.count(governance_pb2.GOVERNANCE_EVENT_KIND_THROTTLED) == 2  # one for each of the two limits
        assert kinds.count(governance_pb2.GOVERNANCE_EVENT_KIND_DENIED) == 2
