"""What a run costs beside its models: the same debate here, embedded and as a mesh of processes, and with LangGraph.

The models answer at once, so what is left is overhead. Sides take turns, so that a machine whose speed drifts favours
none of them: first runs one after the other, for latency, then twelve at once, for throughput.

- embedded: all seven services in one process on SQLite, as `djp run` has them; the client is in that process too;
- mesh: seven processes, three of them on one Postgres, asked over gRPC;
- langgraph: a graph with as many model calls in as many rounds, its SQLite checkpointer, and the winner's text written
  to a file (runs_peers/worker.py). It has no budget, no ledger, no redaction service, no queue and no watchers.

Latency is from the order to the last event, a watcher's. Runs per core are those of a second of CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peer_environment import peer_environment
from djp.client import connect
from djp.standalone import LEAF_PORTS, standalone_mesh
from djp.v1 import common_pb2, run_pb2
from tests.governance.ledger_postgres import new_database, new_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from djp.client import DjpClient

DJP = str(Path(sys.executable).with_name("djp"))
PACKAGES = ("langgraph==1.2.24", "langgraph-checkpoint-sqlite==3.1.2")
WORKER = Path(__file__).parent / "runs_peers" / "worker.py"
TASK = "Why do blind juries judge better than juries that know who wrote what?"
AT_ONCE = 12
INTERACTIVE_MS = 150.0


class Side:
    """What was measured of one side, in seconds."""

    def __init__(self, go: Callable[[int, int], Awaitable[tuple[Sequence[float], float]]]) -> None:
        """`go`: makes so many runs, so many at once; the seconds of each, and of CPU of all."""
        self._go = go
        self.took: list[float] = []
        self.rates: list[float] = []
        self.cpu: list[float] = []

    async def turn(self, alone: int, busy: int) -> None:
        """Some runs one after the other, and some at once."""
        took, _ = await self._go(alone, 1)
        began = time.perf_counter()
        _, cpu = await self._go(busy, AT_ONCE)
        self.rates.append(busy / (time.perf_counter() - began))
        self.took += took
        self.cpu.append(cpu / busy)

    def figures(self) -> dict[str, float]:
        """Latency in ms, runs a second, and runs of a second of CPU."""
        return {
            "p50_ms": round(quantile(self.took, 50) * 1e3, 1),
            "p99_ms": round(quantile(self.took, 99) * 1e3, 1),
            "runs_s": round(statistics.median(self.rates), 1),
            "runs_s_per_core": round(1 / statistics.median(self.cpu), 1),
        }


class Ours:
    """Runs of ours through a gateway's client, and what their events say of their steps."""

    def __init__(self, client: DjpClient, cpu: Callable[[], float]) -> None:
        self._client = client
        self._cpu = cpu
        self.steps: dict[str, list[float]] = {}
        """Of the runs that had the machine to themselves, ms by step, in the order of the steps."""
        self.begun_ms: list[float] = []
        self.calls = (0, 0, 0)
        """Debaters, rounds and ballots of a run."""
        self.text = ""

    async def go(self, runs: int, at_once: int) -> tuple[Sequence[float], float]:
        room = asyncio.Semaphore(at_once)
        cpu = self._cpu()
        took = await asyncio.gather(*(self._one(room, alone=at_once == 1) for _ in range(runs)))
        return took, self._cpu() - cpu

    async def _one(self, room: asyncio.Semaphore, *, alone: bool) -> float:
        async with room:
            began = time.perf_counter()
            run = await self._client.start_run(run_pb2.RunRequest(task=TASK))
            accepted = time.perf_counter()
            events = [event async for event in self._client.watch(run.run_id)]
            took = time.perf_counter() - began
        done = events[-1].state.run
        assert done.result.text, done.error
        if alone:
            self._note(done, events, (accepted - began) * 1e3, took * 1e3)
        return took

    def _note(self, done: run_pb2.Run, events: Sequence[run_pb2.RunEvent], accepted: float, took: float) -> None:
        begun = (done.started_at.ToNanoseconds() - done.created_at.ToNanoseconds()) / 1e6
        self.begun_ms.append(begun)
        parts = {"accept (StartRun)": accepted}
        for event in events:
            if event.HasField("stage_finished"):
                name = common_pb2.Stage.Name(event.stage_finished.stage).removeprefix("STAGE_").lower()
                parts[name] = event.stage_finished.duration.ToNanoseconds() / 1e6
        parts["between the steps"] = took - sum(parts.values())
        for name, part in parts.items():
            self.steps.setdefault(name, []).append(part)
        ballots = sum(event.HasField("ballot") for event in events)
        self.calls = (len(done.result.drafts), done.result.rounds, ballots)
        self.text = done.result.text


def quantile(values: Sequence[float], percent: int) -> float:
    """The value below which so many percent lie."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


@asynccontextmanager
async def embedded() -> AsyncIterator[Ours]:
    """The whole mesh in this process."""
    with tempfile.TemporaryDirectory(prefix="djp-") as home:
        os.environ["DJP_HOME"] = home
        async with standalone_mesh() as address, connect(address) as client:
            yield Ours(client, time.process_time)


@asynccontextmanager
async def mesh() -> AsyncIterator[Ours]:
    """Seven processes on one Postgres."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="djp-")))
        postgres = stack.enter_context(new_postgres())
        addresses = {service: f"unix:{folder}/{service}.sock" for service in (*LEAF_PORTS, "gateway")}
        environment = {
            **os.environ,
            "DJP_HOME": str(folder / "home"),
            "DJP_LOG_LEVEL": "INFO",
            **{f"DJP_{service.upper()}_ADDRESS": address for service, address in addresses.items()},
        }
        for service in ("gateway", "governance", "storage"):
            url = stack.enter_context(new_database(postgres, service))
            environment[f"DJP_{service.upper()}_DATABASE_URL"] = url
        processes, readers = [], []
        for service, address in addresses.items():
            process = await asyncio.create_subprocess_exec(
                DJP, "serve", service, "--listen", address, env=environment, stderr=asyncio.subprocess.PIPE
            )
            stack.push_async_callback(stopped, process)
            processes.append(process)
        for process in processes:
            assert process.stderr is not None
            while b"listening on" not in (line := await process.stderr.readline()):
                assert line, "a service did not start"
            readers.append(asyncio.create_task(process.stderr.read()))
        client = await stack.enter_async_context(connect(addresses["gateway"]))
        yield Ours(client, lambda: sum(cpu_seconds(process.pid) for process in processes))


async def stopped(process: asyncio.subprocess.Process) -> None:
    """Wait for the end of a service that still runs."""
    if process.returncode is None:
        process.terminate()
    await process.wait()


def cpu_seconds(pid: int) -> float:
    """What a process has used so far; Linux tells."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def langgraph(python: Path, calls: tuple[int, int, int], text: str) -> AsyncIterator[Side]:
    """The peer, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="djp-") as folder:
        command = [str(python), str(WORKER), folder, *map(str, calls), text]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        ask, answers = process.stdin, process.stdout
        assert ask is not None
        assert answers is not None

        async def go(runs: int, at_once: int) -> tuple[Sequence[float], float]:
            ask.write(json.dumps({"runs": runs, "at_once": at_once}).encode() + b"\n")
            answer: dict[str, Any] = json.loads(await answers.readline())
            return answer["took"], answer["cpu"]

        yield Side(go)
        ask.close()
        await process.wait()


async def measure(turns: int, alone: int, busy: int) -> tuple[dict[str, Side], Ours]:
    """Every side, turn by turn."""
    python = peer_environment("runs-peers-1", *PACKAGES)
    async with mesh() as there, embedded() as here:
        await asyncio.gather(here.go(3, 1), there.go(3, 1))
        async with langgraph(python, here.calls, here.text) as peer:
            sides = {"embedded": Side(here.go), "mesh": Side(there.go), "langgraph": peer}
            await peer.turn(3, 3)
            for one in (peer.took, peer.rates, peer.cpu, here.begun_ms, *here.steps.values()):
                one.clear()
            for _ in range(turns):
                for side in sides.values():
                    await side.turn(alone, busy)
    return sides, here


def main() -> None:
    """Measure, print two tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="2 turns of 10 and 24 runs instead of 6 of 40 and 120")
    sides, here = asyncio.run(measure(*((2, 10, 24) if parser.parse_args().quick else (6, 40, 120))))
    debaters, rounds, ballots = here.calls
    print(f"{debaters} debaters, {rounds} round(s), {ballots} ballots; {AT_ONCE} runs at once where they are counted")
    print(f"\n{'':<12}{'p50':>10}{'p99':>10}{'runs/s':>9}{'runs/s per core':>17}{'p50 to langgraph':>18}")
    figures: dict[str, float] = {}
    floor = quantile(sides["langgraph"].took, 50)
    for name, side in sides.items():
        told, ratio = side.figures(), quantile(side.took, 50) / floor
        print(
            f"{name:<12}{told['p50_ms']:>7} ms{told['p99_ms']:>7} ms{told['runs_s']:>9}{told['runs_s_per_core']:>17}"
            f"{ratio:>18.1f}"
        )
        figures |= {f"{name}_{what}": value for what, value in told.items()}
        figures[f"{name}_ratio"] = round(ratio, 2)
    whole = sum(map(statistics.median, here.steps.values()))
    print(f"\n{'step of an embedded run':<26}{'p50':>10}{'share':>8}")
    for step, took in here.steps.items():
        print(f"{step:<26}{statistics.median(took):>7.1f} ms{statistics.median(took) / whole:>8.0%}")
        figures[f"step_{step.split()[0]}_ms"] = round(statistics.median(took), 1)
    in_time = sum(begun <= INTERACTIVE_MS for begun in here.begun_ms) / len(here.begun_ms)
    figures |= {
        "begun_p50_ms": round(quantile(here.begun_ms, 50), 1),
        "begun_p99_ms": round(quantile(here.begun_ms, 99), 1),
        "begun_in_time": round(in_time, 3),
    }
    print(
        f"\nfrom accepted to begun, embedded and with room: p50 {figures['begun_p50_ms']} ms, p99 "
        f"{figures['begun_p99_ms']} ms; {in_time:.0%} within {INTERACTIVE_MS:.0f} ms"
    )
    print(json.dumps({"benchmark": "runs", "figures": figures}))


if __name__ == "__main__":
    main()
