"""`djp run --stream`: drafts of several debaters while they are written, redacted, line by line."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.json_format import ParseDict

from djp.cli.drafts import Drafts
from djp.cli.flags import RunFlags, run_request
from djp.mesh.errors import FailedPrecondition, InvalidInput
from djp.v1 import debate_pb2, run_pb2

if TYPE_CHECKING:
    from pathlib import Path


def piece(who: str, text: str, *, attempt: int = 1, round_: int = 1) -> debate_pb2.DraftDelta:
    return debate_pb2.DraftDelta(debater_id=who, round=round_, attempt=attempt, text=text)


def test_pieces_become_whole_lines_that_cannot_command_the_terminal() -> None:
    lines: list[str] = []
    drafts = Drafts(lines.append)
    for one in (
        piece("d1", "Budgets "),
        piece("d2", "No\x1b[2J\nYes"),
        piece("d1", "hold.\n\n" + "word " * 30),
        piece("d2", " 今日は\u202e", attempt=1),
        piece("d2", "Anew", attempt=2),
        piece("d1", "x" * 200),
        piece("d1", "Second", round_=2),
    ):
        drafts.piece(one)
    drafts.flush()

    assert lines[:3] == ["  d2 │ No␛[2J", "  d1 │ Budgets hold.", "  d1 │ " + "word " * 17 + "word"]
    assert "  d2 │ Yes 今日は�" in lines
    assert lines.index("  d2 │ (attempt 2 begins anew)") < lines.index("  d2 │ Anew")
    assert max(map(len, lines)) <= 100
    assert "".join(line[7:] for line in lines if line.endswith("x")) == "x" * 200
    assert lines[-1] in ("  d1 │ Second", "  d2 │ Anew")


async def test_drafts_of_a_real_run_are_shown_redacted(djp: Any, docs: Path) -> None:
    task = "How is money reserved? Tell ada@example.org"
    ended = await djp("run", "--task", task, "--grounded-corpus", str(docs), "--stream")
    told = ended.err.splitlines()
    streamed = [line for line in told if " │ " in line]
    assert {line.split()[0] for line in streamed} == {"d1", "d2", "d3"}
    assert "ada@example.org" not in ended.err
    plain = " ".join(line.partition(" │ ")[2] for line in streamed)
    assert all(word in plain for word in ended.out.partition("\n")[0].split())


async def test_ctrl_c_tells_what_is_there_and_ends_with_the_last_word(djp_at: Any, gateway: Any) -> None:
    gateway.goes_on.clear()
    events = gateway.told(gateway.run)
    events[3:3] = [
        run_pb2.RunEvent(draft_delta=piece("d2", "Half a sent")),
        run_pb2.RunEvent(draft_delta=piece("d3", "Whole\n")),
    ]
    gateway.events = events
    process = await djp_at.start("run", "--task", "x", "--stream")
    while line := await process.stderr.readline():
        if b"Whole" in line:
            process.send_signal(signal.SIGINT)
            break
    _, err = await process.communicate()
    told = err.decode().splitlines()
    assert process.returncode == 130
    assert "  d2 │ Half a sent" in told
    assert told[-1].startswith("interrupted: the run is cancelled")


async def test_a_program_reads_a_real_run_line_by_line(djp: Any, docs: Path) -> None:
    task = "How is money reserved? Tell ada@example.org"
    ended = await djp("run", "--task", task, "--grounded-corpus", str(docs), "--stream", "--json")
    *events, last = map(json.loads, ended.out.splitlines())
    assert not ended.err
    assert last["corpus"]["documents"] == 2
    told = [ParseDict(one["event"], run_pb2.RunEvent()) for one in events]
    kept = [one.sequence for one in told if one.sequence]
    assert kept == list(range(1, len(kept) + 1))
    drafts = {one.draft_delta.debater_id for one in told if one.WhichOneof("event") == "draft_delta"}
    assert drafts == {"d1", "d2", "d3"}
    assert all(one.sequence == 0 for one in told if one.WhichOneof("event") in ("draft_delta", "heartbeat"))
    assert run_pb2.RunState.Name(told[-1].state.state) == last["run"]["state"]
    assert not told[-1].state.HasField("run")
    assert "ada@example.org" not in json.dumps(events)


async def test_what_goes_wrong_is_the_last_line_for_a_program(djp_at: Any, gateway: Any) -> None:
    gateway.refusal = FailedPrecondition("the model x/y has no price; add one")
    ended = await djp_at("run", "--task", "x", "--stream", "--json")
    assert ended.code != 0
    (line,) = ended.out.splitlines()
    assert json.loads(line)["error"]["message"] == gateway.refusal.message


@pytest.mark.parametrize("other", ["quiet", "dry_run"])
def test_what_shows_no_drafts_excludes_it(other: str) -> None:
    with pytest.raises(InvalidInput, match="--stream: shows drafts"):
        run_request(RunFlags(task="x", stream=True, **{other: True}))
