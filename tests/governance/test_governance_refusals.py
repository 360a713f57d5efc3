"""A refusal is the same whatever a server remembers, and what repeats in another form is refused at every server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from djp.mesh.errors import DjpError
from djp.mesh.rpc_errors import error_from_rpc

if TYPE_CHECKING:
    import pytest

    from tests.governance.conftest import Client, Governance

USD = 10**9


async def told(client: Client, method: str, request: Any) -> Any:
    """The answer, or the error."""
    try:
        return await client.call(method, request)
    except grpc.aio.AioRpcError as error:
        return error_from_rpc(error)


async def test_of_two_limits_the_full_window_is_told_whether_somebody_was_refused_before_or_not(
    governance: Governance, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUDGET_WEEKLY_USD", "1")
    acme = (await governance.start(tenant_daily="2")).client()
    await acme.reserve(USD)
    order = make.reserve(2 * USD, tags={"workflow": "weekly"})  # more than is left, and more than such a run may cost
    first = await acme.refused("Reserve", order)
    again = await acme.refused("Reserve", order)  # by a server that knows the window to be full
    assert [one.reason for one in (first, again)] == ["BUDGET_EXCEEDED", "BUDGET_EXCEEDED"]
    dear = make.reserve(USD, tags={"workflow": "weekly"}, run_id=order.run_id)
    await acme.call("Reserve", dear)  # what there is room for is granted all the same


async def test_two_requests_of_one_id_at_once_at_two_servers_are_one_and_a_refusal(
    governance: Governance, make: Any
) -> None:
    here = (await governance.start()).client()
    there = (await governance.start()).client()  # another server of the same ledger
    for _ in range(5):
        one, other = make.reserve(10), make.reserve(20)
        other.request_id = one.request_id
        answers = await asyncio.gather(told(here, "Reserve", one), told(there, "Reserve", other))
        refused = [answer for answer in answers if isinstance(answer, DjpError)]
        assert [(error.reason, error.field) for error in refused] == [("REQUEST_ID_REUSED", "request_id")]
    held = sum(row["reserved_nano"] for row in await governance.sql("SELECT reserved_nano FROM reservations"))
    assert (await here.window()).reserved_nano_usd == held
    assert len(await governance.sql("SELECT * FROM reservations")) == 5
