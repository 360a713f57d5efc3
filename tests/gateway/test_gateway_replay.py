"""Replays: the same run again, or with another task, preset or trace name, and what has changed since."""

from __future__ import annotations

import asyncio
import json
import shlex
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from djp.client import connect
from djp.mesh.errors import NotFound, Unavailable
from djp.mesh.identity import Identity, identity_scope
from djp.v1 import common_pb2, judge_pb2, redaction_pb2, run_pb2
from djp_gateway.command_line import command_of
from djp_gateway.ports import COMMAND
from djp_gateway.spec import SPEC_VERSION
from tests.gateway.conftest import SECRET
from tests.gateway.test_gateway_hiding import refused as refusal

if TYPE_CHECKING:
    from pathlib import Path

DIFFER = {
    "run_metadata": ("run_id", "started_at", "finished_at"),
    "provenance": ("reservation_id", "trace_id"),
}
CALLS_DIFFER = ("call_id", "started_at", "duration_ms")
"""Who a run is and when it was: all that may differ between the artifacts of a run and its replay."""


def same(artifact: Any) -> bytes:
    """What the artifact of a replay has in common with that of the run, byte for byte."""
    for part, names in DIFFER.items():
        for name in names:
            assert artifact[part].pop(name)
    for call in artifact["provenance"]["calls"]:
        for name in CALLS_DIFFER:
            del call[name]
    return json.dumps(artifact, ensure_ascii=False).encode()


async def replay(gateway: Any, run_id: str, **fields: Any) -> run_pb2.ReplayRunResponse:
    fields = {"request_id": str(uuid.uuid4()), **fields}
    answer: run_pb2.ReplayRunResponse = await gateway.runs.ReplayRun(run_pb2.ReplayRunRequest(run_id=run_id, **fields))
    return answer


async def test_a_replay_has_the_spec_and_gives_the_bytes_of_the_run(gateway: Any, leaves: Any) -> None:
    run = await gateway.do(corpus="handbook", preset="deterministic", trace_name="first", tags={"team": "blue"})
    answer = await replay(gateway, run.run_id[:8])
    assert (answer.run.state, answer.run.replay.run_id) == (run_pb2.RUN_STATE_QUEUED, run.run_id)
    assert list(answer.differences) == []
    again = await gateway.finish(answer.run.run_id)
    assert again.spec == run.spec
    assert again.run_id != run.run_id
    assert same(leaves.artifact(again)) == same(leaves.artifact(run))
    assert again.result.text == run.result.text
    first, second = leaves.requests("Debate")
    second.run_id = first.run_id
    assert second == first
    assert {request.version for request in leaves.requests("VerifyCitations")} == {"version-1"}


async def test_another_task_trace_name_or_preset_takes_the_place_of_the_old_one(gateway: Any, leaves: Any) -> None:
    run = await gateway.do(preset="quick", max_tokens=700, trace_name="first", corpus="handbook", budget_tokens=10**7)
    other = (await replay(gateway, run.run_id, task="What is a jury?", trace_name="second 🙂")).run
    expected = run_pb2.RunSpec()
    expected.CopyFrom(run.spec)
    expected.task, expected.trace_name, expected.asked.trace_name = "What is a jury?", "second 🙂", "second 🙂"
    assert other.spec == expected
    thorough = (await replay(gateway, run.run_id, preset="thorough")).run.spec
    assert (thorough.preset, thorough.max_tokens, thorough.temperature) == ("thorough", 700, 0.3)  # 700 was asked for
    assert (len(thorough.debaters), thorough.rounds, thorough.timeout.seconds) == (4, 2, 300)
    assert (thorough.corpus_version, thorough.budget_tokens) == ("version-1", 10**7)
    assert not thorough.HasField("fast_path_margin")
    assert thorough.task == run.spec.task
    back = (
        await replay(gateway, (await replay(gateway, run.run_id, preset="thorough")).run.run_id, preset="quick")
    ).run
    assert back.spec == run.spec


async def test_a_template_comes_back_as_it_was(gateway: Any, leaves: Any) -> None:
    shown = (await gateway.catalogue.ListTemplates(catalogue_request())).templates[0]
    run = await gateway.do(task="", template=shown.name, inputs=shown.example)
    same_one = (await replay(gateway, run.run_id)).run.spec
    assert same_one == run.spec
    preset = (await replay(gateway, run.run_id, preset="research")).run.spec
    assert (preset.task, preset.template_text, preset.preset) == (run.spec.task, run.spec.template_text, "research")
    task = (await replay(gateway, run.run_id, task="Something else.")).run.spec
    assert (task.task, task.template, task.template_text, task.asked.template) == ("Something else.", "", "", "")
    assert not task.HasField("inputs")
    command = (await replay(gateway, run.run_id, dry_run=True)).command
    assert f"--template {shown.name} --inputs" in command
    assert "--task" not in command


def catalogue_request() -> Any:
    from djp.v1 import catalogue_pb2

    return catalogue_pb2.ListTemplatesRequest()


async def test_the_same_request_makes_one_replay_and_is_answered_alike(gateway: Any, leaves: Any) -> None:
    run = await gateway.do()
    request_id = str(uuid.uuid4())
    answers = await asyncio.gather(*(replay(gateway, run.run_id, request_id=request_id) for _ in range(8)))
    assert len({answer.run.run_id for answer in answers}) == 1
    await gateway.finish(answers[0].run.run_id)
    later = await replay(gateway, run.run_id, request_id=request_id)
    assert later.run.run_id == answers[0].run.run_id
    assert later.command == answers[0].command
    for other in (replay(gateway, run.run_id, request_id=request_id, task="A"), gateway.start(request_id=request_id)):
        assert (await refusal(other)).reason == "REQUEST_ID_REUSED"


async def test_the_client_replays(gateway: Any) -> None:
    run = await gateway.do()
    async with connect(gateway.server.address) as client:
        plan = await client.replay_run(run.run_id, task="Why?", trace_name="again", dry_run=True)
        assert not plan.HasField("run")
        assert "--task 'Why?' --trace_name again" in plan.command
        answer = await client.replay_run(run.run_id)
    assert answer.run.replay.run_id == run.run_id


async def test_another_tenants_run_is_not_there(gateway: Any) -> None:
    run = await gateway.do()
    with identity_scope(Identity(tenant="mallory")):
        for dry_run in (False, True):
            assert (await refusal(replay(gateway, run.run_id, dry_run=dry_run))).reason == "NOT_FOUND"


@pytest.mark.parametrize(
    ("fields", "named"),
    [({"preset": "qick"}, "quick"), ({"task": "  \n"}, "task"), ({"trace_name": "x" * 201}, "trace_name")],
)
async def test_bad_fields_are_named_and_nothing_is_started(gateway: Any, fields: dict[str, str], named: str) -> None:
    run = await gateway.do()
    error = await refusal(replay(gateway, run.run_id, **fields))
    assert error.code == "INVALID_ARGUMENT"
    assert named in str(error)
    assert [one.run_id for one in (await gateway.runs.ListRuns(run_pb2.ListRunsRequest())).runs] == [run.run_id]


async def test_a_dry_run_says_the_command_and_starts_nothing(gateway: Any, leaves: Any) -> None:
    run = await gateway.do(task="What's new?", trace_name="debate-judge-replay", policy="openai_only")
    asked = len(leaves.requests("Reserve"))
    answer = await replay(gateway, run.run_id, dry_run=True)
    assert not answer.HasField("run")
    words = shlex.split(answer.command)
    assert words[:2] == ["djp", "run"]
    told = dict(zip(words[2::2], words[3::2], strict=True))
    assert told["--task"] == "What's new?"
    assert told["--trace_name"] == "debate-judge-replay"
    assert (told["--max_tokens"], told["--temperature"], told["--policy"]) == ("1200", "0.3", "openai_only")
    assert len((await gateway.runs.ListRuns(run_pb2.ListRunsRequest())).runs) == 1
    assert len(leaves.requests("Reserve")) == asked


async def test_budget_and_approval_are_those_of_the_run(gateway: Any, leaves: Any) -> None:
    run = await gateway.start(require_approval=True, budget_nano_usd=10**9)
    for run_id in (run.run_id, (await replay(gateway, run.run_id)).run.run_id):
        async for answer in gateway.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run_id)):
            if answer.event.state.state == run_pb2.RUN_STATE_PENDING_APPROVAL:
                break
    assert [request.run_limit_nano_usd for request in leaves.requests("Reserve")] == [10**9] * 2


async def test_what_was_hidden_keeps_its_names_also_over_a_replay_that_came_to_nothing(
    gateway: Any, leaves: Any
) -> None:
    other = "john.doe@example.com"
    leaves.secrets = [SECRET, other]
    run = await gateway.do(task=f"Ask {other}, then {SECRET}.", redaction=run_pb2.REDACTION_MODE_ALL)
    assert leaves.requests("Debate")[0].task == "Ask [EMAIL_1], then [EMAIL_2]."
    second = await gateway.finish((await replay(gateway, run.run_id, task=f"Only {SECRET}.")).run.run_id)
    lost = await kept(gateway, second.spec, replay=run_pb2.Replay(run_id=second.run_id))  # nobody has begun it
    third = await gateway.finish((await replay(gateway, lost.run_id)).run.run_id)
    assert [one.task for one in leaves.requests("Debate")[1:]] == ["Only [EMAIL_2]."] * 2
    assert third.state == run_pb2.RUN_STATE_PUBLISHED


async def kept(gateway: Any, spec: run_pb2.RunSpec, **fields: Any) -> run_pb2.Run:
    """A run that is in the store, and that no gateway takes."""
    run = run_pb2.Run(
        run_id=str(uuid.uuid4()), tenant="default", state=run_pb2.RUN_STATE_QUEUED, attempt=1, spec=spec, **fields
    )
    run.created_at.GetCurrentTime()
    queue = gateway.service.servicers[0][1]._runner._queue
    await queue.add(run, request_id=str(uuid.uuid4()), request_sha256="x", executor=COMMAND)
    return run


async def test_what_has_changed_since_is_listed_and_kept_with_the_replay(
    mesh: Any, leaves: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await mesh.gateway(executor_id="first")
    leaves.prices, leaves.rules_version = {"offline/lead": 1000}, "rules-1"
    run = await first.do(corpus="handbook")
    await first.close()
    leaves.prices, leaves.rules_version = {"offline/lead": 2000}, "rules-2"
    leaves.bound_nano_usd, leaves.corpus_version = 5000, "version-2"
    monkeypatch.setattr("djp.__version__", "99.0")
    second = await mesh.gateway(executor_id="second", debaters="offline/brief", policy="openai_only")
    answer = await replay(second, run.run_id)
    told = "\n".join(answer.differences)
    for words in (
        "the corpus handbook is at version version-2 now; the replay reads version version-1",
        "policy would be openai_only now; the replay keeps any",
        "debaters would be offline/brief now; the replay keeps offline/lead, offline/focus, offline/survey",
        "the release is 99.0 now",
        "a million input tokens of offline/lead cost $0.000002 now, and cost $0.000001",
        "at most now, and could cost",
        "the redaction rules are version rules-2 now, and were rules-1",
    ):
        assert words in told
    again = await second.finish(answer.run.run_id)
    assert list(again.replay.differences) == list(answer.differences)
    assert again.spec == run.spec
    assert leaves.requests("Search")[-1].version == "version-1"


async def test_a_preset_that_has_gone_or_changed_is_told(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = await gateway.do(preset="quick")
    catalogue = gateway.service.servicers[0][1]._resolver._catalogue
    presets = dict(catalogue.presets)
    monkeypatch.setitem(catalogue.presets, "quick", {**presets["quick"], "max_tokens": 900})
    (told,) = (await replay(gateway, run.run_id, dry_run=True)).differences
    assert told == "max_tokens would be 900 now; the replay keeps 800"
    monkeypatch.delitem(catalogue.presets, "quick")
    (told,) = (await replay(gateway, run.run_id, dry_run=True)).differences
    assert "there is no preset 'quick'" in told
    assert (await replay(gateway, run.run_id)).run.spec == run.spec


async def test_a_corpus_that_is_gone_refuses_the_replay_by_the_run(gateway: Any, leaves: Any) -> None:
    run = await gateway.do(corpus="handbook")
    leaves.fail("Search", NotFound("there is no version version-1 of the corpus 'handbook'", field="version"))
    error = await refusal(replay(gateway, run.run_id))
    assert (error.code, error.field) == ("NOT_FOUND", "run_id")


async def test_prices_that_cannot_be_compared_stop_no_replay(gateway: Any, leaves: Any) -> None:
    run = await gateway.do()
    leaves.fail("ProjectDebate", Unavailable("the leaf is away"), times=1)
    (told,) = (await replay(gateway, run.run_id)).differences
    assert told.startswith("prices and rules cannot be compared")


async def test_a_spec_that_is_newer_than_this_gateway_is_left_to_newer_ones(gateway: Any) -> None:
    run = await kept(gateway, run_pb2.RunSpec(task="Why?", spec_version=SPEC_VERSION + 1))
    error = await refusal(replay(gateway, run.run_id))
    assert (error.code, error.field) == ("FAILED_PRECONDITION", "run_id")


async def test_a_run_of_before_replays_can_be_repeated_but_takes_no_other_preset(gateway: Any) -> None:
    spec = (await gateway.do()).spec
    spec.ClearField("asked")
    old = await kept(gateway, spec)
    (told,) = (await replay(gateway, old.run_id)).differences
    assert "too old to compare" in told
    error = await refusal(replay(gateway, old.run_id, preset="quick"))
    assert (error.code, error.field) == ("FAILED_PRECONDITION", "preset")


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ('It\'s "quoted" $HOME `id`', 'It\'s "quoted" $HOME `id`'),
        ("@file", "-"),
        ("-", "-"),
        ("x" * 200_000, "-"),
        ("-n", "-n"),
    ],
)
def test_a_command_brings_the_task_through_any_shell(task: str, words: str) -> None:
    command, left_out = command_of(run_pb2.RunSpec(task=task))
    assert shlex.split(command)[3] == words
    assert bool(left_out) == ((words == "-" and task != words) or task == "-")


async def test_a_command_with_control_characters_is_one_harmless_line_that_bash_reads_back() -> None:
    task = "two\nlines\ttab \x1b[31m red \u202e ünïcode 🙂 'quoted' back\\slash"
    command, _ = command_of(run_pb2.RunSpec(task=task))
    assert command.isprintable()
    quoted = command.partition("--task ")[2].partition(" --max_tokens")[0]
    bash = await asyncio.create_subprocess_exec(
        "bash", "-c", f"printf %s {quoted}", stdout=asyncio.subprocess.PIPE, env={"LC_ALL": "C.UTF-8"}
    )
    assert (await bash.communicate())[0].decode() == task


def test_what_no_flag_says_is_told() -> None:
    spec = run_pb2.RunSpec(
        task="Why?",
        corpus="handbook",
        corpus_version="v1",
        tags={"a": "b"},
        priority=3,
        redaction_options=redaction_pb2.RedactionOptions(),
        jurors=[judge_pb2.Juror(juror_id="j1", model="offline/rubric", fallback_models=["a/b"])],
    )
    spec.debaters.add(debater_id="d1", model="offline/lead", role="the sceptic")
    _, left_out = command_of(spec)
    told = "\n".join(left_out)
    for words in ("the corpus handbook in its version v1", "roles", "single jurors", "redacted", "tags", "priority, 3"):
        assert words in told
    assert common_pb2.STAGE_DEBATE < common_pb2.STAGE_JUDGE  # as the artifact lists the calls
