"""One trace per run, whichever gateways work on it one after the other."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

from djp.mesh import telemetry
from djp.mesh.run_spans import read_spans
from djp.v1 import run_pb2

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
        await until(lambda run_id=one.run_id: len(roots_of(spans, run_id)) == 2)
        found, roots = read_spans(spans, one.run_id), roots_of(spans, one.run_id)
        assert {span["trace_id"] for span in found} == {ended.trace_id}
        assert ended.trace_id == uuid.UUID(one.run_id).hex
        assert [(span["name"], span["status"]) for span in roots] == [("run", "ERROR"), ("run", "UNSET")]
        by_id = {span["span_id"]: span for span in found}
        parts = [{span["name"] for span in found if _root(span, by_id) == root} for root in roots]
        assert "djp.v1.DebateService/Debate" in parts[0]
        assert "djp.v1.JudgeService/Judge" in parts[1]
        assert "djp.v1.DebateService/Debate" not in parts[1]  # its drafts were kept


async def test_a_run_that_somebody_approved_ends_in_its_trace(mesh: Any, leaves: Any, spans: Path, until: Any) -> None:
    first = await mesh.gateway(executor_id="first")
    run = await first.start(require_approval=True)
    await until(lambda: len(roots_of(spans, run.run_id)) == 1)  # it is parked, so nobody works on it
    await first.close()
    second = await mesh.gateway(executor_id="second")
    request = run_pb2.ApproveRunRequest(request_id=str(uuid.uuid4()), run_id=run.run_id)
    await second.runs.ApproveRun(request)
    ended = await second.finish(run.run_id)
    await until(lambda: len(roots_of(spans, run.run_id)) == 2)
    found = read_spans(spans, run.run_id)
    assert {span["trace_id"] for span in found} == {ended.trace_id}
    assert "store" in {span["name"] for span in found}


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


def _root(span: dict[str, Any], by_id: dict[str, dict[str, Any]]) -> dict[str, Any]:
    while span["parent_id"]:
        span = by_id[span["parent_id"]]
    return span
