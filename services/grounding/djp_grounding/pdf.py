"""Reads PDF files in a separate process that is bounded in time, memory and pages: a PDF is hostile input."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

_WORKER = Path(__file__).with_name("pdf_worker.py")
_PATIENT = 10
"""Once files that were too slow have cost a build so many times what one may take, the others get a tenth of it."""
MISSING = "PDF files need pypdf: pip install 'djp-workflow[pdf]', then add the folder again"


@dataclass(frozen=True)
class PdfLimits:
    """What one PDF file may take: wall-clock seconds, bytes of address space, pages and code points of text."""

    seconds: float = 30.0
    memory_bytes: int = 1024 * 1024 * 1024
    pages: int = 5_000
    chars: int = 10_000_000


@dataclass(frozen=True)
class PdfText:
    """The text of each page, in order, and the title in the file's metadata (may be empty)."""

    pages: tuple[str, ...]
    title: str


def reader_version() -> str:
    """The version of pypdf, or an empty string where it is not installed. Does not import it."""
    from importlib import metadata  # here: it pulls in much, and most corpora hold no PDF

    try:
        return metadata.version("pypdf")
    except metadata.PackageNotFoundError:
        return ""


class PdfWorker:
    """One worker process for the PDFs of one build, started at the first of them and again after one that broke it.

    Not safe for several threads at once. Use as a context manager.
    """

    def __init__(self, limits: PdfLimits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._slow = 0
        self.gave_up = False
        """Whether a file was left out because its worker was too slow or died: another time it may be read."""

    def __enter__(self) -> PdfWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def read(self, content: bytes) -> PdfText | str:
        """The text of a PDF file, or why it cannot be had."""
        if not reader_version():
            return MISSING
        process = self._process = self._process or self._start()
        seconds = self._limits.seconds if self._slow < _PATIENT else self._limits.seconds / 10
        late = threading.Event()

        def give_up() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(seconds, give_up)
        timer.start()
        try:
            answer = _ask(process, content)
        finally:
            timer.cancel()
            timer.join()  # so that it cannot kill the worker under the next file
        if answer is None or late.is_set():
            self._stop()
            self.gave_up = True
            if late.is_set():
                self._slow += 1
                return f"PDF took longer than {seconds:g} s to read"
            return "broken PDF: reading it brought its process down"
        if "error" in answer:
            return str(answer["error"])
        return PdfText(tuple(answer["pages"]), answer["title"])

    def _start(self) -> subprocess.Popen[bytes]:
        limits = [str(self._limits.memory_bytes), str(self._limits.pages), str(self._limits.chars)]
        # A parser of hostile files gets no secret: of the environment only what Python needs to find pypdf.
        # -P: the worker is run by its path, and its folder must not shadow other modules.
        environment = {
            name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ
        }
        return subprocess.Popen(
            [sys.executable, "-P", str(_WORKER), *limits, str(self._limits.seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with contextlib.suppress(OSError):  # flushing what the dead process never read
                process.communicate()


def _ask(process: subprocess.Popen[bytes], content: bytes) -> dict[str, Any] | None:
    """One question and its answer, each preceded by its length in 8 bytes; None if the worker died over it."""
    if process.stdin is None or process.stdout is None:
        raise AssertionError("the worker is started with pipes")
    try:
        process.stdin.write(len(content).to_bytes(8, "big") + content)
        process.stdin.flush()
    except BrokenPipeError:
        return None
    head = process.stdout.read(8)
    size = int.from_bytes(head, "big")
    body = process.stdout.read(size) if len(head) == 8 else b""
    if len(head) < 8 or len(body) < size:
        return None
    answer: dict[str, Any] = json.loads(body)
    return answer
