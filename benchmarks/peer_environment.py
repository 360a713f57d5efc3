"""Peers are no dependencies: each benchmark that needs some installs them into an environment in the cache folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def peer_environment(name: str, *packages: str) -> Path:
    """The Python that has these packages, installed if it is not yet there. Ends the program if it cannot be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "djp-tools"
    folder = cache / f"{name}-py{sys.version_info.major}.{sys.version_info.minor}"
    python, done = folder / "bin" / "python", folder / ".installed"
    if not done.exists():
        uv, told = str(Path(sys.executable).with_name("uv")), ", ".join(packages)
        print(f"Installing {told} into an environment of its own (once) ...", flush=True)
        for command in (
            [uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)],
            [uv, "pip", "install", "-q", "--python", str(python), *packages],
        ):
            ended = subprocess.run(command, capture_output=True, text=True, timeout=900)
            if ended.returncode:
                sys.exit(f"{told} cannot be installed, so there is nothing to measure beside:\n{ended.stderr}")
        done.touch()
    return python
