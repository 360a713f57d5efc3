"""Shows a run to a person: its text, the verdict, the citations, the costs, and what to do next."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from djp.cli.exits import Exit
from djp.cli.history import print_history
from djp.cli.places import place_of
from djp.cli.terminal import clean, command_name, is_tty, one_line, out, say
from djp.mesh.settings import djp_home
from djp.money import format_usd
from djp.v1 import common_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TEXT_WIDTH = 100
"""Longer lines are hard to read; a wider terminal leaves the rest empty."""
_NARROW = 72
"""Below this many columns the verdict is a list, for a table would break every cell."""

EXIT_OF_STATE = {
    run_pb2.RUN_STATE_PUBLISHED: Exit.OK,
    run_pb2.RUN_STATE_ADVISORY: Exit.ADVISORY,
    run_pb2.RUN_STATE_NO_RESULT: Exit.NO_RESULT,
    run_pb2.RUN_STATE_DENIED: Exit.DENIED,
    run_pb2.RUN_STATE_PENDING_APPROVAL: Exit.PENDING,
}
"""Exit code of `djp run` for each state that a run can end in; FAILED for every other."""


_SAY_WHAT_TO_DO = (
    "INTERRUPTED",
    "DEADLINE_EXCEEDED",
    "UNKNOWN_MODEL",
    "UNPRICED_MODEL",
    "PROVIDER_NOT_CONFIGURED",
)
"""Errors whose message ends with its remedy, as every denial's does."""


def state_name(state: run_pb2.RunState.ValueType) -> str:
    """A state as people write it, for example "no result"."""
    return run_pb2.RunState.Name(state).removeprefix("RUN_STATE_").replace("_", " ").lower()


def print_run(
    run: run_pb2.Run, *, gateway: str | None = None, events: Sequence[run_pb2.RunEvent] = (), restored: bool = False
) -> None:
    """Everything about a run, on standard output; with its events also what happened on the way.

    `restored`: the values are in its text that its models did not see.
    """
    if run.HasField("result") and run.result.text:
        print_text(run.result)
        out().print()
    _print_outcome(run)
    if run.HasField("result"):
        _print_verdict(run.result)
        _print_citations(run.result)
        print_history(events)
        out().print()
        say(cost_footer(run.result))
        if unknown := unknown_usage(run.result):
            say(unknown, "yellow")
    _print_notes(run, restored)
    _print_next(run, gateway)


def print_text(result: run_pb2.RunResult) -> None:
    """The run's text: as it is into a file, wrapped and with its citations marked on a terminal."""
    if not is_tty():
        sys.stdout.write(result.text.rstrip("\n") + "\n")
        return
    text = Text(clean(result.text.rstrip("\n")))
    for citation in result.citations:
        good = citation.status == common_pb2.CITATION_STATUS_RESOLVED
        text.stylize("cyan" if good else "yellow", citation.start, citation.end)
    out().print(text, width=min(out().width, TEXT_WIDTH))


def cost_footer(result: run_pb2.RunResult) -> str:
    """What every model cost and all together, from the ledger's totals, in the form the operations guide gives."""
    parts = [
        f"{one_line(total.model)} in={total.input_tokens} out={total.output_tokens} {format_usd(total.cost_nano_usd)}"
        for total in result.totals
    ]
    whole = f"Total {format_usd(result.total_nano_usd)} (tokens={result.total_tokens})"
    return "Costs: " + " | ".join([*parts, whole])


def unknown_usage(result: run_pb2.RunResult) -> str:
    """How many calls stand at their bound because nobody told what they used; empty if none does."""
    unknown = sum(total.usage_unknown_calls for total in result.totals)
    if not unknown:
        return ""
    return (
        "1 call's usage unknown, charged at its bound"
        if unknown == 1
        else (f"{unknown} calls' usage unknown, each charged at its bound")
    )


def why(run: run_pb2.Run) -> str:
    """Why a run has ended otherwise than published, in one line; empty if it was published or still goes on."""
    if run.HasField("error"):
        return one_line(run.error.message)
    if run.state == run_pb2.RUN_STATE_PENDING_APPROVAL:
        return "nobody has approved it yet"
    if run.state in (run_pb2.RUN_STATE_ADVISORY, run_pb2.RUN_STATE_NO_RESULT):
        reasons = (run.result.advisory_reason, run.result.grounded_fail_reason, run.result.verdict.reason)
        return one_line("; ".join(dict.fromkeys(reason for reason in reasons if reason)))
    return ""


def remedy(run: run_pb2.Run) -> str:
    """What a person can do about how a run ended; empty where there is nothing to do, or the reason says it already."""
    reason = common_pb2.ErrorReason.Name(run.error.reason).removeprefix("ERROR_REASON_")
    match run.state:
        case run_pb2.RUN_STATE_ADVISORY | run_pb2.RUN_STATE_NO_RESULT if run.result.grounded_fail_reason:
            return "ask for fewer citations (--grounded-required), or give a corpus that speaks about the task"
        case run_pb2.RUN_STATE_ADVISORY if run.result.verdict.contested:
            return "read it with care; more debaters (--preset thorough) or another --seed may settle it"
        case run_pb2.RUN_STATE_ADVISORY if run.spec.policy != "any":
            return "read it as advice, or let more models publish (--policy any)"
        case run_pb2.RUN_STATE_ADVISORY if not run.spec.corpus:
            return "give it documents to answer from: --grounded-corpus DIR"
        case run_pb2.RUN_STATE_ADVISORY:
            return "give a corpus that speaks about the task, or ask in the words of its documents"
        case run_pb2.RUN_STATE_PENDING_APPROVAL:
            until = run.approval.expires_at.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")
            run_id = one_line(run.run_id)[:8]
            return f"`djp runs approve {run_id}`, or `djp runs reject {run_id} --reason TEXT`, until {until} UTC"
        case run_pb2.RUN_STATE_NO_RESULT if not run.result.verdict.disqualified:
            return "`djp models` shows which models can be called; --juror names others"
        case run_pb2.RUN_STATE_NO_RESULT:
            return "see below why each draft was disqualified, and change the task or the rules"
        case run_pb2.RUN_STATE_FAILED if reason in _SAY_WHAT_TO_DO:
            return ""
        case run_pb2.RUN_STATE_FAILED if reason == "ALL_DEBATERS_FAILED":
            return "`djp models` shows which models can be called; --debater names others"
        case run_pb2.RUN_STATE_FAILED if run.error.retryable:
            return "start it again"
        case run_pb2.RUN_STATE_FAILED:
            return "`djp doctor` checks the installation; `djp trace` shows where the run stopped"
    return ""


def _print_outcome(run: run_pb2.Run) -> None:
    style = {run_pb2.RUN_STATE_PUBLISHED: "green", run_pb2.RUN_STATE_ADVISORY: "yellow"}.get(run.state, "red")
    if run.state in EXIT_OF_STATE or run.HasField("error"):
        line = Text(state_name(run.state).capitalize(), style=f"bold {style}")
    else:
        line = Text(state_name(run.state).capitalize(), style="bold")
    if run.result.draft_id:
        line.append(f"  {one_line(run.result.draft_id)} by {one_line(run.result.model)}", style="default")
    if reason := why(run):
        line.append(f": {reason}", style="default")
    say(line)
    if hint := remedy(run):
        say(f"What to do: {hint}")


def _print_verdict(result: run_pb2.RunResult) -> None:
    model_of = {draft.draft_id: one_line(draft.model) for draft in result.drafts}
    rows = list(_verdict_rows(result, model_of))
    if not rows and not result.verdict.disqualified:
        return
    _section("Verdict")
    if out().width < _NARROW:
        for rank, draft, model, fit, support, clarity, total, note in rows:
            out().print(" ".join(part for part in (rank, draft, model, note) if part))
            out().print(f"  {total}/10: task fit {fit}/4, support {support}/4, clarity {clarity}/2")
    elif rows:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("", "draft", "model"):
            table.add_column(heading, no_wrap=True, overflow="ellipsis")
        for heading in ("task fit /4", "support /4", "clarity /2", "total /10"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("")
        for row in rows:
            table.add_row(*map(Text, row))
        out().print(table)
    for note in _verdict_notes(result):
        say(note)
    if result.verdict.tie_break:
        out().print(f"Tie broken by {one_line(result.verdict.tie_break)}.")
    for disqualified in result.verdict.disqualified:
        model, reason = model_of.get(disqualified.draft_id, ""), one_line(disqualified.reason or disqualified.rule)
        say(f"{one_line(disqualified.draft_id)} ({model}) is disqualified: {reason}")


def _verdict_rows(result: run_pb2.RunResult, model_of: dict[str, str]) -> Iterator[tuple[str, ...]]:
    verdict = result.verdict
    for rank, entry in enumerate(verdict.ranking, start=1):
        notes = []
        if entry.draft_id == verdict.winner_draft_id:
            notes.append("winner")
            if verdict.contested:
                notes.append("contested")
        marks = (entry.task_fit, entry.support, entry.clarity, entry.mean)
        yield (
            str(rank),
            one_line(entry.draft_id),
            model_of.get(entry.draft_id, ""),
            *(f"{mark:.2f}" for mark in marks),  # one decimal hides what ranks 8.93 before 8.88
            ", ".join(notes),
        )


def _verdict_notes(result: run_pb2.RunResult) -> Iterator[str]:
    """How the debate and the vote went, where that says something."""
    if result.stopped_early:
        yield f"The debate stopped after round {result.rounds}: the drafts agreed ({result.agreement:.2f} of 1)."
    elif result.rounds > 1:
        yield f"Debated over {result.rounds} rounds."
    verdict = result.verdict
    if verdict.fast_path:
        yield "Further jurors were skipped: the lead was clear."
    if verdict.abstentions:
        cast = verdict.valid_ballots + verdict.abstentions
        jurors = f"{verdict.effective_jurors} juror{'' if verdict.effective_jurors == 1 else 's'}"
        yield f"{verdict.abstentions} of {cast} ballots were abstentions; {jurors} effectively voted."


def _print_citations(result: run_pb2.RunResult) -> None:
    if not result.citations:
        return
    _section("Citations")
    shown = dict.fromkeys(
        (
            citation.text,
            citation.path if citation.status == common_pb2.CITATION_STATUS_RESOLVED else "",
            citation.reason,
        )
        for citation in result.citations
    )
    for cited, path, reason in shown:
        line = Text(f"[{one_line(cited)}]", style="cyan" if path else "yellow")
        line.append(f" {one_line(path)}" if path else f" not found: {one_line(reason)}", style="default")
        say(line)


def _print_notes(run: run_pb2.Run, restored: bool) -> None:
    result = run.result
    if run.offline:
        say("Offline: no model was called. The prices are for demonstration, no money moved.", "dim")
    if result.redaction_counts:
        found = ", ".join(f"{one_line(kind)} {count}" for kind, count in sorted(result.redaction_counts.items()))
        say(f"Redacted: {found}")
    elif run.spec.redaction == run_pb2.REDACTION_MODE_OFF:
        say("Redaction was off: the text may hold personal data or secrets.", "yellow")
    if run.spec.redaction == run_pb2.REDACTION_MODE_ALL and run.result.text:
        told = "shown here, not in the artifact" if restored else "--restore-values shows them"
        say(f"Models saw placeholders in the place of values; {told}.")
    if run.replay.run_id:
        say(f"Replays the run {one_line(run.replay.run_id)[:8]}.")
    for difference in run.replay.differences:
        say(f"Since then: {one_line(difference)}", "yellow")
    for warning in run.warnings:
        say(f"Warning: {one_line(warning)}", "yellow")


def _print_next(run: run_pb2.Run, gateway: str | None) -> None:
    if location := run.result.artifact_location:
        out().print(f"Artifact: {one_line(place_of(location, gateway))}", soft_wrap=True)
    at = f" --gateway {shlex.quote(gateway)}" if gateway else ""
    djp, short = command_name(), one_line(run.run_id)[:8]
    out().print()
    out().print(f"Next: {djp} runs show {short}{at}", style="dim", soft_wrap=True)
    if (djp_home() / "traces" / f"{one_line(run.run_id)}.jsonl").exists():  # another machine's traces are kept there
        out().print(f"      {djp} trace {short}", style="dim", soft_wrap=True)


def _section(title: str) -> None:
    out().print()
    out().print(title, style="bold")
