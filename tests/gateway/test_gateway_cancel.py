"""Runs that are cancelled: waiting, in the middle of a call, by another gateway, twice, by strangers, too late."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

from djp.mesh.identity import Identity, identity_scope
from djp.v1 import common_pb2, debate_pb2, governance_pb2, run_pb2
from tests.gateway.test_gateway_calls import BOUND, a_call
from tests.gateway.test_gateway_crash import held
from tests.gateway.test_gateway_requests import refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest


async def cancel(gateway: Any, run_id: str, reason: str = "", request_id: str = "") -> run_pb2.Run:
    request = run_pb2.CancelRunRequest(request_id=request_id or str(uuid.uuid4()), run_id=run_id, reason=reason)
    run: run_pb2.Run = (await gateway.runs.CancelRun(request)).run
    return run


async def test_a_run_in_the_middle_of_a_call_pays_what_it_used_and_no_more(gateway: Any, leaves: Any) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def debate(request: debate_pb2.DebateRequest) -> AsyncIterator[debate_pb2.DebateResponse]:
        done, under_way = a_call(), a_call()
        draft = debate_pb2.Draft(draft_id="d1-r1", debater_id="d1", model="openai/gpt-4o", round=1, text="Money.")
        yield debate_pb2.DebateResponse(call_started=done)
        done.cost_nano_usd = 7
        yield debate_pb2.DebateResponse(draft=debate_pb2.DraftFinished(draft=draft, calls=[done]))
        yield debate_pb2.DebateResponse(call_started=under_way)
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    leaves.debate = debate
    run = await gateway.start()
    await begun.wait()
    async for answer in gateway.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id)):
        if answer.event.HasField("draft_finished"):
            break
    ended = await cancel(gateway, run.run_id, "not needed any more: ünïcode 🙂")
    assert ended.state == run_pb2.RUN_STATE_CANCELLED
    assert ended.error.reason == common_pb2.ERROR_REASON_CANCELLED
    assert ended.error.message == "cancelled by tenant default: not needed any more: ünïcode 🙂"
    assert ended.error.stage == common_pb2.STAGE_DEBATE
    assert not ended.error.retryable
    await cancelled.wait()  # nobody goes on spending for it
    (reservation,) = leaves.reservations.values()
    assert reservation.message.state == governance_pb2.RESERVATION_STATE_RELEASED
    assert ended.result.total_nano_usd == reservation.message.charged_nano_usd == 7 + BOUND
    assert (await gateway.watch(run.run_id))[-1].state.run.state == run_pb2.RUN_STATE_CANCELLED
    assert not leaves.artifacts


async def test_a_run_that_waits_for_its_turn_never_begins(mesh: Any, leaves: Any) -> None:
    gateway = await mesh.gateway(max_workers=1)
    gate = leaves.hold("Debate")
    first = await gateway.start()
    await gate.entered.wait()
    second = await gateway.start()
    third = await gateway.start()
    ended = await cancel(gateway, second.run_id)
    assert ended.state == run_pb2.RUN_STATE_CANCELLED
    assert ended.error.message == "cancelled by tenant default"
    assert not ended.HasField("started_at")
    gate.opened.set()
    for run in (first, third):
        assert (await gateway.finish(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED
    assert not held(leaves)
    assert second.run_id not in {request.run_id for request in leaves.requests("Reserve")}


async def test_another_gateway_can_be_asked(mesh: Any, leaves: Any) -> None:
    first = await mesh.gateway(executor_id="first")
    second = await mesh.gateway(executor_id="second")
    gate = leaves.hold("Judge")
    run = await first.start()
    await gate.entered.wait()
    assert (await cancel(second, run.run_id)).state == run_pb2.RUN_STATE_CANCELLED
    await gate.cancelled.wait()
    assert not held(leaves)


async def test_asking_twice_or_at_once_is_asking_once(gateway: Any, leaves: Any) -> None:
    gate = leaves.hold("Debate")
    run = await gateway.start()
    await gate.entered.wait()
    request_id = str(uuid.uuid4())
    answers = await asyncio.gather(
        *(cancel(gateway, run.run_id, "first", request_id) for _ in range(5)),
        *(cancel(gateway, run.run_id, "another") for _ in range(5)),
    )
    assert {answer.state for answer in answers} == {run_pb2.RUN_STATE_CANCELLED}
    assert len({answer.error.message for answer in answers}) == 1
    assert (await cancel(gateway, run.run_id, "first", request_id)).state == run_pb2.RUN_STATE_CANCELLED
    async with refused("ALREADY_EXISTS") as refusal:
        await cancel(gateway, run.run_id, "second", request_id)
    assert refusal.error.reason == "REQUEST_ID_REUSED"
    (reservation,) = leaves.reservations.values()
    assert reservation.releases == 1
    states = [event.state.state for event in await gateway.watch(run.run_id) if event.HasField("state")]
    assert states == [run_pb2.RUN_STATE_RUNNING, run_pb2.RUN_STATE_CANCELLED]


async def test_a_run_that_has_ended_stays_as_it_is(gateway: Any) -> None:
    run = await gateway.do()
    assert await cancel(gateway, run.run_id) == run


async def test_strangers_are_told_nothing(gateway: Any, leaves: Any) -> None:
    gate = leaves.hold("Debate")
    run = await gateway.start()
    await gate.entered.wait()
    with identity_scope(Identity(tenant="other")):
        async with refused("NOT_FOUND"):
            await cancel(gateway, run.run_id)
        async with refused("NOT_FOUND"):
            await cancel(gateway, run.run_id[:8])
    gate.opened.set()
    assert (await gateway.finish(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED


async def test_a_run_whose_artifact_is_stored_ends_as_published(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.patience._LAST_S", 0.01)  # five seconds otherwise
    gate = leaves.hold("Settle")
    run = await gateway.start()
    await gate.entered.wait()
    del leaves.before["Settle"]
    assert (await cancel(gateway, run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED
    assert not held(leaves)


async def test_an_order_outlives_the_gateway_that_should_have_heard_it(
    mesh: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await mesh.gateway(executor_id="first")
    gate = leaves.hold("Debate")
    run = await first.start()
    await gate.entered.wait()
    monkeypatch.setattr("djp_gateway.runner._END_S", 0.0)  # it leaves the run to the next start
    await first.close()
    monkeypatch.undo()
    monkeypatch.setenv("DJP_HOME", str(mesh.folder))
    monkeypatch.setattr("djp_gateway.ordering._END_S", 0.0)  # nobody is there to end it
    second = await mesh.gateway(executor_id="second")
    assert (await cancel(second, run.run_id, "too slow")).state == run_pb2.RUN_STATE_RUNNING
    third = await mesh.gateway(executor_id="first")
    ended = await third.finish(run.run_id)
    assert ended.state == run_pb2.RUN_STATE_CANCELLED
    assert "too slow" in ended.error.message
    assert not held(leaves)
