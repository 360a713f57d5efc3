"""The clients of examples/: how each is called, and what it says on its way."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
_EXAMPLES = ROOT / "examples"
COMMANDS = {
    "curl": ["bash", str(_EXAMPLES / "curl" / "run.sh")],
    "python": [sys.executable, str(_EXAMPLES / "python" / "run.py")],
    "go": [str(_EXAMPLES / "go" / ".build" / "client")],
    "typescript": ["node", str(_EXAMPLES / "typescript" / "dist" / "main.js")],
}


def build() -> None:
    """Compile those that need it."""
    built = subprocess.run(["make", "-s", "examples"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr


def numbers(said: str) -> Sequence[int]:
    """Of the events that were told."""
    return [int(number) for number in re.findall(r"^(\d+) [a-zA-Z_]+$", said, re.MULTILINE)]
