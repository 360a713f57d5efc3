"""Two gateways behind one Envoy: the one that streams is killed, and who watches goes on at the other."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from google.protobuf import json_format

import djp.rest
from djp.client import connect
from djp.mesh.channel import open_channel
from djp.mesh.settings import MeshSettings
from djp.rest_envoy import RestSettings
from djp.run_states import TERMINAL_STATES
from djp.v1 import common_pb2, run_pb2, run_pb2_grpc
from tests.examples.clients import COMMANDS, build, numbers
from tests.gateway.test_gateway_durable import killable
from tests.rest.djp_up import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

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
    bridge = djp.rest.Bridge(gateways[0], RestSettings(listen=address), MeshSettings())
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


@dataclass
class Pair:
    """Two gateways on one database, each a process that a test may kill."""

    leaves: Any
    folder: Path
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)

    @property
    def addresses(self) -> list[str]:
        return [self.address(name) for name in NAMES]

    def address(self, name: str) -> str:
        return f"unix:{self.folder}/{name}.sock"

    async def start(self, name: str) -> None:
        """Return when it answers."""
        self.processes[name] = await killable(self.leaves, self.address(name), name)
        async with open_channel(self.address(name)) as channel:
            await run_pb2_grpc.RunServiceStub(channel).ListRuns(run_pb2.ListRunsRequest(), wait_for_ready=True)

    async def kill(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGKILL)
        await self.processes.pop(name).wait()


@pytest.fixture
async def pair(mesh: Any, leaves: Any) -> AsyncIterator[Pair]:
    pair = Pair(leaves, mesh.folder)
    for name in NAMES:
        await pair.start(name)
    yield pair
    for process in pair.processes.values():
        process.terminate()
        await process.wait()


@pytest.mark.parametrize("watch", [by_rest, by_grpc])
async def test_a_watcher_misses_nothing_when_the_gateway_dies_that_streams(
    pair: Pair, leaves: Any, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, watch: Any
) -> None:
    gate = leaves.hold("Judge")
    seen: list[run_pb2.RunEvent] = []
    async with envoy(monkeypatch, *pair.addresses) as bridge:
        async with httpx2.AsyncClient(base_url=f"http://{bridge}", timeout=60) as client:
            started = {"requestId": str(uuid.uuid4()), "run": {"task": "Go on."}}
            run_id = (await client.post("/v1/runs", json=started)).json()["run"]["runId"]
        watching = asyncio.create_task(watch(bridge, run_id, seen))
        for name in NAMES:  # whichever streams, it is killed, and one of them works on the run
            await until(lambda: any(event.stage_started.stage == common_pb2.STAGE_JUDGE for event in seen))
            await pair.kill(name)
            await pair.start(name)
        del leaves.before["Judge"]
        gate.opened.set()
        breaks = await asyncio.wait_for(watching, 120)
        assert breaks >= (watch is by_rest)
    async with connect(pair.address("one")) as client:
        whole = [event async for event in client.watch(run_id)]
    assert [event.sequence for event in seen] == list(range(1, len(seen) + 1))
    assert seen == whole
    assert seen[-1].state.run.state == run_pb2.RUN_STATE_PUBLISHED


@pytest.mark.parametrize("example", ["go", "typescript"])  # the others are above
async def test_the_examples_miss_nothing_when_the_gateway_dies_that_streams(
    pair: Pair, leaves: Any, monkeypatch: pytest.MonkeyPatch, example: str
) -> None:
    await asyncio.to_thread(build)
    gate = leaves.hold("Judge")
    said = ""
    async with envoy(monkeypatch, *pair.addresses) as bridge:
        client = await asyncio.create_subprocess_exec(
            *COMMANDS[example], bridge, "Go on.", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        assert client.stderr is not None
        while said.count("stage_started") + said.count("stageStarted") < 3:  # search, debate, judge
            line = (await client.stderr.readline()).decode()
            assert line, said
            said += line
        for name in NAMES:
            await pair.kill(name)
            await pair.start(name)
        del leaves.before["Judge"]
        gate.opened.set()
        out, err = await asyncio.wait_for(client.communicate(), 120)
        said += err.decode()
    assert client.returncode == 0, said
    assert out
    async with connect(pair.address("one")) as one:
        (run,) = (await one.list_runs(run_pb2.ListRunsRequest())).runs
    assert list(numbers(said)) == list(range(1, run.last_sequence + 1))
    assert "PUBLISHED, cost: " in said


async def test_a_gateway_that_died_between_two_calls_is_not_seen(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        envoy(monkeypatch, *pair.addresses) as bridge,
        httpx2.AsyncClient(base_url=f"http://{bridge}", timeout=60) as rest,
        connect(bridge, retry_waits_s=()) as grpc_client,
    ):

        async def call_both() -> None:
            started = {"requestId": str(uuid.uuid4()), "run": {"task": "Go on."}}
            answer = await rest.post("/v1/runs", json=started)
            assert answer.status_code == 200, answer.text
            await grpc_client.start_run(run_pb2.RunRequest(task="Go on."))

        for _ in range(4):
            await call_both()
        await pair.kill("one")
        for _ in range(8):
            await call_both()
    async with connect(pair.address("two")) as two:
        assert len((await two.list_runs(run_pb2.ListRunsRequest(page_size=100))).runs) == 2 * (4 + 8)
