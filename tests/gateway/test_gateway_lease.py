"""What a run has reserved has a lease: kept while the run goes on, and lost only together with the run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from djp.mesh.errors import NotFound, Unavailable
from djp.mesh.identity import Identity, identity_scope
from djp.v1 import common_pb2, debate_pb2, governance_pb2, run_pb2
from tests.gateway.test_gateway_calls import BOUND, a_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Held:
    """A debate that begins calls and then waits."""

    def __init__(self, leaves: Any, *calls: common_pb2.ModelCall) -> None:
        self.calls = calls
        self.cancelled = asyncio.Event()
        self.goes_on = asyncio.Event()
        leaves.debate = self.debate

    async def debate(self, request: debate_pb2.DebateRequest) -> AsyncIterator[debate_pb2.DebateResponse]:
        try:
            for call in self.calls:
                yield debate_pb2.DebateResponse(call_started=call)
            await self.goes_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        draft = debate_pb2.Draft(
            draft_id="d1-r1", debater_id="d1", model="openai/gpt-4o", round=1, text="Money [Budgets]."
        )
        yield debate_pb2.DebateResponse(draft=debate_pb2.DraftFinished(draft=draft, calls=self.calls))
        yield debate_pb2.DebateResponse(finished=debate_pb2.DebateFinished(drafts=[draft], rounds=1))


def started_calls(leaves: Any) -> list[list[str]]:
    """The ids that each Extend named."""
    return [[call.call_id for call in request.open_calls] for request in leaves.requests("Extend")]


async def test_a_run_asks_for_a_lease(leaves: Any, mesh: Any) -> None:
    gateway = await mesh.gateway(reservation_lease_s=90)
    assert (await gateway.do()).state == run_pb2.RUN_STATE_PUBLISHED
    (request,) = leaves.requests("Reserve")
    assert request.lease.seconds == 90
    assert not leaves.requests("Extend")  # it was over long before half of the lease


async def test_without_leases_nothing_is_asked_or_extended(leaves: Any, mesh: Any) -> None:
    held = Held(leaves, a_call())
    gateway = await mesh.gateway(reservation_lease_s=0)
    run = await gateway.start()
    held.goes_on.set()
    assert (await gateway.finish(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED
    (request,) = leaves.requests("Reserve")
    assert not request.HasField("lease")
    assert not leaves.requests("Extend")


async def test_the_ledger_learns_of_a_call_that_costs_something_when_it_begins(
    leaves: Any, mesh: Any, until: Any
) -> None:
    call = a_call(error="a word of the task")
    held = Held(leaves, call)
    gateway = await mesh.gateway(reservation_lease_s=86_400)
    run = await gateway.start()
    await until(lambda: [call.call_id] in started_calls(leaves))
    (told,) = leaves.requests("Extend")[-1].open_calls
    assert (told.cost_nano_usd, told.usage_unknown, told.error) == (BOUND, True, "")
    assert leaves.requests("Extend")[-1].reservation_id == (await gateway.get(run.run_id)).reservation_id
    held.goes_on.set()
    assert (await gateway.finish(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED


async def test_a_lease_is_extended_for_as_long_as_the_run_goes_on(leaves: Any, mesh: Any, until: Any) -> None:
    held = Held(leaves, a_call(bound=0))  # an offline model's: nobody has to know of it at once
    gateway = await mesh.gateway(reservation_lease_s=4)
    run = await gateway.start()
    await until(lambda: len(leaves.requests("Extend")) >= 3)  # longer than one lease
    ids = [request.request_id for request in leaves.requests("Extend")]
    assert len(set(ids)) == len(ids)
    assert not held.cancelled.is_set()
    held.goes_on.set()
    assert (await gateway.finish(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED
    after = len(leaves.requests("Extend"))
    assert (await gateway.do()).state == run_pb2.RUN_STATE_PUBLISHED
    assert len(leaves.requests("Extend")) == after  # of the first run, none came later


async def test_a_run_whose_money_is_no_longer_held_spends_nothing_more(leaves: Any, mesh: Any) -> None:
    held = Held(leaves, a_call())

    async def lapse(_request: Any) -> None:
        for one in leaves.reservations.values():
            one.message.state = governance_pb2.RESERVATION_STATE_LAPSED

    leaves.before["Extend"] = lapse
    gateway = await mesh.gateway(reservation_lease_s=600)
    run = await gateway.do()
    assert held.cancelled.is_set()
    assert_lost(run)
    assert run.result.total_nano_usd == BOUND  # what it had begun is paid


@pytest.mark.parametrize("error", [Unavailable("governance is away"), NotFound("there is no such reservation")])
async def test_a_run_that_governance_does_not_hear_of_ends(
    leaves: Any, mesh: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.01,))
    held = Held(leaves)
    leaves.fail("Extend", error, times=10_000)
    gateway = await mesh.gateway(reservation_lease_s=1)
    run = await gateway.do()
    assert held.cancelled.is_set()
    assert_lost(run)
    assert run.result.total_nano_usd == 0


async def test_a_moment_without_governance_is_bridged(leaves: Any, mesh: Any, until: Any) -> None:
    held = Held(leaves, a_call())
    leaves.fail("Extend", Unavailable("governance is away"), times=3)
    gateway = await mesh.gateway(reservation_lease_s=600)
    run = await gateway.start()
    await until(lambda: len(leaves.requests("Extend")) == 4)
    assert len({request.request_id for request in leaves.requests("Extend")}) == 1
    held.goes_on.set()
    assert (await gateway.finish(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED


async def test_an_extension_that_crosses_the_settlement_ends_nothing(leaves: Any, mesh: Any, until: Any) -> None:
    settling = leaves.hold("Settle")
    extending = leaves.hold("Extend")
    gateway = await mesh.gateway(reservation_lease_s=4)
    run = await gateway.start()
    await settling.entered.wait()
    await extending.entered.wait()
    for one in leaves.reservations.values():
        one.message.state = governance_pb2.RESERVATION_STATE_SETTLED
    extending.opened.set()
    await until(lambda: len(leaves.requests("Extend")) == 1)
    settling.opened.set()
    assert (await gateway.finish(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED


async def test_a_run_is_told_that_its_budget_is_nearly_used_up(leaves: Any, gateway: Any) -> None:
    leaves.pace_ms = 5_400_000
    run = await gateway.do()
    assert run.state == run_pb2.RUN_STATE_PUBLISHED
    (warning,) = run.warnings
    assert "1:30:00 apart" in warning


async def test_the_runs_of_a_slowed_tenant_wait_behind_those_of_others(leaves: Any, mesh: Any) -> None:
    elsewhere = await mesh.gateway(executor_id="elsewhere")
    leaves.pace_ms = 3_600_000
    await elsewhere.do()
    leaves.pace_ms = 0
    await elsewhere.close()
    gateway = await mesh.gateway(max_workers=1)
    searching = leaves.hold("ProjectDebate")
    first = await gateway.start()
    await searching.entered.wait()
    slowed = [await gateway.start() for _ in range(2)]
    with identity_scope(Identity(tenant="other")):
        other = await gateway.start()
    del leaves.before["ProjectDebate"]
    searching.opened.set()
    for run in (first, *slowed):
        await gateway.finish(run.run_id)
    order = [request.run_id for request in leaves.requests("Reserve")][1:]
    assert order == [first.run_id, other.run_id, *(run.run_id for run in slowed)]


def assert_lost(run: run_pb2.Run) -> None:
    assert run.state == run_pb2.RUN_STATE_FAILED
    assert run.error.reason == common_pb2.ERROR_REASON_INTERRUPTED
    assert run.error.retryable
    assert "no longer held" in run.error.message
