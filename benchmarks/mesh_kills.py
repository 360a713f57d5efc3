"""Does a kill lose a run, an artifact or a nano-dollar? A whole mesh of processes, each killed with SIGKILL at random.

Three gateways and all leaves are processes on a Postgres and a MinIO of their own; any of them is killed, Postgres and
MinIO too, and comes back after a moment, a gateway now and then only after 12 to 20 s. Meanwhile four tenants start
runs, cancel some and approve some. Then clients start runs with one request_id at once, calm and while a gateway is
killed; and gateways are killed that stay away, which measures how long their runs wait for another one.

Afterwards every accepted run must have ended once, with events without a gap; its charges, its cost and its artifact
must agree to the nano-dollar; no draft or ballot may be paid twice, nothing may be held, and no artifact may be lost.
The exit code is 1 if not. Ctrl-C ends it with what was done until then.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.mesh.mesh_audit import Audit
from tests.mesh.mesh_kills import AMPLE, Pace, Trial, answers, providers_file
from tests.mesh.mesh_processes import running_mesh

CLIENTS = 50
MOST_RECOVERY_S = 15.0


def progress(line: str) -> None:
    """One line that is written over, or nothing where nobody looks."""
    if sys.stderr.isatty():
        print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def end_with_figures() -> None:
    """Let SIGTERM end the running task as Ctrl-C does, with its figures and without a process left."""
    if task := asyncio.current_task():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


async def trial(options: argparse.Namespace) -> dict[str, Any]:
    """Everything; the figures."""
    end_with_figures()
    began, rolled, pace = time.monotonic(), random.Random(options.seed), Pace()
    told: dict[str, Any] = {}
    async with answers(random.Random(options.seed + 1), pace) as server:
        with tempfile.TemporaryDirectory(prefix="djp-") as folder:
            providers = providers_file(server, Path(folder) / "providers.yaml")
            async with running_mesh(replicas=options.replicas, DJP_PROVIDERS=providers, **AMPLE) as mesh:
                made = Trial(mesh, rolled, progress)
                with suppress(asyncio.CancelledError):  # Ctrl-C: what was done until then is told
                    await made.make_corpora(Path(folder) / "docs")
                    await made.ask(options.runs, options.kills, options.pause)
                    told["runs for one request_id"] = [
                        await made.same_request(CLIENTS, killing=killing)
                        for _ in range(options.requests)
                        for killing in (False, True)
                    ]
                    pace.least_s, pace.most_s = 1.0, 3.0
                    for _ in range(options.losses):
                        await made.lose_for_good(24, 40.0)
                    audit = Audit(mesh, made.known)
                    await audit.check()
                    told |= figures(audit, made) | {"faults": audit.faults}
                progress("")
                known = made.known
                told |= {"accepted runs": len(known.accepted), "kills": dict(known.kills), "errors": dict(known.errors)}
    return told | {"seconds": round(time.monotonic() - began)}


def figures(audit: Audit, made: Trial) -> dict[str, Any]:
    """What the audit found that is no fault."""
    told: dict[str, Any] = {
        "ended as": dict(audit.states),
        "failed because": dict(audit.reasons),
        "calls paid": audit.calls,
        "of them at their bound": audit.unknown,
    }
    losses = [one for one in made.known.losses if one.stays_away]
    if found := audit.recoveries(losses[-made.lost_for_good :] if made.lost_for_good else []):
        told |= {
            "runs of gateways that stayed away": len(found),
            "recovery p50, s": round(statistics.median(found), 1),
            "recovery max, s": round(max(found), 1),
        }
    return told


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="40 runs, 8 kills, 1 request_id, 1 gateway that stays away"
    )
    parser.add_argument("--runs", type=int, help="500 if not said")
    parser.add_argument("--kills", type=int, help="100 if not said")
    parser.add_argument("--requests", type=int, help="request_ids that 50 clients share, calm and with a kill; 10")
    parser.add_argument("--losses", type=int, help="gateways that are killed and stay away; 5")
    parser.add_argument("--replicas", type=int, default=2, help="of each leaf")
    parser.add_argument("--pause", type=float, default=6.0, help="the longest time between two kills, in seconds")
    parser.add_argument("--seed", type=int, default=0, help="what decides moments and victims")
    options = parser.parse_args()
    for name, quick, full in (("runs", 40, 500), ("kills", 8, 100), ("requests", 1, 10), ("losses", 1, 5)):
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else full)
    told = asyncio.run(trial(options))
    for name, figure in told.items():
        print(f"{name:34} {figure}")
    print(json.dumps({"benchmark": "mesh_kills", "figures": told}))
    late = told.get("recovery max, s", 0) > MOST_RECOVERY_S
    wrong = told.get("faults", []) or any(made != 1 for made in told.get("runs for one request_id", []))
    return 1 if wrong or late else 0


if __name__ == "__main__":
    sys.exit(main())
