"""A run while it is worked on: its state, its events, its stages."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import djp
from djp.run_states import TERMINAL_STATES
from djp.v1 import common_pb2, debate_pb2, judge_pb2, run_pb2
from djp_gateway.drafting import Drafting
from djp_gateway.ports import Checkpoint
from djp_gateway.spans import RunSpans
from djp_gateway.writing import Group, Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from djp_gateway.ports import RunStore
    from djp_gateway.watching import Watchers

DEBATE, JUDGE, ARTIFACT = "debate", "judge", "artifact"
"""The kinds of what is kept of a run: answers of debate and judge, and the artifact's bytes."""


class LiveRun:
    """A run in work. Every change goes to the store first, then to the watchers."""

    def __init__(self, run: run_pb2.Run, store: RunStore, watchers: Watchers, *, lease_s: float = 0.0) -> None:
        self.run = run
        self.lease_s = lease_s
        """How long the run's reservation is kept after this process is gone; 0: until somebody ends it."""
        self.call_to_tell = asyncio.Event()
        """Set when a call has begun that costs something, and the ledger does not know yet that it is under way."""
        self.calls: list[common_pb2.ModelCall] = []
        """Those that governance has recorded."""
        self.owed: dict[str, common_pb2.ModelCall] = {}
        """By id, calls that governance has not recorded yet: those in flight at their bound, those that ended at what
        they cost. What is left here when the run fails is still to be paid."""
        self.failures: dict[tuple[str, int], debate_pb2.DraftFailed] = {}
        """By debater and round."""
        self.drafting = Drafting(watchers)
        self.resumed = False
        """Another attempt at the run was begun before, here or elsewhere."""
        self.reserved_anew = False
        """The run had another reservation before."""
        self.events: Sequence[run_pb2.RunEvent] = ()
        """Those that it had when it was resumed."""
        self._kept: Sequence[Checkpoint] = ()
        self._spans = RunSpans()
        self._store = store
        self._watchers = watchers
        self._writer = Writer(self._save)

    def tell(self, *events: run_pb2.RunEvent) -> None:
        """Append events soon, together with the run as it is then."""
        for event in events:
            event.at.GetCurrentTime()
        self._writer.group().events.extend(events)

    async def emit(self, *events: run_pb2.RunEvent) -> None:
        """Append events, and wait until they and all that was told before is stored: from here on nobody else has taken
        the run over, and what counts once only may be done."""
        self.tell(*events)
        await self.written()

    async def written(self) -> None:
        """Wait until all is stored that was told or to be kept."""
        await self._writer.written()

    async def close(self) -> None:
        """Store no more; to be called before somebody else goes on with the run."""
        await self._writer.close()

    async def _save(self, group: Group) -> None:
        run = self.run
        for sequence, event in enumerate(group.events, start=run.last_sequence + 1):
            if event.state.HasField("run"):
                event.state.run.last_sequence = sequence
        await self._store.save(run, group.events, group.hidden, group.kept, group.parked_until)
        self._watchers.tell(run.run_id, group.events)

    async def begin(self) -> None:
        """Begin to work on the run, or go on where an earlier attempt stood."""
        self.resumed = self.run.HasField("started_at")
        if self.resumed:
            await self.recall()
            self._spans.close("INTERRUPTED", self.events[-1].at.ToNanoseconds() if self.events else None)
        else:
            self.run.djp_version = djp.__version__
            self.run.started_at.GetCurrentTime()
        self.run.state = run_pb2.RUN_STATE_RUNNING
        self.tell(run_pb2.RunEvent(state=run_pb2.StateChanged(state=self.run.state)))

    async def recall(self) -> None:
        """Learn what earlier attempts at the run have told and kept."""
        self.events = await self._store.events_after(self.run.run_id, 0)
        self._kept = await self._store.checkpoints(self.run.run_id)
        self._spans.recall(self.events)

    def kept(self, kind: str) -> list[bytes]:
        """What earlier attempts have kept of a kind, in order."""
        return [one.content for one in self._kept if one.kind == kind]

    def kept_calls(self) -> dict[str, common_pb2.ModelCall]:
        """By id, the model calls that drafts and ballots of earlier attempts are from, at what they cost."""
        debated = map(debate_pb2.DebateResponse.FromString, self.kept(DEBATE))
        judged = map(judge_pb2.JudgeResponse.FromString, self.kept(JUDGE))
        calls = [call for answer in debated for call in (*answer.draft.calls, *answer.failed.calls)]
        calls += [call for answer in judged for call in answer.ballot.calls]
        return {call.call_id: call for call in calls}

    def keep(self, kind: str, contents: Iterable[bytes]) -> None:
        """Keep soon, and until the run ends, what it has paid for or decided; nobody is told."""
        self._writer.group().kept.extend(Checkpoint(kind, content) for content in contents)

    async def hidden_before(self) -> Mapping[str, str]:
        """What earlier attempts hid from models, or else the last run before it of those that it replays that got so
        far, by the placeholders' names."""
        run = self.run
        before = await self._store.hidden(run.run_id) if self.resumed else None
        while before is None and run.replay.run_id:
            run = await self._store.get(run.tenant, run.replay.run_id)
            before = await self._store.hidden(run.run_id)
        return before or {}

    async def keep_hidden(self, values: Mapping[str, str]) -> None:
        """Keep what is hidden from the run's models, by the placeholders' names; nobody is told."""
        self._writer.group().hidden = values
        await self.written()

    async def park(self, until: datetime, state: run_pb2.RunState.ValueType) -> None:
        """Leave the run, in that state, until the time or an order."""
        self.run.state = state
        self._writer.group().parked_until = until
        await self.emit(run_pb2.RunEvent(state=run_pb2.StateChanged(state=state)))

    async def enter(self, state: run_pb2.RunState.ValueType) -> None:
        """Change the run's state; a terminal one ends it, and its event keeps the run, all but the spec."""
        self.run.state = state
        changed = run_pb2.StateChanged(state=state)
        if state in TERMINAL_STATES:
            self.run.finished_at.GetCurrentTime()
            changed.run.CopyFrom(self.run)
            changed.run.ClearField("spec")
        await self.emit(run_pb2.RunEvent(state=changed))
        if state in TERMINAL_STATES:
            self._spans.end(self.run)

    def warn(self, warning: str) -> None:
        """Tell the watchers something that is no error, and keep it with the run."""
        self.run.warnings.append(warning)
        self.tell(run_pb2.RunEvent(warning=warning))

    def waiting_for(self, leaf: str) -> Callable[[str], None]:
        """What tells the watchers, once, that a leaf does not answer; no warning to keep, for it passes."""
        told = False

        def tell(_problem: str) -> None:
            nonlocal told
            if not told:
                told = True
                self.tell(run_pb2.RunEvent(warning=f"{leaf} does not answer, trying again for about a minute"))

        return tell

    def began(self, call: common_pb2.ModelCall) -> None:
        """Note that a model call is about to be made; until it is charged, it is owed at its bound."""
        self.owed[call.call_id] = at_bound(call)
        if call.bound_nano_usd:
            self.call_to_tell.set()
        self.tell(run_pb2.RunEvent(call_started=self.owed[call.call_id]))

    def not_charged(self, calls: Sequence[common_pb2.ModelCall]) -> list[common_pb2.ModelCall]:
        """Those of the calls that are not recorded yet, each once; they are owed at what they cost from now on."""
        known = {call.call_id for call in self.calls}
        new = {call.call_id: call for call in calls if call.call_id not in known}
        self.owed.update(new)
        return list(new.values())

    def charged(
        self, calls: Sequence[common_pb2.ModelCall], told: Sequence[common_pb2.ModelCall], *events: run_pb2.RunEvent
    ) -> None:
        """Note model calls that governance has recorded, and tell them as they may be shown, and what they led to."""
        for call in calls:
            self.owed.pop(call.call_id, None)
        self.calls.extend(calls)
        self.run.offline = all(call.offline for call in self.calls)
        ended = [run_pb2.RunEvent(call_ended=call) for call in told]
        self.tell(*ended, run_pb2.RunEvent(cost=self.cost()), *events)

    def cost(self) -> run_pb2.CostSoFar:
        """What the noted calls cost together."""
        return run_pb2.CostSoFar(
            cost_nano_usd=sum(call.cost_nano_usd for call in self.calls),
            tokens=sum(call.usage.input_tokens + call.usage.output_tokens for call in self.calls),
        )

    @asynccontextmanager
    async def stage(self, stage: common_pb2.Stage.ValueType) -> AsyncIterator[run_pb2.StageFinished]:
        """Announce a stage, trace it, and announce its end with the summary that the caller fills in.

        When it begins, all that was told is stored.
        """
        self.run.stage = stage
        started = run_pb2.RunEvent(stage_started=run_pb2.StageStarted(stage=stage))
        await self.emit(started)
        finished = run_pb2.StageFinished(stage=stage)
        began = time.monotonic_ns()
        with self._spans.stage(started):
            yield finished
        finished.duration.FromNanoseconds(time.monotonic_ns() - began)
        self.tell(run_pb2.RunEvent(stage_finished=finished))


def at_bound(call: common_pb2.ModelCall) -> common_pb2.ModelCall:
    """The call as it is owed while nobody knows how it ended."""
    owed = common_pb2.ModelCall()
    owed.CopyFrom(call)
    owed.cost_nano_usd = call.bound_nano_usd
    owed.usage_unknown = True
    return owed


def count(number: int, noun: str) -> str:
    """A number and its noun for a stage's summary, as in "1 draft" or "2 drafts"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
