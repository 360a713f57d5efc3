"""Shows a run while it goes: a line for every stage, draft and ballot, and on a terminal what is going on right now."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from djp.cli.documents import document
from djp.cli.drafts import Drafts
from djp.cli.terminal import err, one_line
from djp.money import format_usd
from djp.v1 import common_pb2, judge_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.status import Status

STAGES = {
    common_pb2.STAGE_SEARCH: ("search", "searching the corpus"),
    common_pb2.STAGE_HIDE: ("hide", "hiding personal data and secrets from the models"),
    common_pb2.STAGE_PROJECT: ("project", "adding up what the run can cost at most"),
    common_pb2.STAGE_RESERVE: ("reserve", "reserving that from the budget"),
    common_pb2.STAGE_DEBATE: ("debate", "the debaters are drafting"),
    common_pb2.STAGE_CITE: ("cite", "checking citations against the corpus"),
    common_pb2.STAGE_JUDGE: ("judge", "the jury is reading"),
    common_pb2.STAGE_REDACT: ("redact", "redacting"),
    common_pb2.STAGE_APPROVE: ("approve", "waiting for approval"),
    common_pb2.STAGE_STORE: ("store", "storing the artifact"),
    common_pb2.STAGE_SETTLE: ("settle", "settling the bill"),
}
"""Each stage's name, and what is done in it."""

_QUEUED = "waiting for a free place"


@dataclass
class _Voice:
    """What a debater or juror is doing, as far as it was told."""

    model: str
    round: int = 0
    attempt: int = 1
    trouble: str = ""
    """Why the attempt before this one failed."""


class Progress:
    """Takes a run's events as they come. Without a terminal it prints plain lines and nothing that moves."""

    def __init__(self, status: Status | None) -> None:
        self._status = status
        self._what = ""
        self._voices: dict[str, _Voice] = {}
        self._cost = run_pb2.CostSoFar()
        self._drafts = Drafts(lambda line: self._line(line, ""))

    def doing(self, what: str) -> None:
        """What is going on now, until something else is."""
        self._what = what
        if self._status:
            self._status.update(Text("\n".join(self._now())))  # a plain string would be read as markup

    def done(self, name: str, summary: str, seconds: float | None = None) -> None:
        """A stage is over."""
        took = f"  {_took(seconds)}" if seconds is not None else ""
        self._line(f"✓ {name:<8} {summary}{took}", "green")

    def note(self, text: str) -> None:
        """Something worth knowing that does not stop the run."""
        self._line(f"! {text}", "yellow")

    def show(self, event: run_pb2.RunEvent) -> None:
        """One event of the run."""
        match event.WhichOneof("event"):
            case "state" if event.state.state == run_pb2.RUN_STATE_QUEUED:
                self.doing(_QUEUED)
            case "stage_started":
                self.doing(STAGES.get(event.stage_started.stage, ("", "working"))[1])
            case "stage_finished":
                finished = event.stage_finished
                name = STAGES.get(finished.stage, ("stage", ""))[0]
                self._voices.clear()
                self.done(name, one_line(finished.summary), finished.duration.ToNanoseconds() / 1e9)
            case "cost":
                self._cost = event.cost
                self.doing(self._what)
            case "debater_started":
                started = event.debater_started
                self._voices[started.debater_id] = _Voice(started.model, started.round)
                self.doing(self._what)
            case "call_started":
                self._call_started(event.call_started)
            case "call_ended":
                self._call_ended(event.call_ended)
            case "draft_delta":
                self._drafts.piece(event.draft_delta)
            case "draft_finished":
                draft = event.draft_finished
                self._drafts.flush(draft.debater_id)
                self._voices.pop(draft.debater_id, None)
                in_round = f" in round {draft.round}" if draft.round > 1 else ""
                told = f"{_name(draft.debater_id)} ({_name(draft.model)}) wrote {draft.tokens} tokens{in_round}"
                self._line(f"  · {told}", "dim")
                self.doing(self._what)
            case "draft_failed":
                failed = event.draft_failed
                self._drafts.flush(failed.debater_id)
                self._voices.pop(failed.debater_id, None)
                in_round = f" in round {failed.round}" if failed.round > 1 else ""
                said = one_line(failed.message, 200)
                told = f"{_name(failed.debater_id)} ({_name(failed.model)}) failed{in_round}: {said}"
                self._line(f"  ✗ {told}", "yellow")
                self.doing(self._what)
            case "ballot":
                self._voices.pop(event.ballot.juror_id, None)
                self._line(f"  · {_ballot(event.ballot)}", "dim")
                self.doing(self._what)
            case "warning":
                self.note(one_line(event.warning))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While events come; at the end, however it is, a draft's line that was begun is told as far as it is there."""
        try:
            yield
        finally:
            self._drafts.flush()

    def _call_started(self, call: common_pb2.ModelCall) -> None:
        voice = self._voices.setdefault(call.actor_id, _Voice(call.model))
        voice.model, voice.attempt = call.model, call.attempt
        if call.attempt > 1:
            after = f", after: {voice.trouble}" if voice.trouble else ""
            self._line(f"  ↻ {_name(call.actor_id)} ({_name(call.model)}) attempt {call.attempt}{after}", "yellow")
        self.doing(self._what)

    def _call_ended(self, call: common_pb2.ModelCall) -> None:
        if call.actor_id in self._voices:
            self._voices[call.actor_id].trouble = one_line(call.error, 200)
        if call.usage_unknown:
            charged = f"usage unknown, charged at its bound of {format_usd(call.cost_nano_usd)}"
            self._line(f"  ! {_name(call.actor_id)} ({_name(call.model)}): {charged}", "yellow")

    def _now(self) -> Iterator[str]:
        """What is going on: the stage, what it has cost, and a line for everybody who is at work."""
        cost = self._cost
        spent = f" {format_usd(cost.cost_nano_usd)} and {cost.tokens:,} tokens so far" if cost.tokens else ""
        yield f"{self._what} …{spent}"
        for actor, voice in sorted(self._voices.items()):
            in_round = f", round {voice.round}" if voice.round > 1 else ""
            attempt = f", attempt {voice.attempt}" if voice.attempt > 1 else ""
            trouble = f", after: {voice.trouble[:80]}" if voice.trouble else ""
            yield f"  {_name(actor)} ({_name(voice.model)}){in_round}{attempt}{trouble}"

    def _line(self, text: str, style: str) -> None:
        err().print(Text(text, style=style), soft_wrap=True)  # a style of `print` would colour the status as well


class Silence(Progress):
    """Progress that nobody wants to see."""

    def __init__(self) -> None:
        super().__init__(None)

    def _line(self, text: str, style: str) -> None:
        pass


class Lines(Silence):
    """Progress for programs: every event as it is told, a JSON object on a line of standard output."""

    def show(self, event: run_pb2.RunEvent) -> None:
        """One event of the run; the run itself, which the last one brings, stands on the command's last line."""
        kind = event.WhichOneof("event")
        if kind == "heartbeat":
            return
        if kind == "state" and event.state.HasField("run"):
            told = run_pb2.RunEvent(sequence=event.sequence, at=event.at)
            told.state.state = event.state.state
            event = told
        print(json.dumps({"event": document(event)}), flush=True)


@contextmanager
def progress(*, silent: bool, lines: bool = False) -> Iterator[Progress]:
    """Progress on standard error for as long as the block lasts; with `lines` events on standard output."""
    if lines:
        yield Lines()
    elif silent:
        yield Silence()
    elif err().is_terminal:
        with err().status("starting …") as status:
            yield Progress(status)
    else:
        yield Progress(None)


def _ballot(ballot: judge_pb2.Ballot) -> str:
    juror = f"{_name(ballot.juror_id)} ({_name(ballot.model)})"
    if ballot.abstained:
        reason = f": {one_line(ballot.abstain_reason, 200)}" if ballot.abstain_reason else ""
        return f"{juror} abstained{reason}"
    marks = sorted(ballot.scores, key=lambda score: -score.total)
    gave = ", ".join(f"{_name(score.draft_id)} {score.total:.2f}" for score in marks)
    # The same juror reads the same drafts in several orders, and may well give the same.
    return f"{juror} gave {gave}, read as {', '.join(map(_name, ballot.order))}"


def _name(text: str) -> str:
    return one_line(text, 60)


def _took(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
