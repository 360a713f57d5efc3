"""Replicas of grounding over MinIO: queries while versions come and the store goes, and builders that are killed.

Three services, each a process with a data folder of its own, are asked without a pause; in each turn one of them
publishes a version, all come to serve it, MinIO is stopped, a build is refused, and MinIO is started again. No query
may fail. Then a builder is killed with SIGKILL at random moments, between its first publication and half a second
later, which is a build or two; after each a replica with an empty data folder must open what CURRENT names, and find
all of its documents.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
from pathlib import Path

from djp_grounding.corpora import Corpora
from djp_grounding.limits import Limits
from tests.grounding.builder_process import DOCUMENTS, kill_a_builder, shorten_leases, store_at
from tests.grounding.minio_server import MinioServer
from tests.grounding.replica_processes import outages


def killed_builders(folder: Path, kills: int) -> tuple[int, int]:
    """After how many of the kills CURRENT opened, and how many different versions it named."""
    shorten_leases()
    minio, rng = MinioServer(folder), random.Random(7)
    minio.start()
    opened, versions = 0, set()
    try:
        place = f"{minio.endpoint}/docs"
        for trial in range(kills):
            kill_a_builder(folder, trial, place, rng)
            reader = Corpora(folder / f"reader{trial}", Limits(), store_at(place))
            version, hits = reader.search("acme", "docs", "bananas", top_k=100)
            opened += len(hits) == DOCUMENTS
            versions.add(version)
    finally:
        minio.stop()
    return opened, len(versions)


def main() -> None:
    """Measure, print tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 outages and 3 kills instead of 10 and 50")
    flags = parser.parse_args()
    turns, kills = (2, 3) if flags.quick else (10, 50)
    with tempfile.TemporaryDirectory(prefix="djp-") as name:
        load = asyncio.run(outages(Path(name), turns, documents=200))
    print(
        f"{sum(load.answered):,} queries of {len(load.answered)} replicas over {turns} versions and {turns} outages of "
        f"the store: {len(load.failed)} failed, the longest took {load.longest_s * 1e3:.0f} ms"
    )
    for failure in load.failed[:5]:
        print(f"  {failure}")
    with tempfile.TemporaryDirectory(prefix="djp-") as name:
        opened, versions = killed_builders(Path(name), kills)
    print(f"a builder killed {kills} times: CURRENT opened {opened} times, {versions} versions")
    figures = {
        "outages": turns,
        "queries": sum(load.answered),
        "queries_failed": len(load.failed),
        "query_longest_s": round(load.longest_s, 3),
        "builders_killed": kills,
        "current_opened": opened,
        "versions_after_kills": versions,
    }
    print(json.dumps({"benchmark": "grounding_replicas", "figures": figures}))


if __name__ == "__main__":
    main()
