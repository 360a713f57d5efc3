"""What a person sees: hostile texts, narrow terminals, terminals with and without colour."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.json_format import ParseDict
from rich.cells import cell_len

from djp.cli.show import cost_footer, print_run
from djp.cli.terminal import clean, command_name, one_line
from djp.v1 import run_pb2

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m \u202egnp.exe [bold]not bold[/bold] :smile: \r gone"


async def on_terminal(djp: Any, *arguments: str, columns: int = 90, **env: str) -> tuple[int, str]:
    """Exit code of the command and everything that a terminal of that width gets from it."""
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    djp.env = {"TERM": "xterm-256color", **env}
    process = await djp.start(*arguments, stdin=other, stdout=other, stderr=other)
    os.close(other)
    shown = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while part := os.read(main, 65536):
                shown.extend(part)

    await asyncio.to_thread(read)
    os.close(main)
    return await process.wait(), shown.decode()


def hostile_run(gateway: Any) -> run_pb2.Run:
    result = gateway.result(
        text=HOSTILE + gateway.result()["text"],
        advisoryReason=HOSTILE,
        model=HOSTILE,
        artifactLocation=HOSTILE,
        redactionCounts={HOSTILE: 1},
        totals=[{"model": HOSTILE, "costNanoUsd": "1"}],
    )
    for citation in result["citations"]:
        citation |= {"text": HOSTILE, "path": HOSTILE, "reason": HOSTILE, "start": 0, "end": 9999}
    result["verdict"]["disqualified"][0]["reason"] = HOSTILE
    result["verdict"]["tieBreak"] = HOSTILE
    result["drafts"][0]["model"] = HOSTILE
    spec = {"task": HOSTILE, "preset": HOSTILE}
    run: run_pb2.Run = gateway.finished("ADVISORY", result=result, warnings=[HOSTILE], spec=spec)
    return run


async def test_a_terminal_shows_progress_and_marks_citations(djp_at: Any, gateway: Any) -> None:
    code, shown = await on_terminal(djp_at, "run", "--task", "x")

    assert code == 0
    assert "  d1 (offline/broad)" in shown  # moves while it goes on
    assert "\x1b[32m✓ debate" in shown
    assert "\x1b[36m[Budgets]\x1b[0m" in shown
    assert "\x1b[33m[Nowhere]\x1b[0m" in shown
    assert shown.endswith("\x1b[0m\r\n")
    assert "\x1b[?25h" in shown  # the cursor is back


async def test_hostile_texts_cannot_command_the_terminal(djp_at: Any, gateway: Any) -> None:
    gateway.run = hostile_run(gateway)
    gateway.events = gateway.told(gateway.run)
    gateway.events[3].draft_finished.model = HOSTILE
    gateway.events[4].draft_failed.message = HOSTILE
    gateway.events[5].stage_finished.summary = HOSTILE
    gateway.events[7].warning = HOSTILE
    call = {"actorId": "d1", "model": HOSTILE, "attempt": 2, "error": HOSTILE + "[/]", "usageUnknown": True}
    gateway.events[3:3] = [
        ParseDict({"sequence": 0, name: call}, run_pb2.RunEvent()) for name in ("callStarted", "callEnded") * 2
    ]
    code, shown = await on_terminal(djp_at, "run", "--task", "x", columns=400, NO_COLOR="1")

    assert code == 3
    assert "\x1b]0;" not in shown
    assert "\x1b[2J" not in shown
    assert not set(shown) & {"\x07", "\x9b", "\u202e"}
    assert shown.count("[bold]not bold[/bold] :smile:") > 10
    assert "␛]0;owned␇␛[2J" in shown


async def test_a_terminal_breaks_lines_between_words(djp_at: Any, gateway: Any) -> None:
    _, shown = await on_terminal(djp_at, "run", "--task", "x", columns=60)

    lines = shown.splitlines()
    costs = next(number for number, line in enumerate(lines) if line.startswith("Costs: "))
    assert all(cell_len(line) <= 60 for line in lines[costs : costs + 3])
    assert " ".join(line.strip() for line in lines[costs : costs + 3]).startswith(cost_footer(gateway.run.result))


async def test_a_second_ctrl_c_gives_the_cursor_back(djp_at: Any, gateway: Any) -> None:
    gateway.goes_on.clear()
    code = """
import asyncio
from djp.cli.session import execute
from djp.cli.terminal import err
async def stubborn():
    with err().status("working"):
        for _ in range(2):
            print("interrupt me", flush=True)
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
execute(stubborn)
"""
    main, other = pty.openpty()
    env = {**djp_at.environment(), "TERM": "xterm-256color"}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, env=env, stdout=other, stderr=other)
    os.close(other)
    shown = ""
    while shown.count("interrupt me") < 1:
        shown += (await asyncio.to_thread(os.read, main, 4096)).decode()
    process.send_signal(signal.SIGINT)
    while shown.count("interrupt me") < 2:
        shown += (await asyncio.to_thread(os.read, main, 4096)).decode()
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(OSError):
        while part := await asyncio.to_thread(os.read, main, 4096):
            shown += part.decode()
    os.close(main)

    assert await process.wait() == 130
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_a_command_to_type_next_is_called_as_this_one_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "my tools"
    folder.mkdir()
    (folder / "djp").write_text("#!/bin/sh\n")
    (folder / "djp").chmod(0o755)
    monkeypatch.setattr("sys.argv", [str(folder / "djp"), "run"])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command_name() == f"'{folder}/djp'"
    monkeypatch.setenv("PATH", str(folder))
    assert command_name() == "djp"


async def test_a_trace_is_offered_where_it_is_kept(
    gateway: Any, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_run(gateway.run)
    assert "djp trace" not in capsys.readouterr().out
    (home / "traces").mkdir(parents=True)
    (home / "traces" / f"{gateway.run.run_id}.jsonl").touch()
    print_run(gateway.run)
    assert "djp trace 3f2b8c1e" in capsys.readouterr().out


async def test_no_colour_when_the_reader_wants_none(djp_at: Any, gateway: Any) -> None:
    _, shown = await on_terminal(djp_at, "run", "--task", "x", NO_COLOR="1")

    assert "\x1b[3" not in shown.replace("\x1b[?25", "")


async def test_every_line_fits_a_narrow_terminal_but_those_to_copy(djp_at: Any, gateway: Any) -> None:
    _, shown = await on_terminal(djp_at, "runs", "show", gateway.run.run_id, columns=40)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()

    whole = [line for line in lines if line.startswith(("Artifact: ", "Next: "))]
    assert len(whole) == 2
    assert all(cell_len(line) <= 40 for line in lines if line not in whole)
    assert "1 d2-r1 offline/precise winner" in [line.rstrip() for line in lines]


@pytest.mark.parametrize(
    ("state", "words"),
    [("RUNNING", "Running"), ("QUEUED", "Queued"), ("REJECTED", "Rejected"), ("PENDING_APPROVAL", "Pending approval")],
)
def test_a_run_without_a_result_is_shown_too(state: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_run(ParseDict({"runId": "3f2b8c1e-0", "state": f"RUN_STATE_{state}"}, run_pb2.Run()))

    shown = capsys.readouterr().out
    assert shown.startswith(words)
    assert "Costs" not in shown


def test_the_cost_footer_of_a_run_without_calls() -> None:
    assert cost_footer(run_pb2.RunResult()) == "Costs: Total $0.0000 (tokens=0)"


def test_cleaning_keeps_offsets_and_leaves_nothing_that_commands() -> None:
    everything = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x2070)]))

    assert len(clean(everything)) == len(everything)
    assert [char for char in clean(everything) if ord(char) < 32] == ["\t", "\n"]
    assert clean("Zoë 👩\u200d🚀 مرحبا") == "Zoë 👩\u200d🚀 مرحبا"
    assert one_line("a\nb\tc\r\n" + "d" * 50, 10) == "a b c ddd…"


CALL = {
    "callId": "3f2b8c1e-0000-4000-8000-000000000002",
    "stage": "STAGE_DEBATE",
    "model": "openai/gpt-4o",
    "actorId": "d1",
    "boundNanoUsd": 2_000_000,
    "costNanoUsd": 2_000_000,
    "attempt": 1,
}
TROUBLE: list[dict[str, Any]] = [
    {"debaterStarted": {"debaterId": "d1", "model": "openai/gpt-4o", "round": 2}},
    {"callStarted": {**CALL, "usageUnknown": True}},
    {"callEnded": {**CALL, "costNanoUsd": 0, "error": "429: slow down"}},
    {"cost": {"costNanoUsd": 0, "tokens": 0}},
    {"callStarted": {**CALL, "attempt": 2, "usageUnknown": True}},
    {"callEnded": {**CALL, "attempt": 2, "usageUnknown": True, "error": "the connection was lost"}},
    {"cost": {"costNanoUsd": 2_000_000, "tokens": 1234}},
    {"callStarted": {**CALL, "attempt": 3, "model": "acme/small", "usageUnknown": True}},
    {"draftFinished": {"draftId": "d1-r2", "debaterId": "d1", "model": "acme/small", "tokens": 9, "round": 2}},
    {
        "draftFailed": {
            "debaterId": "d2",
            "round": 2,
            "model": "openai/gpt-4o",
            "message": "no key",
            "reason": "ERROR_REASON_PROVIDER_FAILED",
        }
    },
    {
        "ballot": {
            "jurorId": "j1",
            "model": "openai/gpt-4o",
            "recusedDraftIds": ["d1-r2", "d2-r1"],
            "abstained": True,
            "abstainReason": "it is no JSON",
        }
    },
]


def troubled(gateway: Any) -> list[run_pb2.RunEvent]:
    """A run's events, with attempts that failed among them."""
    first, *rest = gateway.told(gateway.run)
    events = [first, *(ParseDict(event, run_pb2.RunEvent()) for event in TROUBLE), *rest]
    for number, event in enumerate(events, start=1):
        event.sequence = number
    return events


async def test_every_attempt_is_told_while_the_run_goes(djp_at: Any, gateway: Any) -> None:
    gateway.events = troubled(gateway)
    ended = await djp_at("run", "--task", "x")

    assert ended.code == 0
    lines = ended.err.splitlines()
    assert "  ↻ d1 (openai/gpt-4o) attempt 2, after: 429: slow down" in lines
    assert "  ! d1 (openai/gpt-4o): usage unknown, charged at its bound of $0.0020" in lines
    assert "  ↻ d1 (acme/small) attempt 3, after: the connection was lost" in lines
    assert "  · d1 (acme/small) wrote 9 tokens in round 2" in lines
    assert "  ✗ d2 (openai/gpt-4o) failed in round 2: no key" in lines


async def test_a_terminal_shows_who_is_at_what(djp_at: Any, gateway: Any) -> None:
    gateway.events = troubled(gateway)[:9]  # up to the third attempt
    gateway.events.append(gateway.told(gateway.run)[-1])
    gateway.goes_on.clear()
    shown: list[str] = []

    async def watch() -> None:
        shown.append((await on_terminal(djp_at, "run", "--task", "x", NO_COLOR="1"))[1])

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        await asyncio.wait_for(gateway.waiting.wait(), 60)
        gateway.goes_on.set()
    assert "  d1 (openai/gpt-4o), round 2, attempt 2, after: 429: slow down" in shown[0]
    assert "$0.0020 and 1,234 tokens so far" in shown[0]


async def test_a_shown_run_tells_what_happened_on_the_way(djp_at: Any, gateway: Any) -> None:
    verdict = {**gateway.result()["verdict"], "contested": True, "validBallots": 3, "abstentions": 1}
    verdict |= {"effectiveJurors": 2, "fastPath": True}
    totals = [{"model": "openai/gpt-4o", "calls": 2, "usageUnknownCalls": 1}]
    gateway.run = gateway.finished(
        result=gateway.result(verdict=verdict, rounds=1, stoppedEarly=True, agreement=0.91, totals=totals)
    )
    gateway.stored = [gateway.run]
    gateway.events = [gateway.told(gateway.run)[-1]]
    gateway.events[0].sequence = 1
    ended = await djp_at("runs", "show", "latest")
    assert "On the way" not in ended.out

    gateway.events = troubled(gateway)
    ended = await djp_at("runs", "show", "latest")
    lines = ended.out.splitlines()
    way = lines.index("On the way")
    assert lines[way + 1 : way + 6] == [
        "d1 (openai/gpt-4o), attempt 1 failed: 429: slow down; charged $0.0000",
        "d1 (openai/gpt-4o), attempt 2 failed: the connection was lost; charged $0.0020, its bound",
        "d2 (openai/gpt-4o) gave no draft in round 2: no key",
        "j1 (openai/gpt-4o) did not judge d1-r2, d2-r1: of its own model family",
        "j1 (openai/gpt-4o) abstained: it is no JSON",
    ]
    assert "The debate stopped after round 1: the drafts agreed (0.91 of 1)." in lines
    assert "Further jurors were skipped: the lead was clear." in lines
    assert "1 of 4 ballots were abstentions; 2 jurors effectively voted." in lines
    assert any(line.endswith("winner, contested") for line in lines)
    costs = next(number for number, line in enumerate(lines) if line.startswith("Costs: "))
    assert lines[costs + 1] == "1 call's usage unknown, charged at its bound"
