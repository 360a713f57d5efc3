"""One trace per run, whichever gateways work on it one after the other."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from djp.mesh import telemetry
from djp.mesh.channel import open_channel
from djp.mesh.errors import FailedPrecondition
from djp.mesh.run_spans import read_spans
from djp.v1 import run_pb2, run_pb2_grpc
from tests.gateway.test_gateway_durable import SILENCE_S, killable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def spans(tmp_path: Path) -> Iterator[Path]:
    for service in ("gateway", "debate", "judge", "redaction", "grounding", "governance", "storage"):
        telemetry.setup(service, spans_dir=tmp_path)
    yield tmp_path
    telemetry.shutdown()


async def test_a_run_that_another_gateway_takes_up_goes_on_in_its_trace(
    mesh: Any, leaves: Any, spans: Path, until: Any
) -> None:
    first = await mesh.gateway(executor_id="first")
    leaves.hold("Judge")
    run, other = await first.start(corpus="handbook"), await first.start()
    await until(lambda: len(leaves.requests("Judge")) == 2)
    await first.close()
    del leaves.before["Judge"]
    second = await mesh.gateway(executor_id="second")
    for one in (run, other):
        ended = await second.finish(one.run_id)
        assert (ended.state, ended.attempt) == (run_pb2.RUN_STATE_PUBLISHED, 2)
        await until(lambda run_id=one.run_id: roots_of(spans, run_id))
        assert_whole(read_spans(spans, one.run_id), ended)
        debates = [s for s in read_spans(spans, one.run_id) if s["name"] == "djp.v1.DebateService/Debate"]
        assert len(debates) == 1  # its drafts were kept


async def test_the_trace_of_a_run_whose_gateway_was_killed_has_no_hole(
    mesh: Any, leaves: Any, spans: Path, until: Any
) -> None:
    address = f"unix:{mesh.folder}/killed.sock"
    gate = leaves.hold("Judge")
    process = await killable(leaves, address, spans=spans)
    async with open_channel(address) as channel:
        request = run_pb2.StartRunRequest(request_id=str(uuid.uuid4()), run=run_pb2.RunRequest(task="Go on."))
        run = (await run_pb2_grpc.RunServiceStub(channel).StartRun(request, wait_for_ready=True)).run
        await gate.entered.wait()
    process.kill()
    await process.wait()
    del leaves.before["Judge"]
    second = await mesh.gateway(executor_id="second", executor_silence_s=SILENCE_S)
    ended = await second.finish(run.run_id)
    assert (ended.state, ended.attempt) == (run_pb2.RUN_STATE_PUBLISHED, 2)
    await until(lambda: roots_of(spans, run.run_id))
    found = read_spans(spans, run.run_id)
    assert_whole(found, ended)
    judged = [span for span in found if span["name"] == "judge"]
    assert [(span["status"], span["attributes"].get("djp.error_reason")) for span in judged] == [
        ("ERROR", "INTERRUPTED"),
        ("UNSET", None),
    ]


@pytest.mark.parametrize("method", ["ProjectDebate", "Debate", "PutArtifact"])
async def test_the_stage_in_which_a_run_fails_and_the_run_say_why(
    mesh: Any, leaves: Any, spans: Path, until: Any, method: str
) -> None:
    leaves.fail(method, FailedPrecondition("no"))
    gateway = await mesh.gateway()
    ended = await gateway.do()
    assert ended.state == run_pb2.RUN_STATE_FAILED
    await until(lambda: roots_of(spans, ended.run_id))
    found = read_spans(spans, ended.run_id)
    assert_whole(found, ended)
    failed = {span["name"] for span in found if span["status"] == "ERROR" and "/" not in span["name"]}
    assert failed == {"run", {"ProjectDebate": "project", "Debate": "debate", "PutArtifact": "store"}[method]}
    assert {span["attributes"]["djp.error_reason"] for span in found if span["name"] in failed} == {
        "FAILED_PRECONDITION"
    }


async def test_a_run_that_never_began_has_a_trace_when_it_has_ended(
    mesh: Any, leaves: Any, spans: Path, until: Any
) -> None:
    gateway = await mesh.gateway(max_workers=1)
    gate = leaves.hold("Debate")
    first = await gateway.start()
    await gate.entered.wait()
    waiting = await gateway.start()
    request = run_pb2.CancelRunRequest(request_id=str(uuid.uuid4()), run_id=waiting.run_id, reason="no need")
    assert (await gateway.runs.CancelRun(request)).run.state == run_pb2.RUN_STATE_CANCELLED
    gate.opened.set()
    await gateway.finish(first.run_id)
    (root,) = roots_of(spans, waiting.run_id)
    assert (root["name"], root["attributes"]["djp.error_reason"]) == ("run", "CANCELLED")


async def test_a_run_that_somebody_approved_ends_in_its_trace(mesh: Any, leaves: Any, spans: Path, until: Any) -> None:
    first = await mesh.gateway(executor_id="first")
    run = await first.start(require_approval=True)
    async for answer in first.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id)):
        if answer.event.state.state == run_pb2.RUN_STATE_PENDING_APPROVAL:
            break  # it is parked, so nobody works on it
    await first.close()
    second = await mesh.gateway(executor_id="second")
    request = run_pb2.ApproveRunRequest(request_id=str(uuid.uuid4()), run_id=run.run_id)
    await second.runs.ApproveRun(request)
    ended = await second.finish(run.run_id)
    await until(lambda: roots_of(spans, run.run_id))
    found = read_spans(spans, run.run_id)
    assert_whole(found, ended)
    assert {"store", "approve"} <= {span["name"] for span in found}
    assert not [span for span in found if span["status"] == "ERROR"]


async def test_a_caller_cannot_put_its_calls_into_the_trace_of_a_run(mesh: Any, spans: Path) -> None:
    gateway = await mesh.gateway()
    run = await gateway.do()
    request = run_pb2.GetRunRequest(run_id=run.run_id)
    await gateway.runs.GetRun(request, metadata=(("baggage", f"djp.run_id={run.run_id}"),))
    calls = [span for span in roots_of(spans, run.run_id) if span["name"] == "djp.v1.RunService/GetRun"]
    assert len(calls) == 1
    assert calls[0]["trace_id"] != run.trace_id


def roots_of(spans: Path, run_id: str) -> list[dict[str, Any]]:
    """The finished spans of a run that have no parent, in order of start."""
    return [span for span in read_spans(spans, run_id) if not span["parent_id"]]


def assert_whole(found: list[dict[str, Any]], run: run_pb2.Run) -> None:
    """One trace, one root, no span twice, and no parent that is missing."""
    assert run.trace_id == uuid.UUID(run.run_id).hex
    assert {span["trace_id"] for span in found} == {run.trace_id}
    assert [span["name"] for span in found if not span["parent_id"]] == ["run"]
    ids = [span["span_id"] for span in found]
    assert len(ids) == len({*ids})
    assert {span["parent_id"] for span in found} <= {*ids, ""}
