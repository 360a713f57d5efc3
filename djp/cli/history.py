"""Shows what happened on a run's way: attempts and drafts that failed, and who did not judge what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.cli.terminal import one_line, out, say
from djp.money import format_usd

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from djp.v1 import common_pb2, judge_pb2, run_pb2


def print_history(events: Iterable[run_pb2.RunEvent]) -> None:
    """The run's troubles, one a line, in the order in which they came; nothing if there were none."""
    lines = [line for event in events for line in _lines(event)]
    if lines:
        out().print()
        out().print("On the way", style="bold")
        for line in lines:
            say(line)


def _lines(event: run_pb2.RunEvent) -> Iterator[str]:
    match event.WhichOneof("event"):
        case "call_ended" if event.call_ended.error or event.call_ended.usage_unknown:
            yield _call(event.call_ended)
        case "draft_failed":
            failed = event.draft_failed
            who = f"{one_line(failed.debater_id)} ({one_line(failed.model)})"
            yield f"{who} gave no draft in round {failed.round}: {one_line(failed.message, 300)}"
        case "ballot":
            yield from _ballot(event.ballot)


def _call(call: common_pb2.ModelCall) -> str:
    who = f"{one_line(call.actor_id)} ({one_line(call.model)}), attempt {call.attempt}"
    happened = f"failed: {one_line(call.error, 300)}" if call.error else "told no usage"
    bound = ", its bound" if call.usage_unknown else ""
    return f"{who} {happened}; charged {format_usd(call.cost_nano_usd)}{bound}"


def _ballot(ballot: judge_pb2.Ballot) -> Iterator[str]:
    who = f"{one_line(ballot.juror_id)} ({one_line(ballot.model)})"
    if ballot.recused_draft_ids:
        drafts = ", ".join(map(one_line, ballot.recused_draft_ids))
        yield f"{who} did not judge {drafts}: of its own model family"
    if ballot.abstained:
        reason = f": {one_line(ballot.abstain_reason, 300)}" if ballot.abstain_reason else ""
        yield f"{who} abstained{reason}"
