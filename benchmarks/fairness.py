"""How long a tenant's run waits until it begins: on an idle mesh, and while another tenant floods it.

One tenant queues its runs as fast as they are accepted; others start theirs, first while the flood still comes in, then
while it is worked off. Idle meshes, new ones, are measured before and after, so that the machine's moods are in both.
What a user sees is the time from the call to the run's beginning; what the queue does is that from accepted to begun.

- thinking: the mesh is embedded, with the settings that everybody has, twelve runs at once and five of one tenant; its
  models think for half a second, as real ones do at least. Four other tenants each start one run after the other;
- mesh: three gateways, all leaves, a Postgres and a MinIO as processes, and a model server that takes its time, too.
  The flood comes in at all three;
- instant: as the first, but the models answer at once. Then all runs in work share one processor with what begins the
  others', and nothing is promised; the other tenants start one run after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from djp.client import connect
from djp.mesh.identity import Identity, identity_scope
from djp.run_states import TERMINAL_STATES
from djp.standalone import standalone_mesh
from djp.v1 import debate_pb2, judge_pb2, run_pb2
from djp_debate.offline import OfflineWriter
from djp_judge.offline import OfflineJuror
from tests.mesh.mesh_kills import AMPLE, Pace, answers, providers_file
from tests.mesh.mesh_processes import running_mesh

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from djp.client import DjpClient

    Open = Callable[[float], AbstractAsyncContextManager[Sequence[str]]]

TASK = "Why do blind juries judge better than juries that know who wrote what?"
OFFLINE = run_pb2.RunRequest(task=TASK)
SERVED = run_pb2.RunRequest(
    task=TASK,
    debaters=[debate_pb2.Debater(debater_id=name, model=f"local/{name}") for name in ("d1", "d2", "d3")],
    jurors=[judge_pb2.Juror(juror_id=name, model=f"local/{name}") for name in ("j1", "j2")],
)
WRITE, VOTE = OfflineWriter.write, OfflineJuror.vote
TENANTS = 4
"""Beside the one that floods."""
MOST_RATIO = 2.0
"""Of the median wait beside a flood to that on an idle mesh."""
CLIENTS = 8
"""That start the flood's runs at the same time."""


@dataclass
class Waits:
    """Of some runs, in ms."""

    seen: list[float] = field(default_factory=list)
    """From the call to the beginning."""
    queued: list[float] = field(default_factory=list)
    """From accepted to begun."""


@asynccontextmanager
async def embedded(think_s: float) -> AsyncIterator[Sequence[str]]:
    """The whole mesh in this process, whose offline models take that long."""
    for kind, method in ((OfflineWriter, WRITE), (OfflineJuror, VOTE)):

        async def slow(self: Any, *args: Any, method: Any = method) -> Any:
            await asyncio.sleep(think_s)
            return await method(self, *args)

        setattr(kind, method.__name__, slow)
    with tempfile.TemporaryDirectory(prefix="djp-") as home:
        os.environ["DJP_HOME"] = home
        async with standalone_mesh() as address:
            yield [address]


@asynccontextmanager
async def processes(think_s: float) -> AsyncIterator[Sequence[str]]:
    """Three gateways and the rest, whose models are a server's."""
    with tempfile.TemporaryDirectory(prefix="djp-") as folder:
        async with answers(random.Random(0), Pace(think_s, think_s)) as server:
            providers = providers_file(server, Path(folder) / "providers.yaml")
            async with running_mesh(**AMPLE, DJP_PROVIDERS=providers) as mesh:
                yield [one.address for one in mesh.gateways]


async def ask(client: DjpClient, tenant: str, request: run_pb2.RunRequest, waits: Waits) -> None:
    """One run, from the call to its end."""
    with identity_scope(Identity(tenant)):
        called_ns = time.time_ns()
        run = await client.start_run(request)
        async for event in client.watch(run.run_id):
            if event.HasField("state") and event.state.state in TERMINAL_STATES:
                run = event.state.run
    begun_ns = run.started_at.ToNanoseconds()
    waits.seen.append((begun_ns - called_ns) / 1e6)
    waits.queued.append((begun_ns - run.created_at.ToNanoseconds()) / 1e6)


@dataclass(frozen=True)
class Scenario:
    """A kind of mesh, how long its models think, and what the tenants ask it for."""

    open: Open
    think_s: float
    request: run_pb2.RunRequest
    side_by_side: bool = True
    """The other tenants do not wait for each other."""

    async def ask(self, clients: Sequence[DjpClient], runs: int, waits: Waits, flood: Any = None) -> None:
        """Runs of the other tenants, at least one of each, as many as told or as long as the flood comes in."""
        turn = cycle(clients)
        one_by_one = asyncio.Semaphore(TENANTS if self.side_by_side else 1)
        rolled = random.Random(0)

        async def tenants(number: int) -> None:
            for _ in range(-(-runs // TENANTS)):
                await asyncio.sleep(rolled.uniform(0, self.think_s))  # or they would all start at once
                async with one_by_one:
                    await ask(next(turn), f"tenant-{number}", self.request, waits)
                if flood and flood.done():
                    break

        await asyncio.gather(*(tenants(number) for number in range(TENANTS)))

    async def flood(self, clients: Sequence[DjpClient], runs: int) -> float:
        """Queue the runs of one tenant; seconds that it took."""
        room, began, turn = asyncio.Semaphore(CLIENTS), time.perf_counter(), cycle(clients)

        async def start() -> None:
            async with room:
                await next(turn).start_run(self.request)

        with identity_scope(Identity("flood")):
            await asyncio.gather(*(start() for _ in range(runs)))
        return time.perf_counter() - began

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[Sequence[DjpClient], Sequence[DjpClient]]]:
        """A new mesh that has warmed up; two clients of each of its gateways."""
        async with self.open(self.think_s) as addresses, AsyncExitStack() as stack:
            clients, others = [
                [await stack.enter_async_context(connect(address)) for address in addresses] for _ in range(2)
            ]
            await self.ask(clients, 2 * TENANTS, Waits())
            yield clients, others

    async def measure(self, runs: int, queued: int) -> dict[str, Waits]:
        """The waits in each situation."""
        idle, coming_in, worked_off = Waits(), Waits(), Waits()
        async with self.opened() as (clients, _):
            await self.ask(clients, runs // 2, idle)
        async with self.opened() as (clients, others):
            coming = asyncio.create_task(self.flood(others, queued))
            await asyncio.sleep(0)
            while not coming.done():
                await self.ask(clients, runs, coming_in, coming)
            print(f"{queued} runs were queued in {await coming:.1f} s")
            await self.ask(clients, runs, worked_off)
            with identity_scope(Identity("flood")):
                left = await clients[0].list_runs(run_pb2.ListRunsRequest(states=[run_pb2.RUN_STATE_QUEUED]))
            assert left.runs, "the flood was over too early"
        async with self.opened() as (clients, _):
            await self.ask(clients, runs // 2, idle)
        return {"idle": idle, "in": coming_in, "off": worked_off}


SITUATIONS = {"idle": "idle", "in": "the flood comes in", "off": "the flood is worked off"}


def quantile(values: Sequence[float], percent: int) -> float:
    """The value below which so many percent lie."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def report(name: str, waits: dict[str, Waits]) -> dict[str, float]:
    """Print a scenario's table; its figures."""
    figures: dict[str, float] = {}
    print(f"\n{name:<26}{'runs':>6}{'call to begun: p50':>21}{'p99':>10}{'to idle':>9}", end="")
    print(f"{'accepted to begun: p50':>25}{'p99':>10}{'to idle':>9}")
    for situation, told in SITUATIONS.items():
        print(f"{told:<26}{len(waits[situation].seen):>6}", end="")
        for what, width in (("seen", 18), ("queued", 22)):
            took, idle = getattr(waits[situation], what), getattr(waits["idle"], what)
            p50, p99, ratio = quantile(took, 50), quantile(took, 99), quantile(took, 50) / quantile(idle, 50)
            print(f"{p50:>{width}.1f} ms{p99:>7.1f} ms{ratio:>9.1f}", end="")
            short = f"{name}_{situation}_{what}"
            figures |= {f"{short}_p50_ms": round(p50, 1), f"{short}_p99_ms": round(p99, 1)}
            figures[f"{short}_ratio"] = round(ratio, 2)
        print()
    return figures


def main() -> int:
    """Measure, print tables and one line of JSON; the exit code is 1 if, at full size and with models that think, a
    flood makes others wait more than MOST_RATIO times as long, as they see it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few runs, a flood of 200, meshes of one process only")
    parser.add_argument("--only", choices=("thinking", "mesh", "instant"), help="one scenario")
    options = parser.parse_args()
    quick = options.quick
    think_s, runs, queued = (0.1, 8, 200) if quick else (0.5, 60, 10_000)
    scenarios = {
        "thinking": Scenario(embedded, think_s, OFFLINE),
        "mesh": Scenario(processes, think_s, SERVED),
        "instant": Scenario(embedded, 0.0, OFFLINE, side_by_side=False),
    }
    if quick:
        del scenarios["mesh"]
    if options.only:
        scenarios = {options.only: scenarios[options.only]}
    figures: dict[str, float] = {}
    for name, scenario in scenarios.items():
        figures |= report(name, asyncio.run(scenario.measure(runs, queued)))
    judged = [f"{name}_{situation}" for name in scenarios if name != "instant" for situation in ("in", "off")]
    missed = [one for one in judged if figures[f"{one}_seen_ratio"] > MOST_RATIO]
    print(json.dumps({"benchmark": "fairness", "figures": figures, "missed": missed}))
    return 1 if missed and not quick else 0


if __name__ == "__main__":
    sys.exit(main())
