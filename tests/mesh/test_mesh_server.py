"""How a server listens, reports its health and drains."""

from __future__ import annotations

import asyncio
import socket
import stat

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from djp.mesh.channel import open_channel
from djp.mesh.errors import FailedPrecondition, InvalidInput
from djp.mesh.server import MeshServer
from djp.mesh.settings import MeshSettings

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def _echo(mesh):
    async def behavior(request, _context):
        return request

    return mesh.service(Unary=behavior)


async def test_health_is_serving_for_the_whole_and_by_full_name(mesh):
    server = await mesh.serve(_echo(mesh))
    health = health_pb2_grpc.HealthStub(await mesh.channel(server.address))
    for name in ("", "test.Probe"):
        assert (await health.Check(health_pb2.HealthCheckRequest(service=name))).status == SERVING


async def test_reflection_lists_the_service(mesh):
    server = await mesh.serve(_echo(mesh))
    stub = reflection_pb2_grpc.ServerReflectionStub(await mesh.channel(server.address))
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    response = await call.read()
    assert "test.Probe" in [s.name for s in response.list_services_response.service]


async def test_drain_flips_health_lets_the_call_in_flight_end_and_refuses_new_ones(mesh):
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def waits(request, _context):
        entered.set()
        await go_on.wait()
        return request

    server = await mesh.serve(mesh.service(Unary=waits), drain_delay_s=0.2)
    stub = await mesh.stub(server.address)
    watcher = health_pb2_grpc.HealthStub(await mesh.channel(server.address)).Watch(health_pb2.HealthCheckRequest())
    assert (await watcher.read()).status == SERVING
    call = stub.Unary(mesh.Text(value="mine"))
    await entered.wait()

    draining = asyncio.create_task(server.drain(grace_s=30))
    assert (await watcher.read()).status == NOT_SERVING
    with pytest.raises(grpc.aio.AioRpcError, match="draining"):  # an open watch does not hold up the drain
        await asyncio.wait_for(watcher.read(), 10)
    async with open_channel(server.address) as late:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_pb2_grpc.HealthStub(late).Check(health_pb2.HealthCheckRequest())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert not draining.done()
    go_on.set()
    assert (await call).value == "mine"
    await asyncio.wait_for(draining, 10)
    await server.drain()  # again: nothing to do


async def test_grace_ends_a_call_that_does_not(mesh):
    entered, ended = asyncio.Event(), asyncio.Event()

    async def hangs(*_):
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    server = await mesh.serve(mesh.service(Unary=hangs))
    call = (await mesh.stub(server.address)).Unary(mesh.Text())
    await entered.wait()
    await asyncio.wait_for(server.drain(grace_s=0.1), 10)
    await asyncio.wait_for(ended.wait(), 10)
    with pytest.raises(grpc.aio.AioRpcError):
        await call


async def test_background_work_runs_while_serving_and_is_cancelled_after_the_last_call(mesh):
    events, started = [], asyncio.Event()

    async def work():
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            events.append("background ended")

    async def waits(request, _context):
        await started.wait()
        events.append("call ended")
        return request

    server = await mesh.serve(mesh.service(Unary=waits, background=[work]))
    await (await mesh.stub(server.address)).Unary(mesh.Text())
    await server.drain()
    assert events == ["call ended", "background ended"]


async def test_background_work_that_breaks_makes_the_server_unhealthy(mesh):
    async def breaks():
        raise ValueError("lost the queue")

    server = await mesh.serve(mesh.service(background=[breaks]))
    assert isinstance(await asyncio.wait_for(server.failed(), 10), ValueError)
    health = health_pb2_grpc.HealthStub(await mesh.channel(server.address))
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == NOT_SERVING


async def test_a_unix_socket_is_private_and_gone_after_the_drain(mesh):
    path = mesh.folder / "deep" / "er" / "probe.sock"
    server = await mesh.serve(_echo(mesh), f"unix:{path}")
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    await server.drain()
    assert not path.exists()


async def test_a_socket_another_server_uses_is_refused_and_left_alone(mesh):
    first = await mesh.serve(_echo(mesh))
    with pytest.raises(FailedPrecondition, match=r"another server listens on .*probe\.sock"):
        await MeshServer(_echo(mesh), first.address).start()
    stub = await mesh.stub(first.address)
    assert (await stub.Unary(mesh.Text(value="still here"))).value == "still here"


async def test_a_dead_socket_is_replaced(mesh):
    path = mesh.folder / "probe.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    stub = await mesh.stub((await mesh.serve(_echo(mesh), f"unix:{path}")).address)
    assert (await stub.Unary(mesh.Text(value="x"))).value == "x"


async def test_a_file_in_place_of_the_socket_is_never_removed(mesh):
    path = mesh.folder / "notes.txt"
    path.write_text("mine")
    with pytest.raises(FailedPrecondition, match="not a socket"):
        await MeshServer(_echo(mesh), f"unix:{path}").start()
    assert path.read_text() == "mine"


@pytest.mark.parametrize("address", ["50051", "host", "nowhere.invalid:1", "127.0.0.1:99999", "unix:/tmp/" + "x" * 200])
async def test_a_malformed_address_is_named(mesh, address):
    with pytest.raises(InvalidInput) as caught:
        await MeshServer(_echo(mesh), address).start()
    assert caught.value.field == "address"


async def test_a_taken_port_is_named_with_the_remedy(mesh):
    first = await mesh.serve(_echo(mesh), "127.0.0.1:0")
    assert not first.address.endswith(":0")
    with pytest.raises(FailedPrecondition, match=rf"cannot listen on {first.address}: the port is taken"):
        await MeshServer(_echo(mesh), first.address).start()


async def test_round_robin_moves_on_when_a_server_goes_and_comes_back(mesh):
    """A client keeps its channel over a restart of the server on the same address."""
    server = await mesh.serve(_echo(mesh))
    stub = await mesh.stub(server.address)
    await stub.Unary(mesh.Text())
    await server.drain()
    await mesh.serve(_echo(mesh), server.address)
    assert (await stub.Unary(mesh.Text(value="back"), wait_for_ready=True, timeout=20)).value == "back"


@pytest.mark.parametrize("prefix", ["", "dns:///", "dns:"])
async def test_a_channel_takes_a_host_and_port_with_and_without_dns(mesh, prefix):
    server = await mesh.serve(_echo(mesh), "127.0.0.1:0")
    assert (await (await mesh.stub(prefix + server.address)).Unary(mesh.Text(value="x"))).value == "x"


@pytest.mark.parametrize("address", ["", "host", "http://host:1", "unix:", "host:port", "a b:1"])
def test_a_malformed_target_is_refused(address):
    with pytest.raises(InvalidInput) as caught:
        open_channel(address)
    assert caught.value.field == "address"


async def test_messages_go_up_to_the_limit_and_no_further(mesh, monkeypatch):
    monkeypatch.setenv("DJP_MAX_MESSAGE_BYTES", "100000")
    server = await mesh.serve(_echo(mesh), settings=MeshSettings())
    stub = await mesh.stub(server.address)
    assert len((await stub.Unary(mesh.Text(value="x" * 90_000))).value) == 90_000
    async with grpc.aio.insecure_channel(server.address) as unlimited:
        call = unlimited.unary_unary("/test.Probe/Unary", mesh.Text.SerializeToString)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(mesh.Text(value="x" * 110_000))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_half_of_tls_is_refused_and_names_what_is_missing(monkeypatch):
    monkeypatch.setenv("DJP_TLS_CERT", "cert.pem")
    with pytest.raises(ValueError, match="missing: DJP_TLS_KEY, DJP_TLS_CA"):
        MeshSettings()


async def test_a_client_stream_given_up_never_looks_like_a_whole_one(mesh):
    whole = []

    async def collect(requests, _context):
        parts = [request.value async for request in requests]
        whole.append(parts)
        return mesh.Text(value="".join(parts))

    stub = await mesh.probe(Collect=collect)
    for _ in range(600):  # the end of the stream and the cancellation race each other to the server
        sent = asyncio.Event()

        async def requests(sent=sent):
            yield mesh.Text(value="half")
            sent.set()
            await asyncio.Event().wait()

        call = stub.Collect(requests())
        await sent.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert (await stub.Collect(iter([mesh.Text(value="a"), mesh.Text(value="b")]))).value == "ab"
    assert whole == [["a", "b"]]
