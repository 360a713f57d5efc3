"""What the peers answer, each in a process of their environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.peer_environment import peer_environment

PACKAGES = ("scikit-learn==1.9.1", "bm25s==0.3.16", "PyStemmer==3.1.0", "numba==0.68.1")
_WORKER = Path(__file__).with_name("worker.py")


def ask(peer: str, passages: Path, queries: Path, *, rankings: bool = False) -> dict[str, Any]:
    """Build seconds, seconds of every query, bytes of memory, and the positions found if `rankings`."""
    command = [str(peer_environment("search-peers-1", *PACKAGES)), str(_WORKER), peer, str(passages), str(queries)]
    variables = {**os.environ, **({"DJP_RANKINGS": "1"} if rankings else {})}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900, env=variables)
    if ended.returncode:
        sys.exit(f"{peer} failed:\n{ended.stderr}")
    answer: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answer
