"""Shows a run while it goes: a line for every stage, draft and ballot, and on a terminal what is going on right now."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.text import Text

from djp.cli.terminal import err, one_line
from djp.v1 import common_pb2, judge_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.status import Status

STAGES = {
    common_pb2.STAGE_SEARCH: ("search", "searching the corpus"),
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


class Progress:
    """Takes a run's events as they come. Without a terminal it prints plain lines and nothing that moves."""

    def __init__(self, status: Status | None) -> None:
        self._status = status
        self._drafting: set[str] = set()

    def doing(self, what: str) -> None:
        """What is going on now, until something else is."""
        if self._status:
            self._status.update(f"{what} …")

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
                self.done(name, one_line(finished.summary), finished.duration.ToNanoseconds() / 1e9)
            case "debater_started":
                self._drafting.add(event.debater_started.debater_id)
                self._who_drafts()
            case "draft_finished":
                draft = event.draft_finished
                self._drafting.discard(draft.debater_id)
                self._line(f"  · {_name(draft.debater_id)} ({_name(draft.model)}) wrote {draft.tokens} tokens", "dim")
                self._who_drafts()
            case "draft_failed":
                failed = event.draft_failed
                self._drafting.discard(failed.debater_id)
                said = one_line(failed.message, 200)
                self._line(f"  ✗ {_name(failed.debater_id)} ({_name(failed.model)}) failed: {said}", "yellow")
                self._who_drafts()
            case "ballot":
                self._line(f"  · {_ballot(event.ballot)}", "dim")
            case "warning":
                self.note(one_line(event.warning))

    def _who_drafts(self) -> None:
        if self._drafting:
            self.doing("drafting: " + ", ".join(sorted(map(_name, self._drafting))))

    def _line(self, text: str, style: str) -> None:
        err().print(Text(text, style=style), soft_wrap=True)  # a style of `print` would colour the status as well


class Silence(Progress):
    """Progress that nobody wants to see."""

    def __init__(self) -> None:
        super().__init__(None)

    def _line(self, text: str, style: str) -> None:
        pass


@contextmanager
def progress(*, silent: bool) -> Iterator[Progress]:
    """Progress on standard error for as long as the block lasts."""
    if silent:
        yield Silence()
    elif err().is_terminal:
        with err().status("starting …") as status:
            yield Progress(status)
    else:
        yield Progress(None)


def _ballot(ballot: judge_pb2.Ballot) -> str:
    juror = f"{_name(ballot.juror_id)} ({_name(ballot.model)})"
    if ballot.abstained:
        return f"{juror} abstained"
    marks = sorted(ballot.scores, key=lambda score: -score.total)
    return f"{juror} gave " + ", ".join(f"{_name(score.draft_id)} {score.total:.2f}" for score in marks)


def _name(text: str) -> str:
    return one_line(text, 60)


def _took(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
