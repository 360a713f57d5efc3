"""What a model call costs us beside the bare client: 100 concurrent debates of 4 drafts, and the same 400 calls alone.

The provider is the tests' model server, a process of its own. Each of its answers is a structured draft of about 250
tokens in JSON, streamed in 60 chunks with the usage at the end: the first after 100 ms, the rest in ten writes over the
next 400 ms, so that an answer takes 500 ms.

`debate` is the debate service (`djp serve debate`, a process of its own) over its gRPC socket: all debates are begun at
once, one round, four debaters, six passages. `bare` is `openai.AsyncOpenAI`, its retries off, in a process of its own,
which makes the same 400 calls at once and joins their text. Its requests are those that the service sent in as many
debates before the measurement, and both get the same answers in the same chunks: what is compared is the work of
getting the same texts from the same provider. On our side that holds everything the service does for them: checking
the request, building prompts, bounding and charging each call, spans, reading the drafts, deltas, and gRPC; the bare
side reads nothing out of the text. They take turns on the same machine after a warm-up of each, which is not counted.
CPU is that of the process alone, user and system (from /proc, in ticks of 10 ms), without the provider's and the
measuring client's. Medians over the turns; the goal is a ratio of at most 1.3.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from djp.mesh.channel import open_channel
from djp.v1 import common_pb2, debate_pb2, debate_pb2_grpc
from tests.llm.model_server import Behaviour, ModelServer

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parent.parent
DRAFTS, PIECES = 4, 60
GOAL = 1.3
START_TIMEOUT_S = 60.0
TURN_TIMEOUT_S = 120.0
KEY = "benchmark-key"

PROVIDERS = """\
providers:
  {name}:
    api: openai
    api_key_env: BENCHMARK_KEY
    base_url: {url}
    max_concurrency: {calls}
    models:
      gpt-4o-mini: {{tokenizer: o200k_base, price: {{input: 0.15, output: 0.6}}}}
"""
ROLES = ("Weigh the costs.", "Look for what can fail.", "Think of whoever has to run it.", "Keep to the sources.")
SENTENCES = (
    "The ledger reserves the most that a run can cost before any model is called [Budgets].",
    "A run whose bound does not fit into what is left of a window is refused, and nothing is spent on it [Budgets].",
    "Every call is charged under an id of its own, so that a report that comes twice counts once [Operations].",
    "What was started and never reported is owed at its bound, which keeps the sum honest after a crash [Operations].",
    "When the run is settled, the ledger gives back what was held and not spent, in every window at once [Budgets].",
    "An operator sees both sums, reserved and spent, for each window, and can change a limit at any time [Operations].",
)
ANSWER = json.dumps(
    {
        "answer": "\n\n".join((" ".join(SENTENCES[:3]), " ".join(SENTENCES[3:]))),
        "evidence": [
            "reserves the most that a run can cost before any model is called",
            "gives back what was held and not spent, in every window at once",
            "a report that comes twice counts once",
        ],
        "confidence": 0.82,
        "safety_flags": [],
    }
)


class Measured:
    """A process that is measured: what it cost and how long it took to get all drafts, turn by turn."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.cpu_s: list[float] = []
        self.wall_s: list[float] = []

    def used_s(self) -> float:
        """CPU seconds that the process has used so far, user and system, all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spawn(stack: ExitStack, command: list[str], **options: Any) -> subprocess.Popen[str]:
    """A process that ends with the stack: told to by signal, and killed if it does not."""
    process = subprocess.Popen(command, text=True, cwd=ROOT, **options)

    def end() -> None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(end)
    return process


def request(provider: str, number: int) -> debate_pb2.DebateRequest:
    """One debate: a task, passages as a search gives them, and four debaters with roles."""
    text = " ".join(SENTENCES)
    passages = [
        common_pb2.Passage(passage_id=f"p{at}", document_id=f"doc{at}", title=title, text=f"{at}. {text} {text}")
        for at, title in enumerate(("Budgets", "Operations", "Judging", "Models", "Grounding", "Redaction"), 1)
    ]
    return debate_pb2.DebateRequest(
        run_id=str(uuid.UUID(int=number, version=4)),
        task=f"Case {number}: how does a run keep a budget from being overdrawn, and what does an operator see of it?",
        debaters=[
            debate_pb2.Debater(debater_id=f"d{at}", model=f"{provider}/gpt-4o-mini", role=role, seed=at)
            for at, role in enumerate(ROLES, 1)
        ],
        rounds=1,
        max_tokens=1200,
        passages=passages,
        required_citations=2,
    )


async def debate(stub: debate_pb2_grpc.DebateServiceAsyncStub, asked: debate_pb2.DebateRequest) -> None:
    """One debate to its end; every draft must be whole, and charged exactly."""
    finished = None
    async for event in stub.Debate(asked, timeout=TURN_TIMEOUT_S):
        if event.HasField("failed"):
            raise RuntimeError(f"a draft failed: {event.failed.message}")
        if event.HasField("draft") and any(call.usage_unknown for call in event.draft.calls):
            raise RuntimeError("a call's usage is unknown")
        if event.HasField("finished"):
            finished = event.finished
    if finished is None or len(finished.drafts) != DRAFTS:
        raise RuntimeError("a debate ended without its drafts")


async def debate_turn(stub: debate_pb2_grpc.DebateServiceAsyncStub, numbers: Iterable[int]) -> float:
    """All debates at once; seconds until the last is over."""
    asked = [request("measured", number) for number in numbers]
    began = time.perf_counter()
    await asyncio.gather(*(debate(stub, one) for one in asked))
    return time.perf_counter() - began


async def bare_turn(bare: subprocess.Popen[str]) -> float:
    """All calls of the bare client at once; seconds until the last is over."""
    assert bare.stdin is not None
    assert bare.stdout is not None
    bare.stdin.write("go\n")
    bare.stdin.flush()
    line = await asyncio.wait_for(asyncio.to_thread(bare.stdout.readline), TURN_TIMEOUT_S)
    return float(line)


async def bare_client(url: str, bodies: list[dict[str, Any]]) -> None:
    """The peer's process: for each line of standard input, make every call at once and print the seconds it took."""
    import openai

    async with openai.AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0) as client:

        async def call(body: dict[str, Any]) -> str:
            pieces, usage = [], None
            async for chunk in await client.chat.completions.create(**body):
                if chunk.choices and chunk.choices[0].delta.content:
                    pieces.append(chunk.choices[0].delta.content)
                usage = chunk.usage or usage
            if usage is None:
                raise RuntimeError("a call's usage is unknown")
            return "".join(pieces)

        while await asyncio.to_thread(sys.stdin.readline):
            began = time.perf_counter()
            answers = await asyncio.gather(*map(call, bodies))
            took = time.perf_counter() - began
            if set(answers) != {ANSWER}:
                raise RuntimeError("an answer is not whole")
            print(took, flush=True)


async def sent_bodies(
    stub: debate_pb2_grpc.DebateServiceAsyncStub, server: ModelServer, debates: int
) -> list[dict[str, Any]]:
    """What the service sends to a provider for these debates."""
    await asyncio.gather(*(debate(stub, request("recording", number)) for number in range(debates)))
    return [call.body for call in server.calls]


async def measure(debates: int, repetitions: int) -> tuple[Measured, Measured]:
    """The debate service and the bare client, in turn."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        answer = folder / "answer"
        answer.write_text(ANSWER)
        timing = ["--delay-ms", "100", "--gap-ms", "40", "--pieces", str(PIECES), "--pieces-per-write", "6"]
        server_command = [sys.executable, "-m", "tests.llm.model_server", *timing, "--text-file", str(answer)]
        provider = spawn(stack, server_command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert provider.stdout is not None
        url = f"http://127.0.0.1:{int(provider.stdout.readline())}/v1"
        async with ModelServer(lambda _: Behaviour(text=ANSWER, max_pieces=PIECES)) as recorder:
            one, other = (
                PROVIDERS.format(name=name, url=at, calls=debates * DRAFTS)
                for name, at in (("measured", url), ("recording", recorder.openai_url))
            )
            (folder / "providers.yaml").write_text(one + other.removeprefix("providers:\n"))
            own = {"DJP_HOME": str(folder), "DJP_PROVIDERS": str(folder / "providers.yaml"), "BENCHMARK_KEY": KEY}
            kept = {name: value for name, value in os.environ.items() if not name.startswith(("DJP_", "OTEL_"))}
            address = f"unix:{folder / 'debate.sock'}"
            djp = str(Path(sys.executable).with_name("djp"))
            service = spawn(
                stack, [djp, "serve", "debate", "--listen", address], env=kept | own | {"DJP_LOG_LEVEL": "WARNING"}
            )
            async with open_channel(address) as channel:
                stub = debate_pb2_grpc.DebateServiceStub(channel)
                await wait_for_service(stub)
                bodies = folder / "bodies.json"
                bodies.write_text(json.dumps(await sent_bodies(stub, recorder, debates)))
                client_command = [sys.executable, "-m", "benchmarks.debates", "--bare", url, str(bodies)]
                client = spawn(stack, client_command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=kept)
                return await take_turns(debates, repetitions, service.pid, stub, client)


async def wait_for_service(stub: debate_pb2_grpc.DebateServiceAsyncStub) -> None:
    """Until it answers. Calls wait for the socket."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            await stub.ListModels(debate_pb2.ListModelsRequest(provider="offline"), timeout=START_TIMEOUT_S)
            return
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


async def take_turns(
    debates: int,
    repetitions: int,
    service_pid: int,
    stub: debate_pb2_grpc.DebateServiceAsyncStub,
    client: subprocess.Popen[str],
) -> tuple[Measured, Measured]:
    """A warm-up of each, then as many turns of each."""
    ours, bare = Measured(service_pid), Measured(client.pid)
    for turn in range(repetitions + 1):
        for measured in (ours, bare) if turn % 2 else (bare, ours):
            before = measured.used_s()
            wall = await (
                debate_turn(stub, range(turn * debates, (turn + 1) * debates))
                if measured is ours
                else bare_turn(client)
            )
            if turn:
                measured.wall_s.append(wall)
                measured.cpu_s.append(measured.used_s() - before)
    return ours, bare


def main() -> None:
    """Measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="50 debates and 2 turns of each instead of 100 and 7")
    parser.add_argument("--bare", nargs=2, metavar=("URL", "BODIES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        url, bodies_file = options.bare
        asyncio.run(bare_client(url, json.loads(Path(bodies_file).read_text())))
        return
    debates, repetitions = (50, 2) if options.quick else (100, 7)
    calls = debates * DRAFTS
    both = asyncio.run(measure(debates, repetitions))
    figures: dict[str, float] = {}
    print(f"{f'{calls} streamed calls at once':<30}{'drafts/s':>10}{'CPU per call':>15}{'least':>9}{'most':>9}")
    for name, title, measured in (
        ("debate", f"{debates} debates of {DRAFTS} drafts", both[0]),
        ("bare", "bare AsyncOpenAI client", both[1]),
    ):
        cpu_ms = [1000 * used / calls for used in measured.cpu_s]
        median, rate = statistics.median(cpu_ms), calls / statistics.median(measured.wall_s)
        print(f"{title:<30}{rate:>10.0f}{median:>12.2f} ms{min(cpu_ms):>9.2f}{max(cpu_ms):>9.2f}")
        figures |= {f"{name}_drafts_per_s": round(rate, 1), f"{name}_cpu_ms_per_call": round(median, 2)}
    figures["cpu_to_bare"] = round(figures["debate_cpu_ms_per_call"] / figures["bare_cpu_ms_per_call"], 2)
    figures["throughput_to_bare"] = round(figures["debate_drafts_per_s"] / figures["bare_drafts_per_s"], 2)
    print(f"CPU per call to bare: {figures['cpu_to_bare']:.2f} (goal: at most {GOAL})")
    print(json.dumps({"benchmark": "debates", "figures": figures}))


if __name__ == "__main__":
    main()
