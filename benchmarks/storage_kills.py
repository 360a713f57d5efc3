"""Does a kill lose an artifact? Two storage services on one Postgres and one MinIO, killed with SIGKILL 200 times.

Clients put artifacts of up to 11 MiB, move them from tier to tier, purge them and bring them back, and read them, while
the lifecycle runs. A call that breaks is made again with the same request_id. After the last kill and one more
lifecycle run Reconcile, which reads every object, must find nothing to mend; every acknowledged artifact must have its
hash, be in one tier, and have a history without a gap; and no object may be there that is not an artifact's. The exit
code is 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

from tests.storage.storage_kills import trial


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="10 kills")
    parser.add_argument("--kills", type=int, help="200 if not said")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--pause", type=float, default=1.0, help="the longest time between two kills, in seconds")
    parser.add_argument("--seed", type=int, default=0, help="what decides moments and victims")
    options = parser.parse_args()
    kills = options.kills or (10 if options.quick else 200)
    began = time.monotonic()
    known, faults = asyncio.run(trial(options.seed, kills=kills, clients=options.clients, pause_s=options.pause))
    told = {
        "kills": dict(known.kills),
        "acknowledged": dict(known.told),
        "artifacts": len(known.hashes),
        "calls that broke": dict(known.errors),
        "seconds": round(time.monotonic() - began),
        "faults": faults,
    }
    for name, figure in told.items():
        print(f"{name:20} {figure}")
    print(json.dumps({"benchmark": "storage_kills", "figures": told}))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
