"""How long a person waits: `djp --help`, and a whole `djp run` of the demo, from nothing and with its corpus known.

The peer is the floor that no Python program gets under: the same interpreter starting up and importing what the command
cannot do without (Typer for the help; gRPC, protobuf, SQLAlchemy and Tantivy for a run). Commands take turns, so that a
machine whose speed drifts does not favour one of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DJP = Path(sys.executable).with_name("djp")
DEMO = [
    str(DJP),
    "run",
    "--task",
    "How does DJP Mesh keep a budget from being overdrawn?",
    "--grounded-corpus",
    str(ROOT / "docs"),
    "--grounded-required",
    "2",
]
HELP_FLOOR = "import typer"
RUN_FLOOR = "import grpc.aio, google.protobuf.json_format, sqlalchemy.ext.asyncio, pydantic_settings, tantivy"


def seconds(command: list[str], home: Path) -> float:
    """Wall time of a command that must succeed."""
    environment = {name: value for name, value in os.environ.items() if name != "DJP_GATEWAY"} | {"DJP_HOME": str(home)}
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - began


def measure(runs: int) -> dict[str, float]:
    """Medians in seconds, after one warm-up of everything."""
    samples: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        known, fresh = Path(folder) / "known", Path(folder) / "fresh"

        def fresh_home() -> Path:
            shutil.rmtree(fresh, ignore_errors=True)
            return fresh

        for turn in range(runs + 1):
            for name, command, home in (
                ("help", [str(DJP), "--help"], known),
                ("help_floor", [sys.executable, "-c", HELP_FLOOR], known),
                ("run_first", DEMO, fresh_home()),
                ("run_again", DEMO, known),
                ("run_floor", [sys.executable, "-c", RUN_FLOOR], known),
            ):
                took = seconds(command, home)
                if turn:
                    samples.setdefault(name, []).append(took)
    return {name: statistics.median(values) for name, values in samples.items()}


def main() -> None:
    """Measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 runs instead of 15")
    medians = measure(3 if parser.parse_args().quick else 15)
    print(f"{'command':<44}{'median':>9}{'floor':>9}{'ratio':>7}")
    figures: dict[str, float] = {}
    for name, title, floor in (
        ("help", "djp --help", "help_floor"),
        ("run_first", "djp run of the demo, data folder fresh", "run_floor"),
        ("run_again", "djp run of the demo, corpus known", "run_floor"),
    ):
        ratio = medians[name] / medians[floor]
        print(f"{title:<44}{medians[name]:>7.2f} s{medians[floor]:>7.2f} s{ratio:>7.2f}")
        figures |= {f"{name}_s": round(medians[name], 3), f"{name}_to_floor": round(ratio, 2)}
    print(json.dumps({"benchmark": "startup", "figures": figures}))


if __name__ == "__main__":
    main()
