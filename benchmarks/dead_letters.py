"""Is every dead letter replayed exactly once? Thousands of denied runs, while gateways are killed with SIGKILL.

A mesh of processes on a Postgres and a MinIO of its own. A tenant without a budget asks for many runs; each is denied
and is a dead letter. Then `djp dlq replay --all` is called until it answers. Some replays may run in the first window,
which has not room for all; the others wait for the next one, which is let begin at once. Meanwhile the three
gateways are killed, one every few seconds. In the end every dead letter must have been replayed by one run that ended
with a text, artifacts and ledger must agree, and nothing may be held; the exit code is 1 if not.

While the runs of the first tenant wait in the queue, another one starts a run now and then: how long that takes to
begin is printed beside the same on an idle mesh. Ctrl-C ends it with what was done until then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from contextlib import suppress
from typing import Any

from benchmarks.mesh_kills import end_with_figures, progress
from tests.mesh.mesh_audit import Audit
from tests.mesh.mesh_dead_letters import DeadLetterTrial
from tests.mesh.mesh_kills import AMPLE
from tests.mesh.mesh_processes import running_mesh


async def trial(options: argparse.Namespace) -> dict[str, Any]:
    """Everything; the figures."""
    end_with_figures()
    began, told = time.monotonic(), dict[str, Any]()
    async with running_mesh(**AMPLE, PER_TENANT_MAX_CONCURRENCY=str(options.at_once)) as mesh:
        made = DeadLetterTrial(mesh, random.Random(options.seed), progress)
        with suppress(asyncio.CancelledError):  # Ctrl-C: what was done until then is told
            await made.ask_now_and_then(made.calm_s, options.calm, 0.0)
            killing = asyncio.create_task(made.kill_gateways(options.pause))
            await made.be_denied(options.runs)
            told["parked for the next window"] = await made.replay()
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)
            audit = Audit(mesh, made.known)
            await audit.check(options.sample)
            await made.check()
            told |= {"calls paid": audit.calls, "of them at their bound": audit.unknown}
            told["faults"] = [*made.faults, *audit.faults]
        progress("")
        told |= {"runs": len(made.known.accepted), "kills": dict(made.known.kills), "errors": dict(made.known.errors)}
        told["most that waited"] = made.deepest
        for name, waited_s in (("idle", made.calm_s), ("beside the mass", made.crowded_s)):
            if waited_s:
                told |= {
                    f"to begin, {name}: runs": len(waited_s),
                    f"to begin, {name}: p50, ms": round(statistics.median(waited_s) * 1000),
                    f"to begin, {name}: max, ms": round(max(waited_s) * 1000),
                }
    return told | {"seconds": round(time.monotonic() - began)}


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="60 runs")
    parser.add_argument("--runs", type=int, help="that are denied; 10,000 if not said")
    parser.add_argument("--calm", type=int, default=5, help="runs of the other tenant on the idle mesh")
    parser.add_argument("--at-once", type=int, default=12, help="runs of one tenant in work, at all gateways together")
    parser.add_argument("--sample", type=int, default=200, help="runs whose events and artifacts are read one by one")
    parser.add_argument("--pause", type=float, default=20.0, help="the longest time between two kills, in seconds")
    parser.add_argument("--seed", type=int, default=0, help="what decides moments and victims")
    options = parser.parse_args()
    options.runs = options.runs or (60 if options.quick else 10_000)
    told = asyncio.run(trial(options))
    for name, figure in told.items():
        print(f"{name:34} {figure}")
    print(json.dumps({"benchmark": "dead_letters", "figures": told}))
    return 1 if told.get("faults") else 0


if __name__ == "__main__":
    sys.exit(main())
