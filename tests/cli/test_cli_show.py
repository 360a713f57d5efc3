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
    assert "drafting: d1" in shown  # moves while it goes on
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
