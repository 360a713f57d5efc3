"""The spans of a run and its stages, recorded by whoever ends them: a process that died records none."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from djp.mesh.telemetry import part_ended, part_scope
from djp.v1 import common_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_RUN = 0
"""The run's number among its parts; a stage has that of the event with which it began."""


class RunSpans:
    """Those of one attempt at a run, and of the one before it that did not get to its end."""

    def __init__(self) -> None:
        self._open: dict[int, run_pb2.RunEvent] = {}
        """By number, the events with which stages began that have not ended."""

    @contextmanager
    def stage(self, started: run_pb2.RunEvent) -> Iterator[None]:
        """What is done inside is below the stage. If it fails, `close` says how."""
        self._open[started.sequence] = started
        with part_scope(started.sequence):
            yield
        self._end(self._open.pop(started.sequence))

    def recall(self, events: Sequence[run_pb2.RunEvent]) -> None:
        """Learn from a run's events which stages the last attempt has left open; it closed those of earlier ones."""
        self._open.clear()
        for event in events:
            match event.WhichOneof("event"):
                case "stage_started":
                    self._open[event.sequence] = event
                case "stage_finished":
                    ended = event.stage_finished.stage
                    self._open = {n: one for n, one in self._open.items() if one.stage_started.stage != ended}
                case "state":
                    self._open.clear()

    def close(self, failed: str, ended_ns: int | None = None) -> None:
        """Record the stages that are open; at `ended_ns`, since the epoch, they were last heard of."""
        while self._open:
            _, started = self._open.popitem()
            self._end(started, failed, ended_ns)

    def end(self, run: run_pb2.Run) -> None:
        """Record the run, which has ended, with what is open of it."""
        failed = run.HasField("error")
        reason = common_pb2.ErrorReason.Name(run.error.reason).removeprefix("ERROR_REASON_") if failed else ""
        self.close(reason)
        began = run.started_at if run.HasField("started_at") else run.created_at
        part_ended(_RUN, "run", began.ToNanoseconds(), failed=reason)

    def _end(self, started: run_pb2.RunEvent, failed: str = "", ended_ns: int | None = None) -> None:
        name = common_pb2.Stage.Name(started.stage_started.stage).removeprefix("STAGE_").lower()
        part_ended(started.sequence, name, started.at.ToNanoseconds(), ended_ns=ended_ns, failed=failed)
