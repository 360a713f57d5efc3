"""`djp up`: the whole mesh behind a real Envoy, called by REST, by gRPC-Web and by gRPC."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import struct
import subprocess
import tempfile
import time
import uuid
from contextlib import ExitStack
from http.client import HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import grpc
import pytest
from openapi_spec_validator import OpenAPIV2SpecValidator

from djp.mesh.rpc_errors import error_from_rpc
from djp.rest_check import public_services
from djp.v1 import catalogue_pb2, catalogue_pb2_grpc, run_pb2, run_pb2_grpc
from djp_gateway.access import LEAST_ROLE
from djp_gateway.forward import is_public
from tests.rest.djp_up import DJP, OPEN, Up, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with ExitStack() as stack:
        yield Up(stack)


def test_a_run_by_rest_is_the_run_by_grpc(up: Up) -> None:
    run = up.start(task="Why blind juries?", preset="quick")
    events = list(up.watch(run["runId"]))
    assert events[-1]["state"]["run"]["runId"] == run["runId"]
    numbers = [int(event["sequence"]) for event in events]
    assert numbers == list(range(1, len(numbers) + 1))
    again = list(up.watch(run["runId"], after=numbers[4]))
    assert again == events[5:], "a watcher takes up where it was cut off"
    shown = up.client.get(f"/v1/runs/{run['runId']}").json()["run"]
    told = run_pb2_grpc.RunServiceStub(up.channel).GetRun(run_pb2.GetRunRequest(run_id=run["runId"])).run
    assert shown["result"]["text"] == told.result.text
    assert shown["result"]["totalNanoUsd"] == str(told.result.total_nano_usd)
    listed = up.client.get("/v1/runs", params={"pageSize": 1, "preset": "quick"}).json()
    assert [one["runId"] for one in listed["runs"]] == [run["runId"]]


def test_errors_are_the_same_as_by_grpc(up: Up) -> None:
    stub = run_pb2_grpc.RunServiceStub(up.channel)
    request_id = str(uuid.uuid4())
    calls: list[tuple[Any, Any, str, str, dict[str, Any] | None]] = [
        (stub.GetRun, run_pb2.GetRunRequest(run_id="nope"), "GET", "/v1/runs/nope", None),
        (stub.GetRun, run_pb2.GetRunRequest(run_id=NOBODY), "GET", f"/v1/runs/{NOBODY}", None),
        (
            stub.StartRun,
            run_pb2.StartRunRequest(
                request_id=request_id, run=run_pb2.RunRequest(preset="none", task="x", policy="none")
            ),
            "POST",
            "/v1/runs",
            {"requestId": request_id, "run": {"preset": "none", "task": "x", "policy": "none"}},
        ),
        (stub.ListRuns, run_pb2.ListRunsRequest(page_token="x"), "GET", "/v1/runs?pageToken=x", None),
    ]
    for method, request, verb, path, body in calls:
        with pytest.raises(grpc.RpcError) as caught:
            method(request)
        told = error_from_rpc(caught.value)
        answer = up.client.request(verb, path, json=body)
        status = answer.json()
        assert answer.headers["content-type"] == "application/json"
        assert answer.status_code == {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404}[told.code]
        assert status["message"] == told.message
        details = {detail["@type"].rpartition(".")[2]: detail for detail in status["details"]}
        assert details["ErrorInfo"]["reason"] == told.reason
        fields = [one["field"] for one in details.get("BadRequest", {}).get("fieldViolations", [])]
        assert fields == [violation.field for violation in told.violations]


def test_what_is_unknown_is_refused_and_nothing_is_started(up: Up) -> None:
    before = up.client.get("/v1/runs").json()["runs"]
    body = {"requestId": str(uuid.uuid4()), "run": {"task": "x", "budgetNanoUSD": "5"}}
    for answer, field in (
        (up.client.post("/v1/runs", json=body), "run.budgetNanoUSD"),
        (up.client.get("/v1/runs", params={"surprise": 1}), "surprise"),
        (up.client.get("/v1/surprise"), ""),
        (up.client.delete("/v1/runs"), ""),
        (up.client.post("/v1/runs", content=b"{bad"), ""),
    ):
        assert answer.status_code in (400, 404, 405)
        assert answer.headers["content-type"] == "application/json"
        told = answer.json()
        named = [one["field"] for detail in told["details"] for one in detail.get("fieldViolations", [])]
        assert named == ([field] if field else []), told
    assert up.client.get("/v1/runs").json()["runs"] == before


def test_a_body_that_is_too_long_is_refused(up: Up) -> None:
    answer = up.client.post("/v1/runs", content=b" " * (2 << 20))
    assert answer.status_code == 413
    assert answer.json()["message"] == "Payload Too Large"
    assert [detail["reason"] for detail in answer.json()["details"]] == ["INVALID_INPUT"]


@pytest.mark.parametrize(
    ("request_line", "more", "status", "reason"),
    [
        (b"GET /v1/presets HTTP/1.0", b"", 426, "UNIMPLEMENTED"),
        (b"GET /v1/runs/%ff HTTP/1.1", b"", 400, "INVALID_INPUT"),
        (b"GET /v1/runs/%00 HTTP/1.1", b"", 400, "INVALID_INPUT"),
        (b"GET /v1/presets HTTP/1.1", b"a: " + b"x" * 70_000 + b"\r\n", 431, "INVALID_INPUT"),
        (b"GET /v1/presets HTTP/1.1", b"a_b: c\r\n", 400, "INVALID_INPUT"),
        (b"GET /v1/presets HTTP/1.1", b"upgrade: websocket\r\nconnection: upgrade\r\n", 403, "PERMISSION_DENIED"),
        (b"CONNECT x:1 HTTP/1.1", b"", 404, "NOT_FOUND"),
        (b"\x00\x01", b"", 400, "INVALID_INPUT"),
    ],
)
def test_what_is_no_call_at_all_is_refused_in_the_same_form(
    up: Up, request_line: bytes, more: bytes, status: int, reason: str
) -> None:
    host, port = up.rest.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request_line + b"\r\nhost: x\r\n" + more + b"\r\n")
        answer = HTTPResponse(connection)
        answer.begin()
        told = json.loads(answer.read())
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert [detail["reason"] for detail in told["details"]] == [reason]


def test_the_api_is_explained(up: Up) -> None:
    document = up.client.get("/openapi.json")
    assert document.headers["content-type"] == "application/json"
    assert "/v1/runs" in document.json()["paths"]
    assert not list(OpenAPIV2SpecValidator(document.json()).iter_errors())
    page = up.client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for name, kind in re.findall(r'(?:href|src)="(/docs/[^"]+\.(css|js))"', page.text):
        asset = up.client.get(name)
        assert asset.status_code == 200
        assert asset.headers["content-type"] == {"css": "text/css", "js": "text/javascript"}[kind]
        assert len(asset.content) > 10_000


def test_pages_of_named_origins_may_call_and_others_may_not(up: Up) -> None:
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    allowed = up.client.options("/v1/runs", headers={"origin": OPEN, **asks})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == OPEN
    assert "POST" in allowed.headers["access-control-allow-methods"]
    assert "djp-tenant" in allowed.headers["access-control-allow-headers"]
    other = up.client.options("/v1/runs", headers={"origin": "https://evil.example", **asks})
    assert "access-control-allow-origin" not in other.headers


def test_grpc_web_and_grpc_pass_too(up: Up) -> None:
    request = catalogue_pb2.ListPresetsRequest().SerializeToString()
    answer = up.client.post(
        "/djp.v1.CatalogueService/ListPresets",
        content=struct.pack(">BI", 0, len(request)) + request,
        headers={"content-type": "application/grpc-web+proto", "x-grpc-web": "1"},
    )
    assert answer.headers["content-type"] == "application/grpc-web+proto"
    flag, size = struct.unpack(">BI", answer.content[:5])
    assert flag == 0
    presets = catalogue_pb2.ListPresetsResponse.FromString(answer.content[5 : 5 + size])
    assert "quick" in [preset.name for preset in presets.presets]
    with grpc.insecure_channel(up.rest) as channel:
        direct = catalogue_pb2_grpc.CatalogueServiceStub(channel).ListPresets(catalogue_pb2.ListPresetsRequest())
    assert direct == presets


@pytest.mark.parametrize("way", ["grpc", "grpc through envoy", "grpc-web"])
def test_bytes_that_are_no_message_are_refused_by_every_rpc(up: Up, way: str) -> None:
    with grpc.insecure_channel(up.grpc if way == "grpc" else up.rest) as channel:
        for method in (method for service in public_services() for method in service.methods if is_public(method)):
            name = f"{method.containing_service.full_name}/{method.name}"
            if LEAST_ROLE[f"/{name}"] not in ("reader", "tenant"):
                continue  # who may not call is told that, and no more
            if way == "grpc-web":
                answer = up.client.post(
                    f"/{name}",
                    content=struct.pack(">BI", 0, 1) + b"\xff",
                    headers={"content-type": "application/grpc-web+proto", "x-grpc-web": "1"},
                )
                code, said = int(answer.headers["grpc-status"]), unquote(answer.headers["grpc-message"])
            else:
                many = method.client_streaming, method.server_streaming
                kind = "_".join("stream" if one else "unary" for one in many)
                call = getattr(channel, kind)(f"/{name}")
                with pytest.raises(grpc.RpcError) as caught:
                    _ = list(call(iter([b"\xff"]) if many[0] else b"\xff", timeout=30))
                code, said = caught.value.code().value[0], caught.value.details()
            assert code == grpc.StatusCode.INVALID_ARGUMENT.value[0], name
            assert said.startswith(f"{name}: the bytes of the request are no protobuf message"), said


def test_a_page_watches_a_run_by_grpc_web(up: Up) -> None:
    run_id = up.start(preset="quick")["runId"]
    request = run_pb2.WatchRunRequest(run_id=run_id).SerializeToString()
    answer = up.client.post(
        "/djp.v1.RunService/WatchRun",
        content=struct.pack(">BI", 0, len(request)) + request,
        headers={"content-type": "application/grpc-web+proto", "x-grpc-web": "1", "origin": OPEN},
    )
    assert answer.headers["access-control-allow-origin"] == OPEN
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"grpc-status", "grpc-message", "grpc-status-details-bin", "retry-after"} <= {*exposed}
    messages, rest = list[tuple[int, bytes]](), answer.content
    while rest:
        flag, size = struct.unpack(">BI", rest[:5])
        messages.append((flag, rest[5 : 5 + size]))
        rest = rest[5 + size :]
    *events, (flag, trailers) = messages
    told = [run_pb2.WatchRunResponse.FromString(one).event for _, one in events]
    numbers = [event.sequence for event in told if event.sequence]
    assert numbers == list(range(1, len(numbers) + 1))
    assert told[-1].state.run.run_id == run_id
    assert (flag, b"grpc-status:0" in trailers) == (0x80, True)


def test_nobody_says_by_rest_who_he_is() -> None:
    """Behind a Unix socket the gateway believes its caller, and that is Envoy."""
    with ExitStack() as stack:
        up = Up(stack, "unix:{}/gateway.sock")
        run = up.start()
        for headers in ({"djp-tenant": "acme"}, {"djp-tenant": "acme", "djp-role": "admin"}, {"DJP-Tenant": "acme"}):
            shown = up.client.get(f"/v1/runs/{run['runId']}", headers=headers)
            assert shown.json()["run"]["tenant"] == "default"


def test_nothing_holds_the_port_when_the_mesh_was_killed() -> None:
    with ExitStack() as stack:
        up = Up(stack)
        (envoy,) = up.envoys()
        up.process.kill()
        up.process.wait()
        deadline = time.monotonic() + 30
        while Path(f"/proc/{envoy}").exists() and "zombie" not in Path(f"/proc/{envoy}/status").read_text():
            assert time.monotonic() < deadline, "Envoy lives on"
            time.sleep(0.02)


def test_an_envoy_that_ends_takes_the_mesh_with_it() -> None:
    with ExitStack() as stack:
        up = Up(stack)
        (envoy,) = up.envoys()
        os.kill(envoy, signal.SIGKILL)
        _, said = up.process.communicate(timeout=60)
        assert up.process.returncode == 1
        assert "Envoy has ended with -9" in said


def test_ctrl_c_ends_both() -> None:
    with ExitStack() as stack:
        up = Up(stack)
        (envoy,) = up.envoys()
        up.process.send_signal(signal.SIGINT)
        _, said = up.process.communicate(timeout=60)
        assert up.process.returncode == 0, said
        assert not Path(f"/proc/{envoy}").exists()
        assert "Traceback" not in said


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, tempfile.TemporaryDirectory(prefix="djp-") as folder:
        rest = f"127.0.0.1:{taken.getsockname()[1]}"
        environment = {**os.environ, "DJP_HOME": folder, "DJP_REST_LISTEN": rest, "DJP_DRAIN_DELAY_S": "0"}
        ended = subprocess.run(
            [str(DJP), "up", "--listen", f"127.0.0.1:{free_port()}"],
            env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert ended.returncode != 0
        assert "the port is taken" in ended.stderr
        assert "listening on" not in ended.stderr
