"""Runs that are stopped once their artifact may be stored: there is one if, and only if, the run ends with a result."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Any

import pytest

from djp.mesh.errors import DataLoss, DiskFull, FailedPrecondition, Internal, Unavailable
from djp.v1 import common_pb2, governance_pb2, run_pb2
from djp_gateway.adapters.sql_store import SqlRunStore
from tests.gateway.test_gateway_cancel import cancel
from tests.gateway.test_gateway_crash import assert_finished, held


async def test_a_cancelled_run_whose_artifact_may_be_stored_ends_as_published(gateway: Any, leaves: Any) -> None:
    """It was stored, but the answer never came: only storage knows."""
    gate = leaves.hold("PutArtifactRest")
    run = await gateway.start()
    await gate.entered.wait()
    del leaves.before["PutArtifactRest"]
    leaves.fail("PutArtifact", Unavailable("storage was killed"), times=2)
    assert (await cancel(gateway, run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED
    (content,) = leaves.artifacts.values()
    ended = await gateway.finish(run.run_id)
    assert ended.result.artifact_sha256 == sha256(content).hexdigest()
    assert not ended.HasField("error")
    assert len({request.request_id for request in leaves.requests("PutArtifact")}) == 1
    assert not held(leaves)


async def test_a_cancelled_run_whose_artifact_is_refused_leaves_none(gateway: Any, leaves: Any) -> None:
    gate = leaves.hold("PutArtifact")
    run = await gateway.start()
    await gate.entered.wait()
    leaves.fail("PutArtifact", DiskFull("no room"))
    ended = await cancel(gateway, run.run_id)
    assert (ended.state, ended.error.stage) == (run_pb2.RUN_STATE_CANCELLED, common_pb2.STAGE_STORE)
    assert ended.error.message == "cancelled by tenant default"
    assert not leaves.artifacts
    assert not held(leaves)


async def test_who_takes_over_a_cancelled_run_learns_whether_its_artifact_is_stored(mesh: Any, leaves: Any) -> None:
    first = await mesh.gateway(executor_id="first")
    gate = leaves.hold("PutArtifactRest")
    run = await first.start()
    await gate.entered.wait()
    leaves.fail("PutArtifact", Unavailable("storage was killed"))
    await first.close()
    second = await mesh.gateway(executor_id="second")
    asked = asyncio.create_task(cancel(second, run.run_id))
    async with asyncio.timeout(60):
        while len(leaves.requests("PutArtifact")) < 3:  # noqa: ASYNC110  the leaf rings no bell
            await asyncio.sleep(0.01)
    assert (await second.get(run.run_id)).state == run_pb2.RUN_STATE_RUNNING
    del leaves.before["PutArtifact"], leaves.before["PutArtifactRest"]
    assert (await second.finish(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED
    await asked
    assert not held(leaves)


async def test_a_command_that_stops_while_it_stores_gives_the_money_back(mesh: Any, leaves: Any) -> None:
    first = await mesh.command()
    gate = leaves.hold("PutArtifact")
    run = await first.start()
    await gate.entered.wait()
    await first.close()
    assert not held(leaves)
    gate.opened.set()
    second = await mesh.command()
    assert_finished(await second.finish(run.run_id), leaves)


async def test_a_run_whose_artifact_cannot_be_stored_for_long_ends_when_it_can(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be stored already, so that to end it otherwise would leave an artifact of a run that failed."""
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", ())  # a minute otherwise
    monkeypatch.setattr("djp_gateway.patience._ATTEMPT_S", 0.5)  # half a minute otherwise
    monkeypatch.setattr("djp_gateway.ending._PUT_S", 0.5)  # half a minute otherwise
    gate = leaves.hold("PutArtifact")
    run = await gateway.start()
    await gate.cancelled.wait()
    other = await gateway.start()
    gate.opened.set()
    for run_id in (run.run_id, other.run_id):
        assert (await gateway.finish(run_id)).state == run_pb2.RUN_STATE_PUBLISHED
    assert len(leaves.artifacts) == 2
    assert not held(leaves)


async def test_a_run_that_fails_after_its_artifact_was_stored_ends_as_published(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The artifact took the last room, so that the gateway could not note that it is stored."""
    save, left = SqlRunStore.save, [1]

    async def without_room(store: SqlRunStore, run: run_pb2.Run, *rest: Any, **more: Any) -> None:
        if run.stage == common_pb2.STAGE_SETTLE and left:
            left.pop()
            raise DiskFull("no room")
        await save(store, run, *rest, **more)

    monkeypatch.setattr(SqlRunStore, "save", without_room)
    assert_finished(await gateway.do(), leaves)
    assert not left


async def test_a_run_that_cannot_be_settled_is_published_and_holds_nothing(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", ())
    errors = [Unavailable("governance is away"), Internal("a fault")]

    async def refuse(_request: Any) -> None:
        raise errors.pop(0)

    leaves.before["Settle"] = refuse
    run = await gateway.do()
    assert run.state == run_pb2.RUN_STATE_PUBLISHED
    assert leaves.artifact(run)["publish"]["text"] == run.result.text
    assert run.warnings == ["the run could not be settled, so what it held was given back: a fault"]
    (reservation,) = leaves.reservations.values()
    assert reservation.message.state == governance_pb2.RESERVATION_STATE_RELEASED
    assert run.result.total_nano_usd == reservation.message.charged_nano_usd == 3506


async def test_an_artifact_that_is_known_to_be_stored_is_not_stored_again(
    mesh: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.patience._LAST_S", 0.01)  # five seconds otherwise
    first = await mesh.gateway(executor_id="first")
    gate = leaves.hold("Settle")
    run = await first.start()
    await gate.entered.wait()
    await first.close()
    del leaves.before["Settle"]
    leaves.fail("PutArtifact", DiskFull("no room"))
    second = await mesh.gateway(executor_id="second")
    assert (await second.finish(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED
    assert len(leaves.requests("PutArtifact")) == 1


@pytest.mark.parametrize("refusal", [DiskFull("no room"), DataLoss("damaged", reason="HASH_MISMATCH")])
async def test_an_artifact_that_was_stored_before_it_was_refused_counts(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch, refusal: Any
) -> None:
    """Both refusals come before storage looks whether it has the artifact."""
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.0,))

    async def answer_lost(_request: Any) -> None:
        leaves.fail("PutArtifact", refusal)
        raise Unavailable("storage was killed")

    leaves.before["PutArtifactRest"] = answer_lost
    run = await gateway.do()
    assert run.state == run_pb2.RUN_STATE_PUBLISHED
    (content,) = leaves.artifacts.values()
    assert run.result.artifact_sha256 == sha256(content).hexdigest()
    assert run.result.artifact_name == f"{run.run_id}.json"
    assert not held(leaves)


async def test_a_run_whose_artifact_is_refused_fails_and_is_paid(gateway: Any, leaves: Any) -> None:
    leaves.fail("PutArtifact", FailedPrecondition("not this one", reason="PROVIDER_FAILED"))
    run = await gateway.do()
    assert run.state == run_pb2.RUN_STATE_FAILED
    assert run.error.stage == common_pb2.STAGE_STORE
    assert (run.error.reason, run.error.message) == (common_pb2.ERROR_REASON_PROVIDER_FAILED, "not this one")
    assert run.result.text
    assert run.result.total_nano_usd == 3506
    assert not leaves.artifacts
    assert not held(leaves)


async def test_a_storage_that_was_away_and_is_full_fails_the_run(
    gateway: Any, leaves: Any, until: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", ())
    leaves.fail("PutArtifact", Unavailable("storage is away"))
    run = await gateway.start()
    await until(lambda: "cannot be ended yet" in caplog.text)
    leaves.fail("PutArtifact", DiskFull("no room"))
    ended = await gateway.finish(run.run_id)
    assert (ended.state, ended.error.reason) == (run_pb2.RUN_STATE_FAILED, common_pb2.ERROR_REASON_DISK_FULL)
    assert not leaves.artifacts
    assert not held(leaves)
