"""Real services, killed in the middle of models' calls: nothing that is finished is paid twice, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from djp.mesh.channel import open_channel
from djp.v1 import (
    common_pb2,
    debate_pb2,
    governance_pb2,
    governance_pb2_grpc,
    judge_pb2,
    run_pb2,
    run_pb2_grpc,
)
from tests.llm.model_server import Behaviour, ModelServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.llm.model_server import Call

DJP = Path(sys.executable).with_name("djp")
VOICES = 5


async def test_a_debate_service_that_is_killed_twice(mesh: Any, leaves: Any, folder: Path) -> None:
    answers = asyncio.Event()

    def script(call: Call) -> Behaviour:
        """The fifth debater of each round waits, until it is allowed to answer."""
        slow = "the voice that waits" in call.system and not answers.is_set()
        answer = {"answer": "Money is reserved.", "evidence": [], "confidence": 0.5, "safety_flags": []}
        return Behaviour(json.dumps(answer), fault="hang" if slow else "", after=2)

    async with ModelServer(script) as server:
        configure(folder, server)
        gateway = await mesh.gateway()
        await leaves.stop("debate")
        async with Served("debate", leaves.address("debate"), folder) as first:
            run = await gateway.start(
                rounds=2,
                debaters=[
                    debate_pb2.Debater(
                        debater_id=f"d{n}", model="local/m", role="the voice that waits" if n == VOICES else ""
                    )
                    for n in range(1, VOICES + 1)
                ],
            )
            await told(gateway, run, "draft_finished", VOICES - 1)
            await server_hangs(server, 1)
            first.kill()
        async with Served("debate", leaves.address("debate"), folder) as second:
            await told(gateway, run, "call_started", VOICES + 1)
            await server_hangs(server, 2)
            second.kill()
        answers.set()
        async with Served("debate", leaves.address("debate"), folder):
            done = await gateway.finish(run.run_id)

        assert done.state == run_pb2.RUN_STATE_PUBLISHED, done.error
        assert done.result.rounds == 2
        ledger = {call_id: c for one in leaves.reservations.values() for call_id, c in one.calls.items()}
        debated = [call for call in ledger.values() if call.stage == common_pb2.STAGE_DEBATE]
        unknown = [call for call in debated if call.usage_unknown]
        # Ten drafts, and the one that waited twice for nothing.
        assert len(debated) == len(server.calls) == 2 * VOICES + 2
        assert len(unknown) == 2
        assert all(call.cost_nano_usd == call.bound_nano_usd for call in unknown)
        assert sum(call.cost_nano_usd for call in debated if not call.usage_unknown) == billed(server)
        assert done.result.total_nano_usd == sum(call.cost_nano_usd for call in ledger.values())


async def test_a_judge_service_that_is_killed(mesh: Any, leaves: Any, folder: Path) -> None:
    answers = asyncio.Event()
    second_juror: list[Call] = []

    def script(call: Call) -> Behaviour:
        """The second juror's calls wait, until they are allowed to be answered."""
        if call.model == "n":
            second_juror.append(call)
        slow = call.model == "n" and not answers.is_set()
        assert call.schema
        marks = {"reason": "fine", "task_fit": 3, "support": 3, "clarity": 1}
        ballot = {letter: {**marks, "support": 4 - n} for n, letter in enumerate(call.schema["properties"])}
        return Behaviour(json.dumps(ballot), fault="hang" if slow else "", after=2)

    async with ModelServer(script) as server:
        configure(folder, server)
        gateway = await mesh.gateway()
        await leaves.stop("judge")
        async with Served("judge", leaves.address("judge"), folder) as first:
            jurors = [judge_pb2.Juror(juror_id=f"j{n}", model=f"local/{model}") for n, model in enumerate("mn", 1)]
            run = await gateway.start(jurors=jurors, preset="quick")
            await told(gateway, run, "call_started", 4)
            await server_hangs(server, 2)
            first.kill()
        answers.set()
        async with Served("judge", leaves.address("judge"), folder):
            done = await gateway.finish(run.run_id)

        assert done.state in (run_pb2.RUN_STATE_PUBLISHED, run_pb2.RUN_STATE_ADVISORY), done.error
        ledger = {call_id: c for one in leaves.reservations.values() for call_id, c in one.calls.items()}
        judged = [call for call in ledger.values() if call.stage == common_pb2.STAGE_JUDGE]
        unknown = [call for call in judged if call.usage_unknown]
        assert unknown
        assert all(call.cost_nano_usd == call.bound_nano_usd for call in unknown)
        assert len(judged) == len(server.calls) == 4 + len(unknown)
        assert len(server.calls) - len(second_juror) == 2  # the first juror's ballots were cast once
        assert sum(call.cost_nano_usd for call in judged if not call.usage_unknown) == billed(server)
        ballots = leaves.artifact(done)["judge"]["ballots"]
        assert sorted(ballot["juror_id"] for ballot in ballots) == ["j1", "j1", "j2", "j2"]


async def test_a_gateway_that_is_killed_and_does_not_come_back(mesh: Any, leaves: Any, folder: Path) -> None:
    answers: list[str] = []

    def script(call: Call) -> Behaviour:
        waits = "the voice that waits" in call.system and not answers
        answer = {"answer": "Money is reserved.", "evidence": [], "confidence": 0.5, "safety_flags": []}
        return Behaviour(json.dumps(answer), fault="hang" if waits else "", after=2)

    await leaves.stop("debate", "governance")
    addresses = {f"DJP_{name.upper()}_ADDRESS": leaves.address(name) for name in leaves.services()}
    settings = {**addresses, "DJP_EXECUTOR_ID": "test", "DJP_RESERVATION_LEASE_S": "2"}
    address = f"unix:{folder}/killed.sock"
    async with ModelServer(script) as server, AsyncExitStack() as stack:
        configure(folder, server)
        for name in ("debate", "governance"):
            await stack.enter_async_context(Served(name, leaves.address(name), folder))
        to_governance = await stack.enter_async_context(open_channel(leaves.address("governance")))
        ledger = governance_pb2_grpc.GovernanceServiceStub(to_governance)
        async with Served("gateway", address, folder, **settings) as gateway, open_channel(address) as channel:
            request = run_pb2.RunRequest(
                task="How is a budget kept?",
                debaters=[
                    debate_pb2.Debater(debater_id="d1", model="local/m"),
                    debate_pb2.Debater(debater_id="d2", model="local/m", role="the voice that waits"),
                ],
            )
            started = run_pb2.StartRunRequest(request_id=str(uuid.uuid4()), run=request)
            run = (await run_pb2_grpc.RunServiceStub(channel).StartRun(started)).run
            await server_hangs(server, 1)
            held = await reservation_of(run, ledger, lambda one: one.charged_nano_usd)  # the first debater's
            gateway.kill()
        lapsed = await reservation_of(run, ledger, lambda one: one.state == governance_pb2.RESERVATION_STATE_LAPSED)
        # Nobody knows what the call cost that was under way: so it costs its bound, and the rest is free again.
        assert held.charged_nano_usd < lapsed.charged_nano_usd < lapsed.reserved_nano_usd
        totals = (
            await ledger.GetReservation(governance_pb2.GetReservationRequest(reservation_id=lapsed.reservation_id))
        ).totals
        assert sum(total.usage_unknown_calls for total in totals) == 1
        assert sum(total.calls for total in totals) == len(server.calls) == 2
        budget = await ledger.GetBudget(governance_pb2.GetBudgetRequest(scope="tenant"))
        for window in budget.budget.windows:
            assert (window.reserved_nano_usd, window.spent_nano_usd) == (0, lapsed.charged_nano_usd)

        answers.append("now the voice that waited says something, too")
        late = await mesh.gateway(reservation_lease_s=60)
        ended = await late.finish(run.run_id)
        assert ended.state == run_pb2.RUN_STATE_PUBLISHED, ended.error  # it reserved the rest anew
        whole = await ledger.ListReservations(governance_pb2.ListReservationsRequest(run_id=run.run_id))
        first, rest = sorted(whole.reservations, key=lambda one: one.reservation_id != lapsed.reservation_id)
        assert first.charged_nano_usd == lapsed.charged_nano_usd
        assert ended.result.total_nano_usd == first.charged_nano_usd + rest.charged_nano_usd
        assert len(server.calls) == 3  # what was written was not written again


async def reservation_of(
    run: run_pb2.Run, ledger: Any, condition: Callable[[governance_pb2.Reservation], Any]
) -> governance_pb2.Reservation:
    """Wait until the run's reservation is as it should be."""
    async with asyncio.timeout(60):
        while True:
            found = await ledger.ListReservations(governance_pb2.ListReservationsRequest(run_id=run.run_id))
            for one in found.reservations:
                if condition(one):
                    reservation: governance_pb2.Reservation = one
                    return reservation
            await asyncio.sleep(0.05)


def configure(folder: Path, server: ModelServer) -> None:
    """A provider file with the server's two models, of two families."""
    price = {"input": 1, "output": 2}
    models = {name: {"price": price, "family": f"family-{name}"} for name in "mn"}
    config = {"api": "openai", "base_url": server.openai_url, "models": models}
    (folder / "providers.yaml").write_text(yaml.safe_dump({"providers": {"local": config}}))


def billed(server: ModelServer) -> int:
    """What the provider bills for the calls whose clients heard the end, in nano-dollars."""
    heard = [call for call in server.calls if call.behaviour and not call.behaviour.fault and call.billed]
    return sum(call.billed.input_tokens * 1000 + call.billed.output_tokens * 2000 for call in heard if call.billed)


async def told(gateway: Any, run: run_pb2.Run, kind: str, count: int) -> None:
    """Wait until the gateway has so many events of that kind on record."""
    async for answer in gateway.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id)):
        count -= answer.event.HasField(kind)
        if not count:
            return
    raise AssertionError("the run ended before")


async def server_hangs(server: ModelServer, count: int) -> None:
    """Wait until so many calls got their first pieces and nothing more."""
    async with asyncio.timeout(60):
        while sum(bool(call.behaviour and call.behaviour.fault == "hang") for call in server.calls) < count:
            server.arrived.clear()
            await server.arrived.wait()


class Served:
    """`djp serve NAME` as a process of its own, up; killed at the end."""

    def __init__(self, name: str, address: str, folder: Path, **environment: str) -> None:
        self._name = name
        self._address = address
        self._folder = folder
        self._environment = environment

    async def __aenter__(self) -> asyncio.subprocess.Process:
        environment = {**os.environ, "DJP_HOME": str(self._folder), "DJP_DRAIN_DELAY_S": "0"}
        environment["DJP_PROVIDERS"] = str(self._folder / "providers.yaml")
        environment |= self._environment
        self._process = await asyncio.create_subprocess_exec(
            *(DJP, "serve", self._name, "--listen", self._address),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert self._process.stdout is not None
        while b"listening on" not in (line := await self._process.stdout.readline()):
            assert line, "the service ended"
        return self._process

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()
