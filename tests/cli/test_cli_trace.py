"""`djp trace` over kept spans: order, depth, errors, and files that are damaged or ambiguous."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from djp.cli import terminal
from djp.cli.trace import show_trace
from djp.mesh.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from pathlib import Path

RUN = "3f2b8c1e-0000-4000-8000-000000000001"


def span(span_id: str, name: str, start_ms: int, took_ms: int, parent: str = "", **more: Any) -> dict[str, Any]:
    return {
        "trace_id": "t",
        "span_id": span_id,
        "parent_id": parent,
        "service": "gateway",
        "name": name,
        "start_ns": start_ms * 10**6,
        "end_ns": (start_ms + took_ms) * 10**6,
        "status": "UNSET",
        "attributes": {},
        **more,
    }


SPANS = [
    span("b", "debate", 10, 50, "a"),
    span("a", "run", 0, 100),
    span("c", "djp.v1.DebateService/Debate", 20, 30, "b", service="debate"),
    span("d", "store", 70, 2, "a", status="ERROR", attributes={"djp.error_reason": "DISK_FULL"}),
    span("e", "lost", 80, 1, "never-written"),
]


@pytest.fixture
def traces(home: Path) -> Path:
    folder = home / "traces"
    folder.mkdir(parents=True)
    return folder


def keep(folder: Path, spans: list[dict[str, Any]], run_id: str = RUN) -> None:
    (folder / f"{run_id}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in spans))


async def test_spans_stand_below_their_parents_with_offset_and_duration(
    traces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(traces, SPANS)
    assert await show_trace(RUN[:8], as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()

    assert lines[0] == f"Run {RUN}  100.0 ms, 5 spans, 2 services"
    rows = [line.split("━")[0].split() for line in lines[3:]]
    assert rows == [
        ["run", "gateway", "0.0", "ms", "100.0", "ms"],
        ["debate", "gateway", "10.0", "ms", "50.0", "ms"],
        ["Debate", "debate", "20.0", "ms", "30.0", "ms"],
        ["✗", "store", "DISK_FULL", "gateway", "70.0", "ms", "2.0", "ms"],
        ["lost", "gateway", "80.0", "ms", "1.0", "ms"],
    ]
    assert [len(line) - len(line.lstrip()) for line in lines[3:]] == [0, 2, 4, 2, 0]
    bars = [line.count("━") for line in lines[3:]]
    assert bars[0] == max(bars)
    assert min(bars) == 1


async def test_a_narrow_terminal_keeps_names_and_durations(
    traces: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal.out.cache_clear()
    keep(traces, SPANS)
    await show_trace(RUN, as_json=False)

    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert any(line.split() == ["debate", "50.0", "ms"] for line in lines)


async def test_json_has_every_span_and_a_cut_line_is_left_out(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(traces, SPANS)
    with (traces / f"{RUN}.jsonl").open("a") as file:
        file.write('{"trace_id": "t", "spa')
    await show_trace("latest", as_json=True)

    told = json.loads(capsys.readouterr().out)
    assert told["run_id"] == RUN
    assert [one["span_id"] for one in told["spans"]] == ["a", "b", "c", "d", "e"]


async def test_latest_is_the_one_written_last(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(traces, SPANS)
    keep(traces, [span("x", "run", 0, 1)], "other-run")
    os.utime(traces / "other-run.jsonl", (1, 1))
    await show_trace("latest", as_json=False)

    assert capsys.readouterr().out.startswith(f"Run {RUN}")


async def test_names_that_command_the_terminal_and_spans_in_a_circle(
    traces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = [span("a", "\x1b[2Jrun[red]", 0, 0, "b"), span("b", "loop", 0, 0, "a"), span("c", "\x1b]0;x\x07", 0, 0)]
    keep(traces, [*evil, *(span(f"s{n}", "deep", n, 1, f"s{n - 1}" if n else "") for n in range(500))])
    await show_trace(RUN, as_json=False)

    shown = capsys.readouterr().out
    assert not set(shown) & {"\x1b", "\x07"}
    assert shown.count("deep") == 500


async def test_nothing_kept_and_ambiguous_beginnings_are_errors(traces: Path) -> None:
    with pytest.raises(NotFound, match=r"no trace is kept in .* yet"):
        await show_trace("latest", as_json=False)
    for wanted in (RUN, "../../etc/passwd"):
        with pytest.raises(NotFound, match="no trace of run"):
            await show_trace(wanted, as_json=False)
    keep(traces, SPANS)
    keep(traces, SPANS, RUN[:-1] + "2")
    with pytest.raises(InvalidInput, match="2 runs begin with '3f2b'"):
        await show_trace("3f2b", as_json=False)
    keep(traces, [], "empty-run")
    with pytest.raises(NotFound, match="is empty"):
        await show_trace("empty-run", as_json=False)


async def test_a_model_call_keeps_its_models_name(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(traces, [*SPANS, span("f", "chat openai/gpt-4o", 21, 9, "c", service="debate")])
    assert await show_trace(RUN, as_json=False) == 0
    assert "chat openai/gpt-4o " in capsys.readouterr().out
