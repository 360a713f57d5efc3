"""`djp runs list`, `djp runs show` and `djp runs cancel`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from djp.cli.runs import cancel_run, decide_run, list_runs, show_run
from djp.cli.session import execute
from djp.mesh.errors import NotFound
from djp.v1 import run_pb2


async def test_an_empty_list_says_how_to_start(gateway: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert await list_runs(gateway.address, limit=20, states=[], preset="", as_json=False) == 0
    assert 'djp run --task "…"' in capsys.readouterr().out


async def test_the_list_has_a_line_a_run_and_sends_the_filters(
    gateway: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    task = {"task": "line one\nline two \x1b[31m" + "x" * 300}
    gateway.stored = [
        gateway.finished("ADVISORY", spec=task),
        gateway.finished("FAILED", runId="a" * 36, result=None, error={"reason": "ERROR_REASON_INTERNAL"}),
        gateway.finished("RUNNING", runId="b" * 36, result=None),
    ]
    await list_runs(gateway.address, limit=2, states=["no-result", "published"], preset="quick", as_json=False)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]

    assert lines[0].split() == ["run", "state", "started", "(UTC)", "cost", "preset", "task"]
    assert lines[1].startswith("3f2b8c1e  advisory  2026-03-01 10:00:00  $0.0022  -         line one line two ␛[31mxx")
    assert lines[1].endswith("…")
    assert lines[2].split()[:2] == ["aaaaaaaa", "failed"]
    assert len(lines) == 5
    assert lines[3] == "Redacted runs: 1 of 2 (50 %); redaction events: 3"
    assert "--limit 10 shows them" in lines[4]
    asked = gateway.listed[0]
    assert (asked.page_size, asked.preset) == (2, "quick")
    assert list(asked.states) == [run_pb2.RUN_STATE_NO_RESULT, run_pb2.RUN_STATE_PUBLISHED]


async def test_a_run_is_listed_whatever_its_state(gateway: Any, capsys: pytest.CaptureFixture[str]) -> None:
    states = [name.removeprefix("RUN_STATE_") for name in run_pb2.RunState.keys()[1:]]
    gateway.stored = [gateway.finished(state, runId=f"{number:036}") for number, state in enumerate(states)]
    await list_runs(gateway.address, limit=50, states=[], preset="", as_json=False)
    lines = capsys.readouterr().out.splitlines()[1:]
    for state, line in zip(states, lines, strict=False):
        assert line.split("  ")[1] == state.lower().replace("_", " ")


async def test_the_list_says_nothing_of_redaction_where_nothing_was_found(
    gateway: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.stored = [gateway.finished(result=gateway.result(redactionCounts={}))]
    await list_runs(gateway.address, limit=20, states=[], preset="", as_json=False)
    assert "edact" not in capsys.readouterr().out


async def test_show_finds_a_run_by_its_beginning_and_the_latest(
    gateway: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.stored = [gateway.finished(runId="c" * 36), gateway.run]
    await show_run(gateway.address, "3f2b8c1e", as_json=True)
    assert json.loads(capsys.readouterr().out)["run"]["run_id"] == gateway.run.run_id
    await show_run(gateway.address, "latest", as_json=False)
    shown = capsys.readouterr().out
    assert "How are budgets kept?" in shown
    assert f"djp runs show cccccccc --gateway {gateway.address}" in shown


async def test_no_such_run_is_an_error(gateway: Any) -> None:
    with pytest.raises(NotFound, match="there is no run"):
        await show_run(gateway.address, "12345678", as_json=False)
    with pytest.raises(NotFound, match="no run yet"):
        await show_run(gateway.address, "latest", as_json=False)


async def test_unknown_command_lines_are_usage_errors(djp_at: Any) -> None:
    for arguments in (["runs", "list", "--state", "gone"], ["runs", "list", "--limit", "0"], ["runs", "shwo"], ["rnu"]):
        ended = await djp_at(*arguments)
        assert ended.code == 2
        assert "Usage: djp" in ended.err
        assert "Traceback" not in ended.err


async def test_an_argument_that_is_no_text_is_bad_input(djp: Any) -> None:
    ended = await djp("runs", "list", "--preset", b"\xff")
    assert (ended.code, ended.out) == (2, "")
    assert "UTF-8" in ended.err


def test_a_fault_of_ours_is_one_line_without_its_text(
    home: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def faulty() -> int:
        raise KeyError("a secret")

    with pytest.raises(SystemExit) as ended:
        execute(faulty, as_json=True)

    shown = capsys.readouterr()
    assert ended.value.code == 1
    assert shown.err.startswith("error: internal error (KeyError)")
    assert "secret" not in shown.err + shown.out
    assert json.loads(shown.out)["error"]["reason"] == "INTERNAL"


def test_wrong_settings_are_lines_that_name_the_variables(
    home: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DJP_TLS_CERT", "/x.pem")
    monkeypatch.setenv("DJP_METRICS_PORT", "secret")

    async def nothing() -> int:
        raise AssertionError

    with pytest.raises(SystemExit) as ended:
        execute(nothing)

    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "DJP_METRICS_PORT" in told
    assert "secret" not in told


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("CANCELLED", "Run 3f2b8c1e is cancelled; it cost $0.0022, the rest is given back."),
        ("PUBLISHED", "Run 3f2b8c1e had ended already: published."),
        ("RUNNING", "Run 3f2b8c1e is being cancelled."),
    ],
)
async def test_cancel_says_how_the_run_ended(
    gateway: Any, capsys: pytest.CaptureFixture[str], state: str, told: str
) -> None:
    gateway.cancelled_as = state
    assert await cancel_run(gateway.address, "3f2b8c1e", reason="too slow", as_json=False) == 0
    assert capsys.readouterr().out.strip() == told
    (request,) = gateway.cancelled
    assert (request.run_id, request.reason) == (gateway.run.run_id, "too slow")


async def test_cancel_can_be_read_by_a_program(djp_at: Any) -> None:
    ended = await djp_at("runs", "cancel", "3f2b8c1e", "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["run"]["state"] == "RUN_STATE_CANCELLED"


@pytest.mark.parametrize(("approve", "told"), [(True, "Published"), (False, "rejected by tenant default: not true")])
async def test_a_decision_is_sent_and_shown(
    gateway: Any, capsys: pytest.CaptureFixture[str], approve: bool, told: str
) -> None:
    assert await decide_run(gateway.address, "3f2b8c1e", approve=approve, reason="because", as_json=False) == 0
    assert told in capsys.readouterr().out
    assert gateway.decided == [("approve" if approve else "reject", gateway.run.run_id, "because")]


async def test_a_rejection_needs_a_reason(djp_at: Any) -> None:
    ended = await djp_at("runs", "reject", "3f2b8c1e")
    assert ended.code == 2
    assert "--reason" in ended.err
