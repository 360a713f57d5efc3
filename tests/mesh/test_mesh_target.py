"""A target as a real process: it says where it listens, drains on a signal, and fails with one clear line."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from contextlib import ExitStack

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc

from djp.mesh.errors import Unavailable
from djp.mesh.rpc_errors import error_from_rpc

TARGET = textwrap.dedent(
    """
    import asyncio, gc, os, sys
    from contextlib import asynccontextmanager
    from types import SimpleNamespace
    import grpc
    from google.protobuf.wrappers_pb2 import StringValue
    from djp.mesh.server import Service, run_target

    async def slow(request, context):
        if request.value == "frozen":
            return StringValue(value=str(gc.get_freeze_count()))
        print("entered", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        return request

    async def breaks():
        if os.environ.get("BREAK"):
            raise RuntimeError("the queue is lost")
        await asyncio.Event().wait()

    def add(_, server):
        handler = grpc.unary_unary_rpc_method_handler(slow, StringValue.FromString, StringValue.SerializeToString)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Probe", {"Slow": handler}),))

    @asynccontextmanager
    async def open_service():
        try:
            yield Service("probe", [(SimpleNamespace(full_name="test.Probe"), None, add)], [breaks])
        finally:
            print("closed", flush=True)

    sys.exit(run_target(open_service, sys.argv[1]))
    """
)


@pytest.fixture
def start():
    with ExitStack() as stack:

        def start(address, **env):
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", TARGET, address],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=os.environ | {"DJP_DRAIN_DELAY_S": "0"} | env,
                )
            )
            stack.callback(process.kill)
            return process

        yield start


def _address(process) -> str:
    line = process.stderr.readline()
    assert "probe listening on " in line, line + process.stderr.read()
    return line.rsplit(" ", 1)[1].strip()


def _slow(channel):
    return channel.unary_unary("/test.Probe/Slow", StringValue.SerializeToString, StringValue.FromString)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_lets_the_call_in_flight_end_and_closes_the_service(start, number):
    process = start("127.0.0.1:0")
    with grpc.insecure_channel(_address(process)) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service="test.Probe"), timeout=20
        )
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        answer = _slow(channel).future(StringValue(value="mine"))
        assert process.stdout.readline() == "entered\n"
        process.send_signal(number)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError, match="draining"):  # from here on the server is stopping
            next(watch)
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert answer.result(timeout=20).value == "mine"
    assert process.wait(20) == 0
    assert "closed" in process.stdout.read()


def test_what_a_start_makes_is_no_garbage_to_look_through(start):
    with grpc.insecure_channel(_address(start("127.0.0.1:0"))) as channel:
        assert int(_slow(channel)(StringValue(value="frozen"), timeout=20).value) > 0


def test_a_taken_port_is_one_line_and_exit_1(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        process = start(address)
        assert process.wait(20) == 1
    error = process.stderr.read()
    assert (
        error == f"error: cannot listen on {address}: the port is taken: stop the other server or choose another port\n"
    )
    assert "closed" in process.stdout.read()


def test_a_wrong_setting_is_named_without_its_value(start):
    process = start("127.0.0.1:0", DJP_MAX_MESSAGE_BYTES="hunter2")
    assert process.wait(20) == 1
    error = process.stderr.read()
    assert "DJP_MAX_MESSAGE_BYTES" in error
    assert "hunter2" not in error
    assert "Traceback" not in error


def test_lost_background_work_ends_the_process_so_that_it_is_restarted(start):
    process = start("127.0.0.1:0", BREAK="1")
    assert process.wait(20) == 1
    assert "the queue is lost" in process.stderr.read()


def test_metrics_are_served_when_a_port_is_set(start):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = start("127.0.0.1:0", DJP_METRICS_PORT=str(port))
    with grpc.insecure_channel(_address(process)) as channel:
        answer = _slow(channel).future(StringValue(value="x"))
        assert process.stdout.readline() == "entered\n"
        assert 'djp_inflight_requests{service="probe"} 1.0' in _metrics(port)
        process.stdin.write("go on\n")
        process.stdin.flush()
        answer.result(timeout=20)
    counted = 'djp_requests_total{code="OK",method="/test.Probe/Slow",service="probe"} 1.0'
    deadline = time.monotonic() + 10
    while counted not in _metrics(port) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert counted in _metrics(port)
    process.terminate()
    assert process.wait(20) == 0


def _metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        return response.read().decode()


def test_a_sync_clients_error_is_read_too():
    with grpc.insecure_channel("unix:/nowhere/at/all.sock") as channel, pytest.raises(grpc.RpcError) as caught:
        _slow(channel)(StringValue(), timeout=5)
    assert type(error_from_rpc(caught.value)) is Unavailable
