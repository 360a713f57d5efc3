"""How many streams a tenant may keep open: refused past the bound, and free again however one ended."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, closing
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from djp.client import connect
from djp.mesh.errors import ResourceExhausted
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import redaction_pb2, redaction_pb2_grpc, run_pb2, run_pb2_grpc, storage_pb2, storage_pb2_grpc
from tests.examples.cutting_proxy import CuttingProxy
from tests.gateway.test_gateway_keys import made, port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from djp.mesh.errors import DjpError


class Caller:
    """Opens streams at a port, with a key."""

    def __init__(self, address: str, secret: str) -> None:
        self.channel = grpc.aio.insecure_channel(address)
        self._metadata = (("authorization", f"Bearer {secret}"),)
        self._runs = run_pb2_grpc.RunServiceStub(self.channel)
        self._redaction = redaction_pb2_grpc.RedactionServiceStub(self.channel)
        self._storage = storage_pb2_grpc.StorageServiceStub(self.channel)

    async def watch(self, run_id: str) -> Any:
        """An open stream of answers."""
        call = self._runs.WatchRun(run_pb2.WatchRunRequest(run_id=run_id), metadata=self._metadata)
        await call.read()
        return call

    async def redact(self) -> Any:
        """An open stream both ways."""
        call = self._redaction.RedactStream(metadata=self._metadata)
        await call.write(redaction_pb2.RedactStreamRequest(text="x"))
        await call.read()
        return call

    async def put(self) -> None:
        """A stream of requests, which ends at once."""

        async def nothing() -> AsyncIterator[storage_pb2.PutArtifactRequest]:
            return
            yield

        await self._storage.PutArtifact(nothing(), metadata=self._metadata)

    async def list_runs(self) -> Any:
        return await self._runs.ListRuns(run_pb2.ListRunsRequest(), metadata=self._metadata)


async def refusal(opening: Any) -> DjpError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await opening
    return error_from_rpc(refused.value)


async def opened(opening: Any) -> Any:
    """What opens a stream, tried until there is room, for a server hears of an end a little later."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await opening()
            except grpc.aio.AioRpcError as error:
                if error_from_rpc(error).reason != "RATE_LIMITED":
                    raise
                await asyncio.sleep(0.01)


async def test_a_tenant_has_so_many_streams_open_and_no_more(mesh: Any, gateway: Any, leaves: Any) -> None:
    keys = [(await made(gateway, tenant=tenant)).secret for tenant in ("ada", "ada", "grace")]
    gate = leaves.hold("Debate")
    async with port(mesh, per_tenant_max_streams=2) as address, AsyncExitStack() as stack:
        one, another, grace = (Caller(address, key) for key in keys)
        for caller in (one, another, grace):
            await stack.enter_async_context(caller.channel)
        runs = []
        for key in (keys[0], keys[2]):
            async with connect(address, api_key=key) as client:
                runs.append((await client.start_run(run_pb2.RunRequest(task="Why?"))).run_id)

        watched, redacted = await one.watch(runs[0]), await another.redact()
        for opening in (one.watch(runs[0]), another.watch(runs[0]), one.redact(), another.put()):
            error = await refusal(opening)
            assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
            assert (error.retry_after_s or 0) > 0
            assert error.message.startswith("tenant ada has 2 streams open")
            assert "DJP_PER_TENANT_MAX_STREAMS" in error.message
        await one.list_runs()  # calls of one answer are no streams
        await grace.watch(runs[1])
        await grace.redact()

        watched.cancel()  # its caller gives it up
        watched = await opened(lambda: one.watch(runs[0]))
        await redacted.done_writing()  # both sides come to their end
        while await redacted.read() is not grpc.aio.EOF:
            pass
        redacted = await opened(another.redact)
        assert (await refusal(one.redact())).reason == "RATE_LIMITED"
        gate.opened.set()  # the run ends, and so does whoever watches it
        while await watched.read() is not grpc.aio.EOF:
            pass
        await opened(one.redact)


async def test_a_stream_that_fails_is_open_no_more(mesh: Any, gateway: Any) -> None:
    key = (await made(gateway)).secret
    async with port(mesh, per_tenant_max_streams=1) as address:
        caller = Caller(address, key)
        async with caller.channel:
            for _ in range(3):
                assert (await refusal(caller.watch("nope"))).reason == "INVALID_INPUT"


async def test_a_connection_that_breaks_ends_its_streams(mesh: Any, gateway: Any, leaves: Any) -> None:
    key = (await made(gateway)).secret
    gate = leaves.hold("Debate")
    async with port(mesh, per_tenant_max_streams=3) as address:
        async with connect(address, api_key=key) as client:
            run_id = (await client.start_run(run_pb2.RunRequest(task="Why?"))).run_id
        whole = Caller(address, key)
        async with whole.channel:
            with closing(CuttingProxy(address)) as proxy:
                far = Caller(proxy.address, key)
                _ = [await far.watch(run_id) for _ in range(3)]
                assert (await refusal(whole.watch(run_id))).reason == "RATE_LIMITED"
            _ = [await opened(lambda: whole.watch(run_id)) for _ in range(3)]
            await far.channel.close()
    gate.opened.set()


async def test_a_client_waits_for_room_as_long_as_it_is_told(
    mesh: Any, gateway: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.streams._AGAIN_S", 0.2)  # five seconds otherwise
    loop, refused_at = asyncio.get_running_loop(), list[float]()

    class Waits:
        def __iter__(self) -> Iterator[float]:
            while True:
                refused_at.append(loop.time())
                yield 0.0

    key = (await made(gateway)).secret
    async with port(mesh, per_tenant_max_streams=1) as address, connect(address, api_key=key) as client:
        run = await client.start_run(run_pb2.RunRequest(task="Why?"))
        holding = Caller(address, key)
        async with holding.channel:
            held = await holding.redact()
            monkeypatch.setattr("djp.client_streams.RESUME_WAITS_S", ())
            with pytest.raises(ResourceExhausted, match="streams open"):
                await anext(aiter(client.watch(run.run_id)))
            monkeypatch.setattr("djp.client_streams.RESUME_WAITS_S", Waits())
            watching = asyncio.create_task(anext(aiter(client.watch(run.run_id))))
            await until(lambda: refused_at)
            held.cancel()
            assert (await watching).sequence == 1
    assert loop.time() - refused_at[0] >= 0.2
