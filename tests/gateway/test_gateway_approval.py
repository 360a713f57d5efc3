"""Runs that wait for a person: paid, parked, and decided once, by whom and why."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from typing import Any

from djp.mesh.errors import Unavailable
from djp.mesh.identity import Identity, identity_scope
from djp.v1 import common_pb2, governance_pb2, run_pb2
from tests.gateway.test_gateway_cancel import cancel
from tests.gateway.test_gateway_requests import refused

PENDING = run_pb2.RUN_STATE_PENDING_APPROVAL


async def pending(gateway: Any, **fields: Any) -> run_pb2.Run:
    """A run that waits for approval."""
    run = await gateway.start(require_approval=True, **fields)
    async for answer in gateway.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id)):
        if answer.event.state.state == PENDING:
            break
    waiting: run_pb2.Run = await gateway.get(run.run_id)
    return waiting


async def approve(gateway: Any, run_id: str, reason: str = "", request_id: str = "") -> run_pb2.Run:
    request = run_pb2.ApproveRunRequest(request_id=request_id or str(uuid.uuid4()), run_id=run_id, reason=reason)
    run: run_pb2.Run = (await gateway.runs.ApproveRun(request)).run
    return run


async def reject(gateway: Any, run_id: str, reason: str = "not true") -> run_pb2.Run:
    request = run_pb2.RejectRunRequest(request_id=str(uuid.uuid4()), run_id=run_id, reason=reason)
    run: run_pb2.Run = (await gateway.runs.RejectRun(request)).run
    return run


async def test_nothing_is_published_before_somebody_says_so(gateway: Any, leaves: Any) -> None:
    run = await pending(gateway)
    assert run.state == PENDING
    assert run.stage == common_pb2.STAGE_APPROVE
    assert run.result.text  # redacted, for who decides
    assert not leaves.artifacts
    (reservation,) = leaves.reservations.values()
    assert reservation.message.state == governance_pb2.RESERVATION_STATE_SETTLED  # nothing is held meanwhile
    assert run.approval.expires_at.ToDatetime() - run.created_at.ToDatetime() > timedelta(days=6)
    ended = await approve(gateway, run.run_id, "it is true: ünïcode 🙂")
    assert ended.state == run_pb2.RUN_STATE_PUBLISHED
    assert ended.approval.approved
    assert (ended.approval.decided_by, ended.approval.reason) == ("tenant default", "it is true: ünïcode 🙂")
    assert ended.approval.HasField("decided_at")
    assert leaves.artifact(ended)["publish"]["text"] == ended.result.text == run.result.text
    assert ended.result.total_nano_usd == reservation.message.charged_nano_usd
    events = await gateway.watch(run.run_id)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert len(leaves.requests("Debate")) == 1


async def test_a_rejected_run_is_stored_nowhere(gateway: Any, leaves: Any) -> None:
    run = await pending(gateway)
    ended = await reject(gateway, run.run_id)
    assert ended.state == run_pb2.RUN_STATE_REJECTED
    assert ended.error.reason == common_pb2.ERROR_REASON_APPROVAL_REJECTED
    assert ended.error.message == "rejected by tenant default: not true"
    assert not ended.approval.approved
    assert ended.approval.reason == "not true"
    assert ended.result.total_nano_usd == 3506
    assert not leaves.artifacts


async def test_a_parked_run_survives_restarts_and_takes_no_place(mesh: Any, leaves: Any) -> None:
    first = await mesh.gateway(max_workers=1)
    run = await pending(first)
    assert (await first.do()).state == run_pb2.RUN_STATE_PUBLISHED
    await first.close()
    second = await mesh.gateway(alone=True)
    assert (await second.get(run.run_id)).state == PENDING
    assert (await approve(second, run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED


async def test_a_command_leaves_its_run_to_be_approved_by_another(mesh: Any) -> None:
    first = await mesh.command()
    run = await pending(first)
    await first.close()
    second = await mesh.command()
    assert (await second.get(run.run_id)).state == PENDING
    assert (await approve(second, run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED


async def test_nobody_decides_in_time(mesh: Any, leaves: Any) -> None:
    gateway = await mesh.gateway(approval_expiry_s=0.2)
    ended = await gateway.do(require_approval=True)
    assert ended.state == run_pb2.RUN_STATE_REJECTED
    assert ended.error.reason == common_pb2.ERROR_REASON_APPROVAL_EXPIRED
    assert not leaves.artifacts
    async with refused("FAILED_PRECONDITION") as refusal:
        await approve(gateway, ended.run_id)
    assert "REJECTED" in refusal.error.message


async def test_of_two_decisions_at_once_one_counts(gateway: Any, leaves: Any) -> None:
    run = await pending(gateway)
    answers = await asyncio.gather(
        *(approve(gateway, run.run_id) for _ in range(4)),
        *(reject(gateway, run.run_id) for _ in range(4)),
        return_exceptions=True,
    )
    ended = await gateway.finish(run.run_id)
    assert ended.state in (run_pb2.RUN_STATE_PUBLISHED, run_pb2.RUN_STATE_REJECTED)
    assert ended.approval.approved == (ended.state == run_pb2.RUN_STATE_PUBLISHED) == bool(leaves.artifacts)
    assert {answer.state for answer in answers if isinstance(answer, run_pb2.Run)} == {ended.state}


async def test_the_same_request_again_is_answered_and_another_one_refused(gateway: Any) -> None:
    run = await pending(gateway)
    request_id = str(uuid.uuid4())
    ended = await approve(gateway, run.run_id, "yes", request_id)
    assert await approve(gateway, run.run_id, "yes", request_id) == ended
    async with refused("ALREADY_EXISTS"):
        await approve(gateway, run.run_id, "no", request_id)
    async with refused("FAILED_PRECONDITION"):
        await reject(gateway, run.run_id)


async def test_only_who_owns_a_run_that_waits_can_decide(gateway: Any, leaves: Any) -> None:
    run = await pending(gateway)
    with identity_scope(Identity(tenant="other")):
        async with refused("NOT_FOUND"):
            await approve(gateway, run.run_id)
        async with refused("NOT_FOUND"):
            await reject(gateway, run.run_id)
    gate = leaves.hold("Debate")
    working = await gateway.start()
    await gate.entered.wait()
    async with refused("FAILED_PRECONDITION") as refusal:
        await approve(gateway, working.run_id)
    assert "RUNNING and does not wait for approval" in refusal.error.message
    assert (await cancel(gateway, run.run_id)).state == run_pb2.RUN_STATE_CANCELLED


async def test_an_approval_outlives_the_gateway_that_took_it(mesh: Any, leaves: Any) -> None:
    first = await mesh.gateway(executor_id="first")
    run = await pending(first)
    leaves.fail("PutArtifact", Unavailable("storage is away"))
    asked = asyncio.create_task(approve(first, run.run_id, "go"))
    async with asyncio.timeout(60):
        while not leaves.requests("PutArtifact"):  # noqa: ASYNC110  the leaf rings no bell
            await asyncio.sleep(0.01)
    await first.close()
    await asyncio.gather(asked, return_exceptions=True)
    del leaves.before["PutArtifact"]
    second = await mesh.gateway(executor_id="second")
    ended = await second.finish(run.run_id)
    assert ended.state == run_pb2.RUN_STATE_PUBLISHED
    assert ended.approval.reason == "go"
