"""Tenant, role and the time left travel with nested calls; malformed identities are refused at the door."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest

from djp.mesh.deadline import deadline_scope, remaining_s
from djp.mesh.errors import InvalidInput
from djp.mesh.identity import Identity, current_identity, identity_scope
from djp.mesh.rpc_errors import error_from_rpc
from djp.mesh.telemetry import current_run_id

# grpc-timeout on the wire has few digits and is rounded up.
ROUNDING = 1.02


@pytest.fixture(params=["unix", "local"])
def scheme(request):
    return request.param


async def _two_hops(mesh, leaf_behavior, **timeout):
    """A stub of a hub that forwards to a leaf."""
    leaf = await mesh.probe(Unary=leaf_behavior)

    async def forwards(request, _context):
        return await leaf.Unary(request, **timeout)

    hub = await mesh.serve(mesh.service("hub", Unary=forwards))
    return await mesh.stub(hub.address)


def _says(mesh, what):
    async def behavior(*_):
        return mesh.Text(value=what())

    return behavior


def _who() -> str:
    return f"{current_identity().tenant}/{current_identity().role}"


async def test_identity_travels_over_two_hops(mesh):
    stub = await _two_hops(mesh, _says(mesh, _who))
    with identity_scope(Identity("acme", "operator")):
        assert (await stub.Unary(mesh.Text())).value == "acme/operator"


async def test_identity_reaches_streaming_handlers_and_every_step_of_them(mesh):
    async def generates(*_):
        for _ in range(2):
            yield mesh.Text(value=_who())
            await asyncio.sleep(0)

    stub = await mesh.probe(Stream=generates)
    with identity_scope(Identity("acme", "admin")):
        call = stub.Stream(mesh.Text())
    assert [r.value async for r in call] == ["acme/admin"] * 2


async def test_without_an_identity_it_is_the_default_tenant_even_when_the_server_was_started_as_another(mesh):
    with identity_scope(Identity("starter", "admin")):
        stub = await mesh.probe(Unary=_says(mesh, _who))
    assert (await stub.Unary(mesh.Text())).value == "default/tenant"


async def test_metadata_the_caller_gives_itself_wins(mesh):
    stub = await mesh.probe(Unary=_says(mesh, _who))
    with identity_scope(Identity("acme")):
        answer = await stub.Unary(mesh.Text(), metadata=(("djp-tenant", "other"),))
    assert answer.value == "other/tenant"


async def test_a_public_service_believes_nobody_on_a_port_and_the_owner_on_a_socket(mesh):
    claims = (("djp-tenant", "acme"), ("djp-role", "admin"), ("baggage", "djp.run_id=run-of-another"))
    service = mesh.service("door", public=True, Unary=_says(mesh, lambda: f"{_who()} {current_run_id()}"))
    port = await mesh.stub((await mesh.serve(service, "localhost:0")).address)
    assert (await port.Unary(mesh.Text(), metadata=claims)).value == "default/tenant "
    socket = await mesh.stub((await mesh.serve(service)).address)
    assert (await socket.Unary(mesh.Text(), metadata=claims)).value == "acme/admin run-of-another"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("djp-tenant", "Acme"),
        ("djp-tenant", "a/../b"),
        ("djp-tenant", "-a"),
        ("djp-tenant", ""),
        ("djp-tenant", "a" * 64),
        ("djp-role", "root"),
    ],
)
async def test_a_malformed_identity_is_refused_and_its_field_named(mesh, key, value):
    stub = await mesh.probe(Unary=_says(mesh, _who))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Unary(mesh.Text(), metadata=((key, value),))
    error = error_from_rpc(caught.value)
    assert type(error) is InvalidInput
    assert error.field == key


def test_a_newline_is_no_part_of_a_tenant():
    with pytest.raises(InvalidInput):
        Identity("acme\n")


async def test_the_leaf_sees_what_is_left_of_the_callers_time(mesh):
    stub = await _two_hops(mesh, _says(mesh, lambda: str(remaining_s())))
    assert 0 < float((await stub.Unary(mesh.Text(), timeout=30)).value) <= 30 * ROUNDING
    assert (await stub.Unary(mesh.Text())).value == "None"


async def test_a_shorter_timeout_of_the_nested_call_is_kept(mesh):
    stub = await _two_hops(mesh, _says(mesh, lambda: str(remaining_s())), timeout=5)
    assert float((await stub.Unary(mesh.Text(), timeout=30)).value) <= 5 * ROUNDING


async def test_a_longer_timeout_of_the_nested_call_is_cut(mesh):
    stub = await _two_hops(mesh, _says(mesh, lambda: str(remaining_s())), timeout=300)
    assert float((await stub.Unary(mesh.Text(), timeout=30)).value) <= 30 * ROUNDING


async def test_the_deadline_ends_the_work_on_the_last_hop(mesh):
    ended = asyncio.Event()

    async def hangs(*_):
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    stub = await _two_hops(mesh, hangs)
    started = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Unary(mesh.Text(), timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert error_from_rpc(caught.value).reason == "DEADLINE_EXCEEDED"
    await asyncio.wait_for(ended.wait(), 10)
    assert time.monotonic() - started < 10


async def test_work_that_outlives_the_call_lifts_the_deadline(mesh):
    left: list[float | None] = []

    async def background():
        left.append(remaining_s())
        with deadline_scope(None):
            left.append(remaining_s())

    async def starts(request, _context):
        await asyncio.create_task(background())
        return request

    stub = await mesh.probe(Unary=starts)
    await stub.Unary(mesh.Text(), timeout=30)
    assert left[0] is not None
    assert left[1] is None
