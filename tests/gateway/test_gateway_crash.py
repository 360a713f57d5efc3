"""Gateways that stop or die in the middle of runs: money comes back, and every run gets an end."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from djp.mesh.errors import ResourceExhausted, Unavailable
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import common_pb2, governance_pb2, run_pb2
from djp_gateway.adapters.sql_store import SqlRunStore
from djp_gateway.ports import COMMAND

METHODS = {
    "Search": common_pb2.STAGE_SEARCH,
    "ProjectDebate": common_pb2.STAGE_PROJECT,
    "Reserve": common_pb2.STAGE_RESERVE,
    "Debate": common_pb2.STAGE_DEBATE,
    "Charge": common_pb2.STAGE_DEBATE,
    "VerifyCitations": common_pb2.STAGE_CITE,
    "Judge": common_pb2.STAGE_JUDGE,
    "Redact": common_pb2.STAGE_REDACT,
    "PutArtifact": common_pb2.STAGE_STORE,
    "Settle": common_pb2.STAGE_SETTLE,
}


def held(leaves: Any) -> list[Any]:
    return [r for r in leaves.reservations.values() if r.message.state == governance_pb2.RESERVATION_STATE_HELD]


def assert_interrupted(run: run_pb2.Run) -> None:
    assert run.state == run_pb2.RUN_STATE_FAILED
    assert run.error.reason == common_pb2.ERROR_REASON_INTERRUPTED
    assert run.error.retryable
    assert run.HasField("finished_at")


def assert_finished(run: run_pb2.Run, leaves: Any) -> None:
    """The run ended as it would have: its artifact was stored, and only its settlement was left."""
    assert run.state == run_pb2.RUN_STATE_PUBLISHED
    assert not run.HasField("error")
    assert leaves.artifact(run)["publish"]["text"] == run.result.text
    reservation = leaves.reservations[run.reservation_id]
    assert reservation.message.state == governance_pb2.RESERVATION_STATE_SETTLED
    assert reservation.releases == 0
    assert run.result.total_nano_usd == reservation.message.charged_nano_usd == 3506
    assert sum(total.cost_nano_usd for total in run.result.totals) == 3506
    assert run.result.total_tokens == 4 * 140


@pytest.mark.parametrize("method", ["Debate", "Judge", "Redact"])
async def test_a_gateway_that_stops_gives_the_money_back(mesh: Any, leaves: Any, method: str) -> None:
    first = await mesh.command()
    gate = leaves.hold(method)
    run = await first.start()
    await gate.entered.wait()
    await first.close()
    assert not held(leaves)
    del leaves.before[method]
    second = await mesh.command()
    ended = await second.get(run.run_id)
    assert_interrupted(ended)
    assert ended.error.stage == METHODS[method]
    (reservation,) = leaves.reservations.values()
    assert reservation.releases == 1
    assert ended.result.total_nano_usd == reservation.message.charged_nano_usd
    events = await second.watch(run.run_id)
    assert events[-1].state.state == run_pb2.RUN_STATE_FAILED


@pytest.mark.parametrize("stopping", [False, True], ids=["left to the next start", "ended while stopping"])
async def test_a_run_whose_artifact_is_stored_ends_as_published(
    mesh: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch, stopping: bool
) -> None:
    first = await mesh.command()
    gate = leaves.hold("Settle")
    run = await first.start()
    await gate.entered.wait()
    if stopping:
        del leaves.before["Settle"]
    # It has five seconds otherwise: to arrive, and to be asked again.
    monkeypatch.setattr("djp_gateway.patience._LAST_S", 0.01)
    monkeypatch.setattr("djp_gateway.runner._END_S", 30.0 if stopping else 0.2)
    await first.close()
    leaves.before.pop("Settle", None)
    monkeypatch.undo()
    monkeypatch.setenv("DJP_HOME", str(mesh.folder))
    if not stopping:
        (reservation,) = leaves.reservations.values()
        # The ledger may have closed it without anybody hearing of that.
        reservation.message.state = governance_pb2.RESERVATION_STATE_SETTLED
    second = await mesh.command()
    events = await second.watch(run.run_id)
    assert events[-1].state.state == run_pb2.RUN_STATE_PUBLISHED
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert_finished(await second.get(run.run_id), leaves)


async def test_a_settlement_that_takes_longer_than_its_time_is_made_after_all(
    mesh: Any, leaves: Any, gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.01,))
    leaves.fail("Settle", Unavailable("governance is away"), times=5)
    assert_finished(await gateway.do(), leaves)
    assert len(leaves.requests("Settle")) == 6
    assert len({request.request_id for request in leaves.requests("Settle")}) == 1


async def test_a_charge_that_governance_could_not_take_is_paid_before_the_rest_goes_back(
    mesh: Any, leaves: Any, gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.01,))
    leaves.fail("Charge", Unavailable("governance is away"), times=3)  # two for the run, one for its end
    run = await gateway.do()
    assert run.state == run_pb2.RUN_STATE_FAILED
    assert run.error.stage == common_pb2.STAGE_DEBATE
    (reservation,) = leaves.reservations.values()
    assert reservation.message.charged_nano_usd == run.result.total_nano_usd == 1001
    assert reservation.releases == 1
    assert len({request.request_id for request in leaves.requests("Charge")}) == 1


async def test_a_leaf_that_is_frozen_does_not_hold_the_end_of_a_run_for_ever(
    mesh: Any, leaves: Any, gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.ending._END_S", 0.05)  # five seconds otherwise
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", ())
    leaves.fail("Judge", Unavailable("the jury is out"))
    gate = leaves.hold("ListReservations")
    run = await gateway.start()
    await gate.cancelled.wait()  # the first attempt was given up
    gate.opened.set()
    assert (await gateway.finish(run.run_id)).state == run_pb2.RUN_STATE_FAILED
    assert not held(leaves)


async def test_a_frozen_leaf_does_not_hold_a_step_after_the_debate_for_ever(
    mesh: Any, leaves: Any, gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.0, 0.0))
    monkeypatch.setattr("djp_gateway.patience._ATTEMPT_S", 0.5)  # half a minute otherwise
    monkeypatch.setattr("djp_gateway.steps._STEP_S", 0.05)  # two minutes otherwise
    monkeypatch.setattr("djp_gateway.publishing._MESSAGE_S", 0.05)  # five seconds otherwise
    leaves.hold("Redact")
    run = await gateway.do()
    assert run.error.stage == common_pb2.STAGE_REDACT
    assert run.error.reason == common_pb2.ERROR_REASON_DEADLINE_EXCEEDED
    assert not held(leaves)


async def test_runs_that_wait_in_the_queue_end_with_the_gateway(mesh: Any, leaves: Any) -> None:
    first = await mesh.gateway(max_workers=1, executor_id=COMMAND, alone=True)
    gate = leaves.hold("Debate")
    runs = [await first.start() for _ in range(5)]
    await gate.entered.wait()
    await first.close()
    second = await mesh.command()
    for run in runs:
        assert_interrupted(await second.get(run.run_id))
    assert len(leaves.reservations) == 1
    assert not held(leaves)


async def test_a_run_whose_money_cannot_come_back_yet_is_tried_again(
    mesh: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await mesh.command()
    gate = leaves.hold("Debate")
    run = await first.start()
    await gate.entered.wait()
    await leaves.stop("governance")
    monkeypatch.setattr("djp_gateway.runner._END_S", 0.2)  # it has five seconds otherwise
    await first.close()
    assert held(leaves)

    second = await mesh.command()
    assert (await second.get(run.run_id)).state == run_pb2.RUN_STATE_RUNNING
    await leaves.start("governance")
    assert_interrupted(await second.finish(run.run_id))
    assert not held(leaves)


async def test_a_failing_run_is_not_forgotten_while_governance_is_away(
    mesh: Any, leaves: Any, gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", ())
    leaves.fail("Judge", Unavailable("the jury is out"))
    leaves.fail("ListReservations", Unavailable("back soon"), times=2)
    run = await gateway.do()
    assert run.state == run_pb2.RUN_STATE_FAILED
    assert run.error.reason == common_pb2.ERROR_REASON_UNAVAILABLE
    assert not held(leaves)
    (reservation,) = leaves.reservations.values()
    assert reservation.releases == 1


async def test_another_executors_runs_are_left_alone(mesh: Any, leaves: Any) -> None:
    first = await mesh.gateway()
    gate = leaves.hold("Debate")
    run = await first.start()
    await gate.entered.wait()
    second = await mesh.gateway(executor_id="other", heartbeat_s=0.1)
    assert (await second.get(run.run_id)).state == run_pb2.RUN_STATE_RUNNING
    gate.opened.set()
    assert (await second.finish(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED


async def test_watchers_are_told_when_the_end_of_a_run_has_no_room(
    leaves: Any, gateway: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, ended, save = asyncio.Event(), asyncio.Event(), SqlRunStore.save

    async def save_if_there_is_room(store: Any, run: Any, *more: Any) -> None:
        if full.is_set():
            raise ResourceExhausted("disk full: free some space", reason="DISK_FULL")
        await save(store, run, *more)
        if run.state == run_pb2.RUN_STATE_FAILED:
            ended.set()

    monkeypatch.setattr(SqlRunStore, "save", save_if_there_is_room)
    gate = leaves.hold("Debate")
    run = await gateway.start()
    await gate.entered.wait()
    full.set()
    gate.opened.set()
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await gateway.watch(run.run_id)
    error = error_from_rpc(told.value)
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "DISK_FULL")
    assert "free some space" in error.message
    assert run.run_id in error.message
    full.clear()
    await ended.wait()
    assert (await gateway.finish(run.run_id)).error.reason == common_pb2.ERROR_REASON_DISK_FULL
    assert not held(leaves)
