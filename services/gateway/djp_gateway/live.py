"""A run while it is worked on: its state, its events, its stages, and those who watch it."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from djp.mesh.telemetry import span
from djp.run_states import TERMINAL_STATES
from djp.v1 import common_pb2, governance_pb2, run_pb2
from djp_gateway.patience import to_the_end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from djp.mesh.errors import DjpError
    from djp_gateway.ports import RunStore


class Watchers:
    """Wakes those who wait for a run's next event."""

    def __init__(self) -> None:
        self._bells: dict[str, set[asyncio.Event]] = {}
        self._stuck: dict[str, DjpError] = {}

    @contextmanager
    def bell(self, run_id: str) -> Iterator[asyncio.Event]:
        """Rings at every change of the run; clear it before reading, so that no change is missed."""
        bell = asyncio.Event()
        bells = self._bells.setdefault(run_id, set())
        bells.add(bell)
        try:
            yield bell
        finally:
            bells.discard(bell)
            if not bells:
                self._bells.pop(run_id, None)

    def wake(self, run_id: str) -> None:
        """The run has new events."""
        self._stuck.pop(run_id, None)
        self._ring(run_id)

    def stop_waiting(self, run_id: str, problem: DjpError) -> None:
        """The run's end cannot even be stored, until somebody mends what stops it: no event can say so."""
        self._stuck[run_id] = type(problem)(
            f"run {run_id} cannot be ended yet: {problem.message}; it is ended, and its money given back, when that is "
            "mended",
            reason=problem.reason,
        )
        self._ring(run_id)

    def stuck(self, run_id: str) -> DjpError | None:
        """What stops the run from being ended; None unless something does."""
        return self._stuck.get(run_id)

    def _ring(self, run_id: str) -> None:
        for bell in self._bells.get(run_id, ()):
            bell.set()

    def __len__(self) -> int:
        """How many runs are watched."""
        return len(self._bells)


class LiveRun:
    """A run in work. Every change goes to the store first, then to the watchers."""

    def __init__(self, run: run_pb2.Run, store: RunStore, watchers: Watchers) -> None:
        self.run = run
        self.calls: list[common_pb2.ModelCall] = []
        self.owed: list[governance_pb2.ChargeRequest] = []
        """Charges under way: what is left here when the run fails is still to be paid."""
        self._store = store
        self._watchers = watchers

    async def emit(self, *events: run_pb2.RunEvent) -> None:
        """Append events, together with the run as it is now."""
        for event in events:
            event.at.GetCurrentTime()
        await to_the_end(self._save(events))

    async def _save(self, events: Sequence[run_pb2.RunEvent]) -> None:
        await self._store.save(self.run, events)
        self._watchers.wake(self.run.run_id)

    async def enter(self, state: run_pb2.RunState.ValueType) -> None:
        """Change the run's state; a terminal one ends it, and its event keeps the run, all but the spec."""
        self.run.state = state
        changed = run_pb2.StateChanged(state=state)
        if state in TERMINAL_STATES:
            self.run.finished_at.GetCurrentTime()
            changed.run.CopyFrom(self.run)
            changed.run.ClearField("spec")
            changed.run.last_sequence = self.run.last_sequence + 1
        await self.emit(run_pb2.RunEvent(state=changed))

    async def warn(self, warning: str) -> None:
        """Tell the watchers something that is no error, and keep it with the run."""
        self.run.warnings.append(warning)
        await self.emit(run_pb2.RunEvent(warning=warning))

    async def charged(self, calls: Sequence[common_pb2.ModelCall], event: run_pb2.RunEvent) -> None:
        """Note model calls that governance has recorded, together with the event that they led to."""
        self.calls.extend(calls)
        self.run.offline = all(call.offline for call in self.calls)
        await self.emit(run_pb2.RunEvent(cost=self.cost()), event)

    def cost(self) -> run_pb2.CostSoFar:
        """What the noted calls cost together."""
        return run_pb2.CostSoFar(
            cost_nano_usd=sum(call.cost_nano_usd for call in self.calls),
            tokens=sum(call.usage.input_tokens + call.usage.output_tokens for call in self.calls),
        )

    @asynccontextmanager
    async def stage(self, stage: common_pb2.Stage.ValueType) -> AsyncIterator[run_pb2.StageFinished]:
        """Announce a stage, trace it, and announce its end with the summary that the caller fills in."""
        self.run.stage = stage
        await self.emit(run_pb2.RunEvent(stage_started=run_pb2.StageStarted(stage=stage)))
        finished = run_pb2.StageFinished(stage=stage)
        began = time.monotonic_ns()
        with span(common_pb2.Stage.Name(stage).removeprefix("STAGE_").lower()):
            yield finished
        finished.duration.FromNanoseconds(time.monotonic_ns() - began)
        await self.emit(run_pb2.RunEvent(stage_finished=finished))


def count(number: int, noun: str) -> str:
    """A number and its noun for a stage's summary, as in "1 draft" or "2 drafts"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
