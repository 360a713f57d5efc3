"""`djp replay` and `djp runs replay`, in meshes of their own: the same bytes again, and the command of the guide."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from djp.cli.replay import run_of
from tests.cli.test_cli_help import parse, words_of
from tests.gateway.test_gateway_replay import same


def artifact(home: Path, run: Any) -> Any:
    return json.loads((home / "artifacts" / run["result"]["artifact_location"]).read_text())


async def test_a_deterministic_offline_run_comes_out_again_byte_for_byte(djp: Any, home: Path, docs: Path) -> None:
    first = await djp(
        *("run", "--task", "How is money reserved? Ask jane.roe@example.com.", "--grounded-corpus", str(docs)),
        *("--preset", "deterministic", "--redact", "all", "--juror", "offline/rubric", "--rounds", "2"),
        *("--trace-name", "debate-judge-replay", "--json"),
    )
    run = json.loads(first.out)["run"]
    assert first.code in (0, 3), first.err
    (docs / "budgets.md").write_text("# Budgets\nSomething else now.\n")
    assert (await djp("corpus", "add", str(docs))).code == 0

    again = json.loads((await djp("runs", "replay", run["run_id"][:8], "--json")).out)
    assert again["run"]["replay"]["run_id"] == run["run_id"]
    assert again["run"]["spec"] == run["spec"]
    assert same(artifact(home, again["run"])) == same(artifact(home, run))
    (told,) = again["differences"]
    assert told.startswith(f"the corpus {run['spec']['corpus']} is at version ")

    name = run["result"]["artifact_name"]
    plan = await djp("replay", "--replay", f"runs/{name}", "--dry-run")
    lines = plan.out.splitlines()
    assert lines[0] == f"Replaying run from: {name}"
    assert lines[1].startswith("Command: djp run --task ")
    assert "--trace_name debate-judge-replay --max_tokens 1000 --temperature 0.0 --policy " in lines[1]
    parse(words_of(lines[1].removeprefix("Command: ")))
    assert lines[-1] == "(Dry run - command not executed)"
    assert any(line.startswith("Since then: the corpus") for line in lines)

    words = shlex.split(lines[1].removeprefix("Command: djp "))
    other = json.loads((await djp(*words, "--grounded-corpus", str(docs), "--json")).out)["run"]
    for field in ("task", "max_tokens", "temperature", "policy_document", "preset", "debaters", "jurors", "timeout"):
        assert other["spec"][field] == run["spec"][field]

    changed = await djp("replay", "--latest", "--task", "What is a budget?", "--trace-name", "another")
    assert "Replays the run " in changed.out
    shown = await djp("replay", "--show", "latest")
    assert "What is a budget?" in shown.out
    (where,) = [line for line in shown.out.splitlines() if line.startswith("Artifact: ")]
    assert where.startswith(f"Artifact: {home}/artifacts/hot/default/")
    assert Path(where.removeprefix("Artifact: ")).is_file()  # noqa: ASYNC240
    assert len((await djp("replay", "--list")).out.splitlines()) >= 5


@pytest.mark.parametrize("arguments", [(), ("--latest", "--list"), ("3f2b8c1e", "--replay", "3f2b8c1e")])
async def test_it_is_said_what_to_replay_and_once(djp_at: Any, arguments: tuple[str, ...]) -> None:
    ended = await djp_at("runs", "replay", *arguments)
    assert ended.code == 2
    assert "one of them" in " ".join(ended.err.replace("│", " ").split())


async def test_a_run_that_is_not_there_is_bad_input(djp: Any) -> None:
    ended = await djp("replay", "--replay", "runs/2025.09.29-1445.json", "--json")
    assert ended.code == 2
    assert "there is no run 2025.09.29-1445" in ended.err


def test_an_artifacts_file_names_its_run() -> None:
    assert run_of("some/where/3f2b8c1e-0000.json") == "3f2b8c1e-0000"
    assert run_of("latest") == "latest"
