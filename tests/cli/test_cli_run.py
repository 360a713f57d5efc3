"""`djp run` through the real command against a gateway on a socket: what it prints, sends, refuses and returns."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.json_format import ParseDict

from djp.cli.flags import RunFlags, run_request
from djp.cli.given import read_task
from djp.cli.run import run
from djp.mesh.errors import DjpError, FailedPrecondition, InvalidInput, Unavailable, Violation
from djp.v1 import run_pb2

if TYPE_CHECKING:
    from pathlib import Path

TASK = ("run", "--task", "How are budgets kept?")
COSTS = (
    "Costs: openai/gpt-4o in=150 out=80 $0.0021 | openai/gpt-4o-mini in=100 out=50 $0.0001 | Total $0.0022 (tokens=380)"
)


async def test_published_run_prints_text_verdict_citations_costs_and_what_next(
    djp_at: Any, gateway: Any, docs: Path
) -> None:
    grounded = ("--grounded-corpus", str(docs), "--grounded-required", "1", "--passage-tokens", "900")
    ended = await djp_at(*TASK, *grounded)

    assert ended.code == 0
    assert ended.out.startswith(gateway.run.result.text)  # to the byte, so that it can go into a file
    lines = ended.out.splitlines()
    assert COSTS in lines
    assert "[Budgets] budgets.md" in lines
    assert "[Nowhere] not found: no document has this title" in lines
    winner = next(line for line in lines if line.startswith("1 "))
    assert winner.split() == ["1", "d2-r1", "offline/precise", "3.50", "3.25", "1.50", "8.25", "winner"]
    assert "d3-r1 (offline/terse) is disqualified: 0 of 1 citations resolve" in lines
    assert "Redacted: EMAIL 2, PHONE 1" in lines
    assert any(line.startswith("Offline: no model was called.") for line in lines)
    assert "Artifact: /data/artifacts/hot/default/adhoc/run.json" in lines
    assert lines[-1].startswith("Next: ")
    assert lines[-1].endswith(f"djp runs show 3f2b8c1e --gateway {gateway.address}")

    progress = ended.err.splitlines()
    assert any(line.startswith("✓ debate   1 draft  120 ms") for line in progress)
    assert any("d1 (offline/broad) wrote 120 tokens" in line for line in progress)
    assert any("d2 (offline/precise) failed: the provider is down" in line for line in progress)
    assert any("j1 (offline/juror) gave d2-r1 8.25, d1-r1 4.00" in line for line in progress)
    assert any("95 % of the budget" in line for line in progress)
    assert "\x1b" not in ended.out + ended.err

    request = gateway.started[0]
    assert request.task == "How are budgets kept?"
    assert request.grounded_required == 1
    assert request.passage_tokens == 900
    assert request.redaction == run_pb2.REDACTION_MODE_ON
    assert gateway.corpora[request.corpus] == {
        "budgets.md": b"# Budgets\nMoney is reserved first.\n",
        "deep/Ünïcode.txt": b"Then it is spent.\n",
    }
    assert request.corpus.startswith("my-docs-")
    assert any("skipped empty.md: empty" in line for line in progress)


async def test_quiet_prints_the_text_alone(djp_at: Any, gateway: Any) -> None:
    ended = await djp_at(*TASK, "--quiet")

    assert (ended.code, ended.out, ended.err) == (0, gateway.run.result.text, "")


async def test_json_is_one_document_with_everything(djp_at: Any, gateway: Any, docs: Path) -> None:
    gateway.skipped = [("budgets.md", "not UTF-8")]
    ended = await djp_at(*TASK, "--json", "--grounded-corpus", str(docs))

    told = json.loads(ended.out)
    assert ended.err == ""
    assert told["run"]["run_id"] == gateway.run.run_id
    assert told["run"]["result"]["total_nano_usd"] == "2200000"
    assert told["run"]["error"] is None
    assert told["corpus"]["documents"] == 2
    assert {entry["path"] for entry in told["corpus"]["skipped"]} == {"budgets.md", "empty.md", "logo.png"}


@pytest.mark.parametrize(
    ("state", "spec", "changes", "code", "says"),
    [
        ("ADVISORY", {"policy": "strict"}, {"advisoryReason": "the policy says no"}, 3, "--policy any"),
        ("ADVISORY", {"policy": "any"}, {"advisoryReason": "it is no answer"}, 3, "give it documents to answer from"),
        (
            "ADVISORY",
            {"policy": "any", "corpus": "docs"},
            {"advisoryReason": "it is no answer"},
            3,
            "give a corpus that",
        ),
        ("ADVISORY", {}, {"groundedFailReason": "no draft has 2"}, 3, "--grounded-required"),
        ("NO_RESULT", {}, {"text": "", "advisoryReason": "no draft is left"}, 4, "disqualified"),
    ],
)
async def test_other_endings_say_why_and_what_to_do(
    state: str,
    spec: dict[str, str],
    changes: dict[str, Any],
    code: int,
    says: str,
    gateway: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gateway.run = gateway.finished(state, spec=spec, result=gateway.result(**changes))
    ended = await run(RunFlags(task="x", gateway=gateway.address))

    assert ended == code
    shown = capsys.readouterr().out
    assert state.replace("_", " ").capitalize() in shown
    assert says in " ".join(shown.split())


@pytest.mark.parametrize(
    ("state", "reason", "code", "remedy"),
    [
        ("DENIED", "ERROR_REASON_RUN_BUDGET_EXCEEDED", 5, ""),
        ("DENIED", "ERROR_REASON_BUDGET_EXCEEDED", 5, ""),
        ("FAILED", "ERROR_REASON_INTERRUPTED", 6, ""),
        ("FAILED", "ERROR_REASON_DEADLINE_EXCEEDED", 6, ""),
        ("FAILED", "ERROR_REASON_UNAVAILABLE", 6, "; start it again"),
        ("FAILED", "ERROR_REASON_PROVIDER_NOT_CONFIGURED", 6, ""),
        ("CANCELLED", "ERROR_REASON_CANCELLED", 6, ""),
    ],
)
async def test_denied_and_failed_say_why_and_the_remedy_once_also_when_quiet(
    state: str, reason: str, code: int, remedy: str, gateway: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "Projected cost $0.015 exceeds budget $0.010; raise --budget-usd"
    error = {"reason": reason, "message": told, "retryable": True}
    gateway.run = gateway.finished(state, error=error, result=None)
    ended = await run(RunFlags(task="x", gateway=gateway.address, quiet=True))

    shown = capsys.readouterr()
    assert (ended, shown.out) == (code, "")
    assert shown.err == f"{state.lower()}: {told}{remedy}\n"


async def test_every_flag_is_sent_in_either_spelling(djp_at: Any, gateway: Any) -> None:
    values = {
        "preset": "quick",
        "policy": "any",
        "max-tokens": "1000",
        "temperature": "0.5",
        "seed": "-7",
        "budget-usd": "0.000000001",
        "budget-tokens": "5000",
        "redact": "off",
        "timeout": "1.5",
        "workflow": "weekly",
        "trace-name": "--under_score",
        "gateway": gateway.address,
    }
    for spelling in (lambda name: name, lambda name: name.replace("-", "_")):
        flags = [part for name, value in values.items() for part in (f"--{spelling(name)}", value)]
        ended = await djp_at(*TASK, *flags)
        assert ended.code == 0, ended.err

    hyphens, underscores = gateway.started
    assert hyphens == underscores
    assert hyphens == ParseDict(
        {
            "task": "How are budgets kept?",
            "preset": "quick",
            "policy": "any",
            "maxTokens": 1000,
            "temperature": 0.5,
            "seed": -7,
            "budgetNanoUsd": 1,
            "budgetTokens": 5000,
            "redaction": "REDACTION_MODE_OFF",
            "timeout": "1.5s",
            "workflow": "weekly",
            "traceName": "--under_score",
        },
        run_pb2.RunRequest(),
    )


async def test_underscore_spellings_are_not_in_the_help(djp: Any) -> None:
    ended = await djp("run", "--help")

    assert ended.code == 0
    assert "--max-tokens" in ended.out
    assert "--max_tokens" not in ended.out
    assert "a budget refused the run" in ended.out


async def test_every_bad_flag_is_named_at_once_and_nothing_is_started(djp_at: Any, gateway: Any) -> None:
    ended = await djp_at(
        *("run", "--task", " ", "--grounded_required", "2", "--quiet", "--verbose", "--budget-usd", "0"),
        *("--max-tokens", "3", "--temperature", "nan", "--timeout", "0", "--seed", str(2**63), "--workflow", "A b"),
    )

    assert ended.code == 2
    assert ended.out == ""
    told = ended.err.splitlines()
    named = {line.removeprefix("error: ").split(":")[0].split(" ")[0] for line in told}
    assert named == {
        *("--task", "--grounded-required", "--quiet", "--budget-usd", "--max-tokens", "--temperature"),
        *("--timeout", "--seed", "--workflow"),
    }
    assert len(told) == len(named)
    assert gateway.started == []


async def test_the_gateways_own_refusals_are_lines_with_their_flags(djp_at: Any, gateway: Any) -> None:
    gateway.refusal = InvalidInput(
        "two problems",
        violations=[
            Violation("run.preset", "there is no preset 'quik'; did you mean 'quick'?"),
            Violation("run.policy", "there is no policy 'x'"),
        ],
    )
    ended = await djp_at(*TASK, "--json")

    assert ended.code == 2
    assert ended.err.splitlines() == [
        "error: --preset: there is no preset 'quik'; did you mean 'quick'?",
        "error: --policy: there is no policy 'x'",
    ]
    error = json.loads(ended.out)["error"]
    assert (error["reason"], error["exit_code"]) == ("INVALID_INPUT", 2)
    assert [entry["field"] for entry in error["fields"]] == ["--preset", "--policy"]


@pytest.mark.parametrize("reason", ["UNPRICED_MODEL", "PROVIDER_NOT_CONFIGURED"])
async def test_a_model_that_cannot_be_called_is_bad_input_in_one_line(djp_at: Any, gateway: Any, reason: str) -> None:
    gateway.refusal = FailedPrecondition("acme/x cannot be called; mend it", reason=reason)
    ended = await djp_at(*TASK)

    assert ended.code == 2
    assert ended.err.splitlines()[-1] == "error: acme/x cannot be called; mend it"


async def test_a_model_that_does_not_exist_is_told_with_its_flag(djp_at: Any, gateway: Any) -> None:
    told = "there is no model 'openai/gpt-5x'; there are: openai/gpt-4o"
    fields = ("run.debaters[1].model", "run.jurors[0].model")
    gateway.refusal = InvalidInput(told, violations=[Violation(field, told) for field in fields])
    gateway.refusal.reason = "UNKNOWN_MODEL"
    ended = await djp_at(*TASK, "--debater", "openai/gpt-4o", "--debater", "openai/gpt-5x", "--json")

    assert ended.code == 2
    assert ended.err.splitlines() == [f"error: --debater: {told}", f"error: --juror: {told}"]
    assert json.loads(ended.out)["error"]["reason"] == "UNKNOWN_MODEL"


async def test_debaters_and_jurors_are_sent_in_their_order(djp_at: Any, gateway: Any) -> None:
    models = ("openai/gpt-4o", "anthropic/claude-sonnet-4-5", "openai/gpt-4o")
    voices = [part for model in models for part in ("--debater", model)]
    ended = await djp_at(*TASK, *voices, "--juror", "a/b", "--juror", "c/d/e", "--rounds", "2")

    assert ended.code == 0
    (sent,) = gateway.started
    assert [(one.debater_id, one.model) for one in sent.debaters] == list(zip(("d1", "d2", "d3"), models, strict=True))
    assert [(one.juror_id, one.model) for one in sent.jurors] == [("j1", "a/b"), ("j2", "c/d/e")]
    assert sent.rounds == 2


@pytest.mark.parametrize(
    ("flags", "named"),
    [(("--rounds", "9"), "--rounds"), (("--debater", ""), "--debater"), (("--juror", "x" * 201), "--juror"),
     (("--debater", "a/b") * 17, "--debater")],
)  # fmt: skip
async def test_bad_voices_are_refused_before_anything_starts(
    djp_at: Any, gateway: Any, flags: tuple[str, ...], named: str
) -> None:
    ended = await djp_at(*TASK, *flags)

    assert ended.code == 2
    assert ended.err.startswith(f"error: {named}: ")
    assert not gateway.started


async def test_task_comes_from_a_file_or_standard_input(djp_at: Any, gateway: Any, tmp_path: Path) -> None:
    (tmp_path / "task.txt").write_bytes("\ufeffWas ist größer?\n".encode())
    from_file = await djp_at("run", "--quiet", "--task", f"@{tmp_path / 'task.txt'}")
    from_input = await djp_at("run", "--quiet", "--task", "-", stdin="Was ist größer?\n".encode())

    assert (from_file.code, from_input.code) == (0, 0)
    assert [request.task for request in gateway.started] == ["Was ist größer?"] * 2


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"\xff\xfe\x00", "not UTF-8"), (b"x" * 262_145, "longer than 262144 bytes"), (b" \n", "is empty")],
)
def test_a_bad_task_file_is_refused(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "task").write_bytes(content)

    with pytest.raises(InvalidInput, match=says):
        run_request(RunFlags(task=f"@{tmp_path / 'task'}"))


@pytest.mark.parametrize(
    ("task", "says"),
    [(None, "is missing"), ("@/nowhere/at\nall", "No such file"), ("a\udcff", "not UTF-8"), ("x" * 262_145, "longer")],
)
def test_a_bad_task_is_refused(task: str | None, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        run_request(RunFlags(task=task))


async def test_dry_run_prints_the_projection_and_starts_nothing(
    gateway: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = await run(RunFlags(task="x", gateway=gateway.address, dry_run=True, budget_usd="0.05"))

    shown = capsys.readouterr()
    assert ended == 0
    assert shown.out.splitlines()[:10] == [
        "Dry run mode - no API calls made",
        "",
        "Projected Cost Breakdown:",
        "  Debate Stage:  $0.0290",
        "  Judge Stage:   $0.0165",
        "  Total Cost:    $0.0455",
        "  Total Tokens:  5,600",
        "",
        "Projected cost: $0.0455",
        "Projected tokens: ~5600",
    ]
    assert "91 % of the budget" in shown.err
    assert gateway.started == []


async def test_dry_run_over_budget_is_denied_with_the_guides_message(
    gateway: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = RunFlags(task="x", gateway=gateway.address, dry_run=True, budget_usd="0.010", as_json=True)
    ended = await run(flags)

    shown = capsys.readouterr()
    assert ended == 5
    assert "BudgetExceededError: Projected cost $0.046 exceeds budget $0.010" in shown.err
    assert json.loads(shown.out)["dry_run"]["refusal"].startswith("BudgetExceededError")


async def test_a_gateway_that_is_not_there_is_one_line(djp: Any, tmp_path: Path) -> None:
    ended = await djp(*TASK, "--gateway", f"unix:{tmp_path}/nobody.sock")

    assert ended.code == 7
    told = [line for line in ended.err.splitlines() if line.startswith("error:")]
    assert len(told) == 1
    assert "djp serve all" in told[0]


async def test_a_data_folder_in_use_is_one_line(djp: Any, home: Path) -> None:
    from filelock import FileLock

    home.mkdir()  # noqa: ASYNC240
    with FileLock(home / "lock"):
        ended = await djp("runs", "list")

    assert ended.code == 7
    assert ended.err.count("\n") == 1
    assert f"data folder {home} is in use" in ended.err


@pytest.mark.parametrize(
    ("state", "refusal", "told"),
    [
        ("CANCELLED", None, "interrupted: the run is cancelled; what it had not spent is given back"),
        ("RUNNING", None, "interrupted: the run is being cancelled; what it had not spent is given back"),
        ("PUBLISHED", None, "interrupted: the run had ended already; look at it with: "),
        (
            "RUNNING",
            Unavailable("it restarts"),
            "interrupted: the run could not be cancelled (it restarts); look at it",
        ),
    ],
)
async def test_ctrl_c_cancels_the_run_and_says_what_became_of_it(
    djp_at: Any, gateway: Any, state: str, refusal: DjpError | None, told: str
) -> None:
    gateway.goes_on.clear()
    gateway.cancelled_as = state
    process = await djp_at.start(*TASK)
    await asyncio.wait_for(gateway.waiting.wait(), 60)
    gateway.refusal = refusal
    process.send_signal(signal.SIGINT)
    out, err = await process.communicate()

    assert process.returncode == 130
    assert out == b""
    last = err.decode().splitlines()[-1]
    assert last.startswith(told)
    assert ("look at it" in told) == last.endswith(f"djp runs show 3f2b8c1e --gateway {gateway.address}")
    assert {request.run_id for request in gateway.cancelled} == {gateway.run.run_id}
    assert b"Traceback" not in err


async def test_reader_that_has_seen_enough_ends_the_command_quietly(djp_at: Any, gateway: Any) -> None:
    gateway.run = gateway.finished(result=gateway.result(text="word " * 100_000, citations=[]))
    reader, writer = os.pipe()
    process = await djp_at.start(*TASK, "--quiet", stdout=writer)
    os.close(writer)
    await asyncio.to_thread(os.read, reader, 10)
    os.close(reader)
    _, err = await process.communicate()

    assert process.returncode == 128 + signal.SIGPIPE
    assert err == b""


@pytest.mark.parametrize("how", ["--quiet", "--json"])
async def test_output_to_a_full_disk_is_one_line(how: str, djp_at: Any, gateway: Any) -> None:
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230
        process = await djp_at.start(*TASK, how, stdout=full)
        _, err = await process.communicate()

    assert process.returncode == 1
    assert err.decode().splitlines()[-1] == (
        "error: standard output cannot be written: No space left on device; free some space; what was done is kept, "
        "see `djp runs list`"
    )
    assert b"Traceback" not in err


async def test_an_error_that_cannot_be_written_as_json_keeps_its_line_and_code(djp: Any) -> None:
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230
        process = await djp.start("run", "--task", "", "--json", stdout=full)
        _, err = await process.communicate()

    assert (process.returncode, err) == (2, b"error: --task: is empty; say what the run should answer\n")


@pytest.mark.parametrize("flag", ["--grounded-corpus", "--metrics"])
async def test_an_empty_path_is_not_the_current_folder(flag: str, djp_at: Any, gateway: Any) -> None:
    ended = await djp_at(*TASK, flag, "")

    assert ended.code == 2
    assert f"Invalid value for '{flag}': is empty" in ended.err
    assert gateway.started == []


async def test_bad_folders_and_files_are_named_together_with_bad_flags(djp_at: Any, gateway: Any) -> None:
    ended = await djp_at(
        *("run", "--task", "x", "--grounded-corpus", "/nowhere/at/all", "--metrics", "/nowhere/m.csv"),
        *("--budget-usd", "0", "--workflow", "A/b"),
    )

    assert ended.code == 2
    assert [line.split(": ")[1] for line in ended.err.splitlines()] == [
        "--budget-usd",
        "--workflow",
        "--grounded-corpus",
        "--metrics",
    ]
    assert "leave it out for no limit" in ended.err
    assert "lower-case letters" in ended.err
    assert gateway.started == []


def test_a_closed_standard_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InvalidInput, match="closed"):
        read_task("-")


async def test_the_folder_without_a_document_is_named_as_it_was_given(djp: Any, tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    ended = await djp(*TASK, "--quiet", "--grounded-corpus", str(tmp_path / "papers"))

    assert ended.code == 2
    assert ended.err.startswith(f"error: --grounded-corpus: folder {tmp_path / 'papers'} has no usable document")
    assert len(ended.err.splitlines()) == 1


async def test_texts_in_a_locale_that_cannot_show_them_do_not_fail(djp_at: Any, gateway: Any) -> None:
    gateway.run = gateway.finished(result=gateway.result(text="größer ✓", citations=[]))
    djp_at.env = {"PYTHONIOENCODING": "ascii"}
    ended = await djp_at(*TASK)

    assert ended.code == 0
    assert ended.out.startswith("gr??er ?")


async def test_help_needs_neither_grpc_nor_rich(djp: Any) -> None:
    djp.env = {"PYTHONPROFILEIMPORTTIME": "1"}
    for arguments in (["--help"], ["run", "--help"], ["runs", "--help"], ["--version"]):
        ended = await djp(*arguments)
        assert ended.code == 0
        imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in ended.err.splitlines()}
        assert "typer" in imported
        assert not imported & {"grpc", "google", "rich", "sqlalchemy", "asyncio"}, arguments


async def test_list_presets_needs_no_task_and_no_mesh(djp: Any, djp_at: Any, gateway: Any, home: Path) -> None:
    here = await djp("run", "--list_presets", "--json")
    there = await djp_at("run", "--list-presets")

    assert {preset["name"] for preset in json.loads(here.out)["presets"]} >= {
        *("quick", "thorough", "research", "deterministic"),
    }
    assert not home.exists()  # noqa: ASYNC240
    assert "remote\n  Only there.\n  max_tokens 500" in there.out


@pytest.mark.parametrize("make", ["missing", "file"])
async def test_a_corpus_that_is_no_folder_is_refused_before_anything_starts(
    make: str, djp_at: Any, gateway: Any, tmp_path: Path
) -> None:
    if make == "file":
        (tmp_path / "x").write_text("text")
    ended = await djp_at(*TASK, "--grounded-corpus", str(tmp_path / "x"))

    assert ended.code == 2
    assert "--grounded-corpus" in ended.err
    assert str(tmp_path / "x") in ended.err
    assert len(ended.err.splitlines()) == 1
    assert gateway.started == []


async def test_a_second_signal_ends_a_command_that_does_not_unwind(djp: Any) -> None:
    code = """
import asyncio, sys
from djp.cli.session import execute
async def stubborn():
    try:
        print("ready", flush=True)
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        print("unwinding", flush=True)
        await asyncio.sleep(3600)
execute(stubborn)
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), env=djp.environment(), stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    assert await process.stdout.readline() == b"unwinding\n"
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()

    assert (process.returncode, err) == (130, b"")
