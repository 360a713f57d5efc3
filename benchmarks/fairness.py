"""How long a tenant's run waits until it begins: on an idle mesh, and while another tenant floods it.

The mesh is embedded, with the settings that everybody has: twelve runs at once, five of one tenant. One tenant queues
its runs as fast as they are accepted; the others start theirs one after the other, first while the flood still comes
in, then while it is worked off. That is measured with models that think for half a second, as real ones do at least,
and with models that answer at once: then all runs in work share one processor with what begins the others'.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from djp.client import connect
from djp.mesh.identity import Identity, identity_scope
from djp.run_states import TERMINAL_STATES
from djp.standalone import standalone_mesh
from djp.v1 import run_pb2
from djp_debate.offline import OfflineWriter
from djp_judge.offline import OfflineJuror

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp.client import DjpClient

TASK = "Why do blind juries judge better than juries that know who wrote what?"
WRITE, VOTE = OfflineWriter.write, OfflineJuror.vote
THINK_S = 0.5
MOST_RATIO = 2.0
"""Of the median wait beside a flood to that on an idle mesh."""
CLIENTS = 8
"""That start the flood's runs at the same time."""


def think(seconds: float) -> None:
    """Let the offline models take that long from now on."""
    for kind, method in ((OfflineWriter, WRITE), (OfflineJuror, VOTE)):

        async def slow(self: Any, *args: Any, method: Any = method) -> Any:
            await asyncio.sleep(seconds)
            return await method(self, *args)

        setattr(kind, method.__name__, slow)


async def begun_ms(client: DjpClient, runs: int) -> list[float]:
    """From accepted to begun, of runs of four tenants, one after the other and each waited for."""
    took = []
    for number in range(runs):
        with identity_scope(Identity(f"tenant-{number % 4}")):
            run = await client.start_run(run_pb2.RunRequest(task=TASK))
            async for event in client.watch(run.run_id):
                if event.HasField("state") and event.state.state in TERMINAL_STATES:
                    run = event.state.run
        took.append((run.started_at.ToNanoseconds() - run.created_at.ToNanoseconds()) / 1e6)
    return took


async def flood(client: DjpClient, runs: int) -> float:
    """Queue the runs of one tenant; seconds that it took."""
    room, began = asyncio.Semaphore(CLIENTS), time.perf_counter()

    async def start() -> None:
        async with room:
            await client.start_run(run_pb2.RunRequest(task=TASK))

    with identity_scope(Identity("flood")):
        await asyncio.gather(*(start() for _ in range(runs)))
    return time.perf_counter() - began


async def measure(runs: int, queued: int) -> dict[str, list[float]]:
    """The waits in each of the three situations."""
    with tempfile.TemporaryDirectory(prefix="djp-") as home:
        os.environ["DJP_HOME"] = home
        async with standalone_mesh() as address, connect(address) as client, connect(address) as other:
            await begun_ms(client, 3)
            waits = {"idle": await begun_ms(client, runs), "the flood comes in": []}
            coming = asyncio.create_task(flood(other, queued))
            await asyncio.sleep(0)
            while not coming.done():
                waits["the flood comes in"] += await begun_ms(client, 1)
            print(f"{queued} runs were queued in {await coming:.1f} s")
            waits["the flood is worked off"] = await begun_ms(client, runs)
            with identity_scope(Identity("flood")):
                left = await client.list_runs(run_pb2.ListRunsRequest(states=[run_pb2.RUN_STATE_QUEUED], page_size=1))
            assert left.runs, "the flood was over too early"
    return waits


def quantile(values: Sequence[float], percent: int) -> float:
    """The value below which so many percent lie."""
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]


def main() -> int:
    """Measure, print two tables and one line of JSON; at full size the exit code is 1 if, with models that think, a
    flood makes others wait more than MOST_RATIO times as long."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="10 runs and a flood of 300 instead of 60 and 10,000")
    quick = parser.parse_args().quick
    sizes = (10, 300) if quick else (60, 10_000)
    figures: dict[str, float] = {}
    for kind, seconds in (("thinking", THINK_S), ("instant", 0.0)):
        think(seconds)
        waits = asyncio.run(measure(*sizes))
        print(f"\n{f'{kind} models: accepted to begun':<40}{'runs':>6}{'p50':>11}{'p99':>11}{'p50 to idle':>13}")
        idle = quantile(waits["idle"], 50)
        for name, took in waits.items():
            p50, p99 = quantile(took, 50), quantile(took, 99)
            print(f"{name:<40}{len(took):>6}{p50:>8.1f} ms{p99:>8.1f} ms{p50 / idle:>13.1f}")
            short = f"{kind}_{name.split()[-1]}"
            figures |= {f"{short}_p50_ms": round(p50, 1), f"{short}_p99_ms": round(p99, 1)}
            figures[f"{short}_ratio"] = round(p50 / idle, 2)
    print(json.dumps({"benchmark": "fairness", "figures": figures}))
    worst = max(figures["thinking_in_ratio"], figures["thinking_off_ratio"])
    return 1 if worst > MOST_RATIO and not quick else 0


if __name__ == "__main__":
    sys.exit(main())
