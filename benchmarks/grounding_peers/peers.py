"""The peers' environment in the cache folder, and what they answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("scikit-learn==1.9.1", "bm25s==0.3.16", "PyStemmer==3.1.0", "numba==0.68.1")
_WORKER = Path(__file__).with_name("worker.py")


def environment() -> Path:
    """The Python that has the peers, installed if it is not yet there. Ends the program if it cannot be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "djp-tools"
    folder = cache / f"search-peers-1-py{sys.version_info.major}.{sys.version_info.minor}"
    python, done = folder / "bin" / "python", folder / ".installed"
    if not done.exists():
        uv = str(Path(sys.executable).with_name("uv"))
        print(f"Installing {', '.join(PACKAGES)} into an environment of their own (once) ...", flush=True)
        for command in (
            [uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "-q", "--python", str(python), *PACKAGES],
        ):
            ended = subprocess.run(command, capture_output=True, text=True, timeout=900)
            if ended.returncode:
                sys.exit(f"the peers cannot be installed, so there is nothing to measure beside:\n{ended.stderr}")
        done.touch()
    return python


def ask(peer: str, passages: Path, queries: Path, *, rankings: bool = False) -> dict[str, Any]:
    """Build seconds, seconds of every query, bytes of memory, and the positions found if `rankings`."""
    command = [str(environment()), str(_WORKER), peer, str(passages), str(queries)]
    variables = {**os.environ, **({"DJP_RANKINGS": "1"} if rankings else {})}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900, env=variables)
    if ended.returncode:
        sys.exit(f"{peer} failed:\n{ended.stderr}")
    answer: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answer
