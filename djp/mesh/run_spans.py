"""The spans of runs: their ids, and the local store of embedded runs, which has a JSON line per finished span in
`<dir>/<run_id>.jsonl`, for the newest 200 runs.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import threading
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import format_span_id, format_trace_id

from djp.mesh import semconv
from djp.mesh.telemetry import RUN_ID, own_ids

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan

KEEP_RUNS = 200
_OPEN = 32
_LINE = json.JSONEncoder(separators=(",", ":"))

_log = logging.getLogger(__name__)


class RunTraceIds(RandomIdGenerator):
    """The spans of a run and its parts have ids that follow from the run's; all others have random ones."""

    def generate_trace_id(self) -> int:
        """Called by the SDK, in the context where a span without a parent starts."""
        ids = own_ids()
        return ids[0] if ids else super().generate_trace_id()

    def generate_span_id(self) -> int:
        """Called by the SDK, in the context where a span starts."""
        ids = own_ids()
        return ids[1] if ids else super().generate_span_id()


class LocalSpans(SpanProcessor):
    """Appends finished spans that carry `djp.run_id` to the run's file; others are dropped.

    A line is one `write` to a file opened for appending, so writers in several threads and processes do not mix. A full
    disk loses spans, never a run: it is logged.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, int] = {}
        """Descriptors of the runs that were written to last, by run."""
        self._lock = threading.Lock()

    def on_end(self, span: ReadableSpan) -> None:
        """Called by the SDK with a finished span."""
        run_id = str((span.attributes or {}).get(semconv.DJP_RUN_ID, ""))
        if not RUN_ID.fullmatch(run_id):
            return
        line = _LINE.encode(_record(span)).encode() + b"\n"
        try:
            with self._lock:
                file = self._files.get(run_id)
                os.write(self._open(run_id) if file is None else file, line)
        except OSError as e:
            _log.warning("spans are lost, cannot write to %s: %s", self._directory, e.strerror)

    def _open(self, run_id: str) -> int:
        path = self._directory / f"{run_id}.jsonl"
        if not path.exists():
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            _prune(self._directory, keep=KEEP_RUNS - 1)
        if len(self._files) >= _OPEN:
            os.close(self._files.pop(next(iter(self._files))))
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._files[run_id] = file
        return file

    def shutdown(self) -> None:
        """Nothing is buffered; a span that ends later is still kept."""
        with self._lock:
            while self._files:
                os.close(self._files.popitem()[1])


@functools.cache
def spans_kept_in(directory: Path) -> LocalSpans:
    """What keeps the spans of all services of this process that have the folder."""
    return LocalSpans(directory)


def read_spans(directory: Path, run_id: str) -> list[dict[str, Any]]:
    """The spans of a run, earliest start first; empty when none were kept. A line cut off by a crash is left out.

    Keys: trace_id, span_id, parent_id, service, name, start_ns, end_ns (since the epoch), status, attributes.
    """
    if not RUN_ID.fullmatch(run_id):
        return []
    try:
        lines = (directory / f"{run_id}.jsonl").read_bytes().splitlines()
    except FileNotFoundError:
        return []
    spans = []
    for line in lines:
        with contextlib.suppress(ValueError):
            spans.append(json.loads(line))
    return sorted(spans, key=lambda span: (span["start_ns"], -span["end_ns"]))


def _prune(directory: Path, *, keep: int) -> None:
    """Remove the files that were written to longest ago, down to so many."""
    with os.scandir(directory) as entries:
        files = [entry for entry in entries if entry.name.endswith(".jsonl")]
    if len(files) <= keep:
        return
    written: list[tuple[float, str]] = []
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # another process prunes too
            written.append((file.stat().st_mtime, file.path))
    for _, path in sorted(written)[: max(0, len(written) - keep)]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _record(span: ReadableSpan) -> dict[str, Any]:
    context = span.get_span_context()
    assert context is not None  # noqa: S101  the SDK's spans have one
    return {
        "trace_id": format_trace_id(context.trace_id),
        "span_id": format_span_id(context.span_id),
        "parent_id": format_span_id(span.parent.span_id) if span.parent else "",
        "service": span.resource.attributes.get(semconv.SERVICE_NAME, ""),
        "name": span.name,
        "start_ns": span.start_time,
        "end_ns": span.end_time,
        "status": span.status.status_code.name,
        "attributes": dict(span.attributes or {}),
    }
