"""Two gateways behind one Envoy: the one that streams is killed, and who watches goes on at the other."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from google.protobuf import json_format

import djp.rest
from djp.client import connect
from djp.mesh.channel import open_channel
from djp.mesh.settings import MeshSettings
from djp.run_states import TERMINAL_STATES
from djp.v1 import common_pb2, run_pb2, run_pb2_grpc
from tests.gateway.test_gateway_durable import killable
from tests.rest.djp_up import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

NAMES = ("one", "two")


@asynccontextmanager
async def envoy(monkeypatch: pytest.MonkeyPatch, *gateways: str) -> AsyncIterator[str]:
    """The address of a bridge before several gateways, as Envoy has where a name stands for several addresses."""
    make = djp.rest.envoy_config

    def config(*given: Any) -> dict[str, Any]:
        made = make(*given)
        (places,) = made["static_resources"]["clusters"][0]["load_assignment"]["endpoints"]
        more = [{"endpoint": {"address": {"pipe": {"path": one.removeprefix("unix:")}}}} for one in gateways[1:]]
        places["lb_endpoints"] += more
        return made

    monkeypatch.setattr(djp.rest, "envoy_config", config)
    address = f"127.0.0.1:{free_port()}"
    bridge = djp.rest.Bridge(gateways[0], djp.rest.RestSettings(listen=address), MeshSettings())
    running = asyncio.create_task(bridge.run())
    try:
        host, port = address.split(":")
        while True:
            assert not running.done()
            with suppress(OSError):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.close()
                break
            await asyncio.sleep(0.02)
        yield address
    finally:
        running.cancel()
        await asyncio.wait([running])


async def by_rest(address: str, run_id: str, seen: list[run_pb2.RunEvent]) -> int:
    """Watch as a program in any language would: after a break again, after the last number. How often it broke."""
    breaks, after = 0, 0
    async with httpx2.AsyncClient(base_url=f"http://{address}", timeout=60) as client:
        while True:
            path = f"/v1/runs/{run_id}:watch"
            try:
                async with client.stream("GET", path, params={"afterSequence": after}) as answer:
                    assert answer.status_code in (200, 503), await answer.aread()
                    async for line in answer.aiter_lines():
                        if not line.startswith("data: ") or "event" not in (told := json.loads(line[6:])):
                            continue
                        event = json_format.ParseDict(told["event"], run_pb2.RunEvent())
                        if event.sequence:
                            seen.append(event)
                            after = event.sequence
                        if event.state.state in TERMINAL_STATES:
                            return breaks
            except httpx2.HTTPError:
                pass
            breaks += 1
            await asyncio.sleep(0.05)


async def by_grpc(address: str, run_id: str, seen: list[run_pb2.RunEvent]) -> int:
    """Watch by the Python client, which takes its streams up by itself."""
    async with connect(address) as client:
        async for event in client.watch(run_id):
            seen.append(event)
    return 0


@pytest.mark.parametrize("watch", [by_rest, by_grpc])
async def test_a_watcher_misses_nothing_when_the_gateway_dies_that_streams(
    mesh: Any, leaves: Any, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, watch: Any
) -> None:
    addresses = {name: f"unix:{mesh.folder}/{name}.sock" for name in NAMES}
    processes = {name: await killable(leaves, address, name) for name, address in addresses.items()}
    for address in addresses.values():
        async with open_channel(address) as channel:
            await run_pb2_grpc.RunServiceStub(channel).ListRuns(run_pb2.ListRunsRequest(), wait_for_ready=True)
    gate = leaves.hold("Judge")
    seen: list[run_pb2.RunEvent] = []
    async with envoy(monkeypatch, *addresses.values()) as bridge:
        async with httpx2.AsyncClient(base_url=f"http://{bridge}", timeout=60) as client:
            started = {"requestId": str(uuid.uuid4()), "run": {"task": "Go on."}}
            run_id = (await client.post("/v1/runs", json=started)).json()["run"]["runId"]
        watching = asyncio.create_task(watch(bridge, run_id, seen))
        for name in NAMES:  # whichever streams, it is killed, and one of them works on the run
            await until(lambda: any(event.stage_started.stage == common_pb2.STAGE_JUDGE for event in seen))
            processes[name].send_signal(signal.SIGKILL)
            await processes[name].wait()
            processes[name] = await killable(leaves, addresses[name], name)
            async with open_channel(addresses[name]) as channel:
                await run_pb2_grpc.RunServiceStub(channel).ListRuns(run_pb2.ListRunsRequest(), wait_for_ready=True)
        del leaves.before["Judge"]
        gate.opened.set()
        breaks = await asyncio.wait_for(watching, 120)
        assert breaks >= (watch is by_rest)
    async with connect(addresses["one"]) as client:
        whole = [event async for event in client.watch(run_id)]
    assert [event.sequence for event in seen] == list(range(1, len(seen) + 1))
    assert seen == whole
    assert seen[-1].state.run.state == run_pb2.RUN_STATE_PUBLISHED
    for process in processes.values():
        process.terminate()
        await process.wait()
