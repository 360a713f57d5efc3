"""Presidio as a peer: a process in an environment of its own that answers."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peer_environment import peer_environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

VERSION = "2.2.366"
_WORKER = Path(__file__).with_name("presidio_worker.py")


class Presidio:
    """The process; `find` gives what it finds in texts, and the CPU seconds it used."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.kinds: list[str] = self._line()["ready"]

    def find(self, texts: Sequence[str]) -> tuple[float, list[list[tuple[Any, ...]]]]:
        """CPU seconds, and for each text its findings: kind, offsets in code points, score."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(list(texts)) + "\n")
        self._process.stdin.flush()
        answer = self._line()
        return answer["cpu_s"], [[tuple(each) for each in found] for found in answer["found"]]

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("the process of Presidio ended; what it said stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def presidio(kinds: Sequence[str], patterns: Mapping[str, str]) -> Iterator[Presidio]:
    """Presidio for these kinds. What has a pattern here goes by that one instead of Presidio's own recogniser."""
    command = [
        str(peer_environment(f"presidio-{VERSION}", f"presidio-analyzer=={VERSION}")),
        str(_WORKER),
        json.dumps({"kinds": list(kinds), "patterns": dict(patterns)}),
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Presidio(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
