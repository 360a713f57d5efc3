"""The spans of runs: their trace's id, their attributes, and the local store of embedded runs, which has a JSON line
per finished span in `<dir>/<run_id>.jsonl`, for the newest 200 runs.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import format_span_id, format_trace_id

from djp.mesh import semconv
from djp.mesh.telemetry import RUN_ID, own_ids, run_attributes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

KEEP_RUNS = 200

_log = logging.getLogger(__name__)


class RunAttributes(SpanProcessor):
    """Puts the run id and the tenant on every span as it starts."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Called by the SDK in the context the span starts in."""
        span.set_attributes(run_attributes(parent_context))


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


class LocalSpans(SpanExporter):
    """Appends spans that carry `djp.run_id` to the run's file; others are dropped.

    A line is one `write` to a file opened for appending, so writers in several threads and processes do not mix. A full
    disk loses spans, never a run: it is logged.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: set[str] = set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Called by the SDK with finished spans."""
        try:
            for span in spans:
                run_id = str((span.attributes or {}).get(semconv.DJP_RUN_ID, ""))
                if RUN_ID.fullmatch(run_id):
                    self._append(run_id, json.dumps(_record(span), separators=(",", ":")).encode() + b"\n")
        except OSError as e:
            _log.warning("spans are lost, cannot write to %s: %s", self._directory, e.strerror)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def _append(self, run_id: str, line: bytes) -> None:
        if run_id not in self._seen:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            _prune(self._directory, keep=KEEP_RUNS - 1, besides=run_id)
            if len(self._seen) >= KEEP_RUNS:
                self._seen.clear()
            self._seen.add(run_id)
        fd = os.open(self._directory / f"{run_id}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)

    def shutdown(self) -> None:
        """Nothing is buffered."""


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


def _prune(directory: Path, *, keep: int, besides: str) -> None:
    files: list[tuple[float, Path]] = []
    for path in directory.glob("*.jsonl"):
        with contextlib.suppress(FileNotFoundError):  # another process prunes too
            files.append((path.stat().st_mtime, path))
    files = sorted(f for f in files if f[1].stem != besides)
    for _, path in files[: max(0, len(files) - keep)]:
        path.unlink(missing_ok=True)


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
