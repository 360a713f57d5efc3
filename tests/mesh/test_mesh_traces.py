"""One trace over the hops of a run, each span with its service, parent, run id and tenant; kept locally and bounded."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from djp.mesh import run_spans, telemetry
from djp.mesh.errors import NotFound
from djp.mesh.identity import Identity, identity_scope
from djp.mesh.run_spans import read_spans


@pytest.fixture(params=["unix", "local"])
def scheme(request):
    return request.param


@pytest.fixture
def spans(tmp_path):
    for service in ("cli", "hub", "leaf"):
        telemetry.setup(service, spans_dir=tmp_path / "spans")
    yield tmp_path / "spans"
    telemetry.shutdown()


async def _hub_and_leaf(mesh):
    async def leaf_streams(request, _context):
        with telemetry.span("model call", **{"gen_ai.request.model": "offline/lead"}):
            yield request
        yield request

    leaf = await mesh.stub((await mesh.serve(mesh.service("leaf", Stream=leaf_streams))).address)

    async def hub_forwards(request, _context):
        if request.value == "nothing":
            raise NotFound("the secret text was not found")
        with telemetry.span("debate"):
            return [r async for r in leaf.Stream(request)][-1]

    return await mesh.stub((await mesh.serve(mesh.service("hub", Unary=hub_forwards))).address)


async def test_one_trace_with_the_right_edges_and_the_run_on_every_span(mesh, spans):
    stub = await _hub_and_leaf(mesh)
    with (
        identity_scope(Identity("acme")),
        telemetry.service_scope("cli"),
        telemetry.run_scope("run-1"),
        telemetry.span("djp run"),
    ):
        await stub.Unary(mesh.Text(value="a private question"))
    found = read_spans(spans, "run-1")
    names = {span["span_id"]: f"{span['service']}:{span['name']}" for span in found}
    edges = {names[span["span_id"]]: names.get(span["parent_id"], "") for span in found}
    assert edges == {
        "cli:djp run": "",
        "hub:test.Probe/Unary": "cli:djp run",
        "hub:debate": "hub:test.Probe/Unary",
        "leaf:test.Probe/Stream": "hub:debate",
        "leaf:model call": "leaf:test.Probe/Stream",
    }
    assert len({span["trace_id"] for span in found}) == 1
    for span in found:
        assert span["attributes"]["djp.run_id"] == "run-1"
        assert span["attributes"]["djp.tenant"] == "acme"
        assert 0 < span["start_ns"] <= span["end_ns"]
    assert found[0]["name"] == "djp run"
    assert "private" not in (spans / "run-1.jsonl").read_text()


async def test_two_runs_at_once_keep_apart(mesh, spans):
    stub = await _hub_and_leaf(mesh)

    async def run(run_id):
        with telemetry.run_scope(run_id):
            await stub.Unary(mesh.Text())

    await asyncio.gather(*(run(f"run-{i}") for i in range(10)))
    for i in range(10):
        found = read_spans(spans, f"run-{i}")
        assert len(found) == 4
        assert len({span["trace_id"] for span in found}) == 1


async def test_a_failed_call_is_marked_with_its_reason_and_no_text(mesh, spans):
    stub = await _hub_and_leaf(mesh)
    with telemetry.run_scope("run-2"), pytest.raises(grpc.aio.AioRpcError):
        await stub.Unary(mesh.Text(value="nothing"))
    (span,) = read_spans(spans, "run-2")
    assert span["status"] == "ERROR"
    assert span["attributes"]["djp.error_reason"] == "NOT_FOUND"
    assert "secret" not in str(span)


async def test_a_cancelled_stream_ends_its_spans(mesh, spans, caplog):
    stub = await _hub_and_leaf(mesh)
    leaf = await mesh.stub(mesh.address("leaf"))
    del stub
    with telemetry.run_scope("run-3"):
        call = leaf.Stream(mesh.Text())
        await call.read()
        call.cancel()
    async with asyncio.timeout(10):
        while len(read_spans(spans, "run-3")) < 2:  # noqa: ASYNC110  the file is all there is to wait for
            await asyncio.sleep(0.01)
    assert {span["name"] for span in read_spans(spans, "run-3")} == {"model call", "test.Probe/Stream"}
    assert "Failed to detach" not in caplog.text


async def test_a_call_outside_any_run_is_not_kept(mesh, spans):
    stub = await _hub_and_leaf(mesh)
    await stub.Unary(mesh.Text())
    assert not spans.exists()


@pytest.mark.parametrize("run_id", ["../../etc/passwd", "a/b", "", "x" * 65, "a b"])
async def test_a_forged_run_id_makes_no_file(mesh, spans, run_id):
    with pytest.raises(ValueError, match="malformed"), telemetry.run_scope(run_id):
        pass
    stub = await _hub_and_leaf(mesh)
    encoded = "".join(f"%{byte:02X}" for byte in run_id.encode())
    await stub.Unary(mesh.Text(), metadata=(("baggage", f"djp.run_id={encoded}"),))
    assert not spans.exists()
    assert read_spans(spans, run_id) == []


async def test_other_baggage_of_a_caller_stops_at_the_first_server(mesh, spans):
    async def shows(*_):
        return mesh.Text(value=telemetry.trace_metadata().get("baggage", ""))

    stub = await mesh.probe(Unary=shows)
    answer = await stub.Unary(mesh.Text(), metadata=(("baggage", "secret=1,djp.run_id=run-9"),))
    assert answer.value == "djp.run_id=run-9"


def test_only_the_newest_runs_are_kept(spans, monkeypatch):
    monkeypatch.setattr(run_spans, "KEEP_RUNS", 3)
    for i in range(6):
        with telemetry.service_scope("cli"), telemetry.run_scope(f"run-{i}"), telemetry.span("work"):
            pass
        os.utime(spans / f"run-{i}.jsonl", (i, i))
    assert sorted(p.stem for p in spans.iterdir()) == ["run-3", "run-4", "run-5"]


def test_a_line_cut_off_by_a_crash_is_left_out(spans):
    with telemetry.service_scope("cli"), telemetry.run_scope("run-1"), telemetry.span("work"):
        pass
    with (spans / "run-1.jsonl").open("a") as file:
        file.write('{"trace_id": "12')
    assert [span["name"] for span in read_spans(spans, "run-1")] == ["work"]


def test_a_folder_that_cannot_be_written_loses_spans_and_nothing_else(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("")
    telemetry.setup("blocked", spans_dir=blocked / "spans")
    try:
        with telemetry.service_scope("blocked"), telemetry.run_scope("run-1"), telemetry.span("work"):
            pass
    finally:
        telemetry.shutdown()
    assert "spans are lost" in caplog.text


def test_many_writers_do_not_mix_their_lines(tmp_path):
    code = (
        "import sys, pathlib\n"
        "from djp.mesh import telemetry\n"
        "telemetry.setup('w', spans_dir=pathlib.Path(sys.argv[1]))\n"
        "for i in range(200):\n"
        "    with telemetry.service_scope('w'), telemetry.run_scope('run-1'), telemetry.span('s', pad='x' * 5000):\n"
        "        pass\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert len(read_spans(tmp_path, "run-1")) == 600


def test_the_sdk_is_not_imported_when_nothing_is_recorded():
    code = (
        "import sys\n"
        "import djp.mesh.server, djp.mesh.channel\n"
        "heavy = [m for m in ('opentelemetry.sdk.trace', 'prometheus_client', 'protovalidate') if m in sys.modules]\n"
        "sys.exit(repr(heavy) if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def test_spans_go_to_a_collector_when_one_is_set(mesh):
    received = ExportTraceServiceRequest()

    async def export(request, _context):
        received.MergeFrom(request)
        return ExportTraceServiceResponse()

    handler = grpc.unary_unary_rpc_method_handler(
        export, ExportTraceServiceRequest.FromString, ExportTraceServiceResponse.SerializeToString
    )
    collector = grpc.aio.server()
    name = "opentelemetry.proto.collector.trace.v1.TraceService"
    collector.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Export": handler}),))
    port = collector.add_insecure_port("127.0.0.1:0")
    await collector.start()
    telemetry.setup("hub", otlp_endpoint=f"http://127.0.0.1:{port}")
    try:
        with telemetry.service_scope("hub"), telemetry.run_scope("run-1"), telemetry.span("debate"):
            pass
    finally:
        await asyncio.to_thread(telemetry.shutdown)
        await collector.stop(None)
    (resource_spans,) = received.resource_spans
    assert resource_spans.resource.attributes[0].value.string_value == "hub"
    (span,) = resource_spans.scope_spans[0].spans
    assert span.name == "debate"
    assert {a.key: a.value.string_value for a in span.attributes} == {"djp.run_id": "run-1", "djp.tenant": "default"}
