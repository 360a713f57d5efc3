"""Kills the debate service at random moments, and counts what is paid twice when the debate is taken up again.

A debate of five debaters over two rounds, whose drafts come from the tests' model server, which answers after 20 to 120
ms. Each `djp serve debate` is a process of its own and is killed with SIGKILL up to 60 ms after a random number of
events; the next one gets the drafts that had come as `completed_drafts`, with `attempt` raised, until a debate is over,
then a new one begins. Only a kill that ended a debate's stream counts. No draft that the client has may be asked for
again: that is checked in the model server's own record. Calls that were told before they were sent, and whose end never
came, are owed at their bound. A call that is in the server's record and was never told, by its id, is counted too: it
was sent in the moment between telling and the kill.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from djp.llm.calls import call_id
from djp.mesh.channel import open_channel
from djp.v1 import debate_pb2, debate_pb2_grpc
from tests.llm.model_server import Behaviour, ModelServer

if TYPE_CHECKING:
    from collections.abc import Collection

    from djp.v1 import common_pb2
    from tests.llm.model_server import Call

DJP = Path(sys.executable).with_name("djp")
DEBATERS, ROUNDS = 5, 2
EVENTS = 40
"""Of a whole debate there are some 42: started, call_started, delta and draft for each of ten drafts, and the end."""
LATEST_S = 0.06
ANSWER = json.dumps({"answer": "Money is reserved.", "evidence": [], "confidence": 0.5, "safety_flags": []})
PROVIDERS = """\
providers:
  local:
    api: openai
    base_url: {url}
    models: {{m: {{price: {{input: 1, output: 2}}}}}}
"""


@dataclass
class Debate:
    """A debate that goes on over several services: its drafts so far, and the calls that were told."""

    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    attempt: int = 0
    drafts: dict[tuple[str, int], debate_pb2.Draft] = field(default_factory=dict)
    told: dict[str, common_pb2.ModelCall] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    over: bool = False

    def request(self) -> debate_pb2.DebateRequest:
        """The request that goes on with it. A debater's role says who it is, so that the server can tell."""
        self.attempt += 1
        debaters = [
            debate_pb2.Debater(debater_id=f"d{number}", model="local/m", role=f"{self.run_id} d{number} {self.attempt}")
            for number in range(1, DEBATERS + 1)
        ]
        return debate_pb2.DebateRequest(
            run_id=self.run_id,
            task="How is money kept?",
            debaters=debaters,
            rounds=ROUNDS,
            max_tokens=100,
            completed_drafts=self.drafts.values(),
            attempt=self.attempt,
        )

    def note(self, response: debate_pb2.DebateResponse) -> None:
        """An event has come."""
        match response.WhichOneof("event"):
            case "call_started":
                self.told[response.call_started.call_id] = response.call_started
            case "draft":
                draft = response.draft.draft
                self.drafts[draft.debater_id, draft.round] = draft
                self.ended.update(call.call_id for call in response.draft.calls)
            case "failed":
                raise RuntimeError(response.failed.message)
            case "finished":
                self.over = True


def asked_for(call: Call) -> tuple[str, str, int, int]:
    """Run, debater, round and the run's attempt that a call was for."""
    run_id, debater_id, attempt = call.system.partition("Your part: ")[2].split()[:3]
    return run_id, debater_id, 2 if "Your last draft" in call.user else 1, int(attempt)


def untold(calls: list[Call], told: Collection[str]) -> int:
    """How many calls of the server's record were never told."""
    numbers: Counter[tuple[str, str, int, int]] = Counter()
    missing = 0
    for call in calls:
        run_id, debater_id, round_, attempt = part = asked_for(call)
        numbers[part] += 1
        missing += call_id(run_id, "DEBATE", debater_id, round_, attempt, numbers[part]) not in told
    return missing


async def main() -> int:
    """Kill, resume and count; the exit code is 1 if anything was paid twice."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="15 kills in place of 100")
    parser.add_argument("--seed", type=int, default=0, help="what decides the moments")
    options = parser.parse_args()
    kills, chance = 15 if options.quick else 100, random.Random(options.seed)
    debates = [Debate()]
    twice = 0

    def script(call: Call) -> Behaviour:
        nonlocal twice
        run_id, debater_id, round_, _ = asked_for(call)
        debate = next(one for one in debates if one.run_id == run_id)
        twice += (debater_id, round_) in debate.drafts
        return Behaviour(ANSWER, delay_s=chance.uniform(0.02, 0.12), max_pieces=5)

    async with ModelServer(script) as server:
        with tempfile.TemporaryDirectory(prefix="djp-") as folder:
            (Path(folder) / "providers.yaml").write_text(PROVIDERS.format(url=server.openai_url))
            done = 0
            while done < kills:
                if debates[-1].over:
                    debates.append(Debate())
                moment = chance.randrange(1, EVENTS), chance.uniform(0, LATEST_S)
                done += await until_killed(debates[-1], Path(folder), moment)
                if sys.stderr.isatty():
                    print(f"\r{done} of {kills} kills", end="", file=sys.stderr)
            while not debates[-1].over:
                await until_killed(debates[-1], Path(folder), None)
        calls = len(server.calls)
        never_told = untold(server.calls, {call_id for debate in debates for call_id in debate.told})

    told = sum(len(debate.told) for debate in debates)
    owed = [call for debate in debates for call_id, call in debate.told.items() if call_id not in debate.ended]
    drafts = sum(len(debate.drafts) for debate in debates)
    print(f"kills                               {kills:6}")
    print(f"debates, whole in the end           {len(debates):6}")
    print(f"drafts                              {drafts:6}")
    print(f"finished drafts asked for again     {twice:6}")
    print(f"calls that the server was asked     {calls:6}")
    print(f"calls that were told                {told:6}")
    print(f"calls in flight, owed at the bound  {len(owed):6}")
    print(f"calls sent and never told           {never_told:6}")
    at_bound = all(call.usage_unknown and call.cost_nano_usd == call.bound_nano_usd for call in owed)
    figures = {
        "kills": kills,
        "drafts": drafts,
        "paid_twice": twice,
        "calls": calls,
        "owed_at_bound": len(owed),
        "untold": never_told,
    }
    print(json.dumps({"benchmark": "resume", "figures": figures}))
    whole = drafts == len(debates) * DEBATERS * ROUNDS and at_bound
    return 0 if whole and not twice else 1


async def until_killed(debate: Debate, folder: Path, moment: tuple[int, float] | None) -> bool:
    """Go on with a debate on a service that is killed at the moment, so many events and seconds in; None: at the end.

    Whether the kill ended the debate's stream.
    """
    left = moment[0] if moment else 0
    cut = False
    socket = folder / f"{uuid.uuid4().hex[:8]}.sock"
    environment = {**os.environ, "DJP_HOME": str(folder), "DJP_PROVIDERS": str(folder / "providers.yaml")}
    process = await asyncio.create_subprocess_exec(
        *(str(DJP), "serve", "debate", "--listen", f"unix:{socket}"),
        env=environment,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with open_channel(f"unix:{socket}") as channel:
            await asyncio.wait_for(channel.channel_ready(), 60)
            stream: Any = debate_pb2_grpc.DebateServiceStub(channel).Debate(debate.request(), timeout=60)
            try:
                async for response in stream:
                    debate.note(response)
                    left -= 1
                    if moment and left == 0:
                        await asyncio.sleep(moment[1])
                        process.send_signal(signal.SIGKILL)  # what is still under way in the socket counts
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                cut = True
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    return cut and not debate.over


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
