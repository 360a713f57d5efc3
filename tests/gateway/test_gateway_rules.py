"""What a run becomes before it starts, and what a verdict becomes after it: specs, presets, policies, settings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from djp.mesh.errors import FailedPrecondition, InvalidInput
from djp.v1 import debate_pb2, run_pb2
from djp_gateway.catalogue import Catalogue, load_catalogue
from djp_gateway.policy import Ranked, choose
from djp_gateway.settings import GatewaySettings
from djp_gateway.spec import FAST_PATH_MARGIN, resolve

if TYPE_CHECKING:
    from pathlib import Path

CATALOGUE = load_catalogue()
MODELS = ["a/1", "a/2", "a/3", "a/4", "a/5", "a/6"]
ALL = {"name": "any", "allowed_models": ["*"]}
OPENAI = {"name": "openai_only", "allowed_models": ["openai/*"]}
PREFERRED = {"name": "openai_preferred", "allowed_models": ["*"], "preferred_models": ["openai/*"]}


def spec_of(**fields: Any) -> run_pb2.RunSpec:
    request = run_pb2.RunRequest(task="Why?", **fields)
    before = request.SerializeToString(deterministic=True)
    spec = resolve(request, CATALOGUE, default_policy="any", default_debaters=MODELS, default_jurors=["j/1", "j/2"])
    assert request.SerializeToString(deterministic=True) == before  # its hash tells whether a request came before
    return spec


@pytest.mark.parametrize(
    ("preset", "max_tokens", "temperature", "debaters", "timeout", "citations", "seed"),
    [
        ("quick", 800, 0.2, 2, 60, 0, 0),
        ("thorough", 1500, 0.3, 4, 300, 2, 0),
        ("research", 1200, 0.4, 5, 300, 3, 0),
        ("deterministic", 1000, 0.0, 3, 300, 0, 12345),
        ("", 1200, 0.3, 3, 300, 0, 0),
    ],
)
def test_presets_are_those_of_the_guide(
    preset: str, max_tokens: int, temperature: float, debaters: int, timeout: int, citations: int, seed: int
) -> None:
    spec = spec_of(preset=preset, corpus="docs")
    assert (spec.max_tokens, spec.temperature, len(spec.debaters)) == (max_tokens, temperature, debaters)
    assert (spec.timeout.seconds, spec.grounded_required, spec.seed) == (timeout, citations, seed)
    assert all((d.temperature, d.seed) == (temperature, seed) for d in spec.debaters)
    assert spec_of(preset=preset).grounded_required == 0


def test_quick_skips_jurors_once_the_lead_is_clear_and_rounds_once_the_drafts_agree() -> None:
    assert spec_of(preset="quick").agreement_threshold == 0.95
    assert spec_of(preset="quick").fast_path_margin == FAST_PATH_MARGIN == 3.0
    assert not spec_of(preset="thorough").HasField("fast_path_margin")
    assert not spec_of().HasField("fast_path_margin")


@pytest.mark.parametrize(
    ("preset", "rounds"), [("", 1), ("quick", 2), ("thorough", 2), ("research", 2), ("deterministic", 1)]
)
def test_every_preset_has_its_rounds_and_shows_each_juror_two_orders(preset: str, rounds: int) -> None:
    spec = spec_of(preset=preset)
    assert (spec.rounds, spec.orders) == (rounds, 2)
    assert spec.HasField("agreement_threshold") == (preset == "quick")


def test_rounds_and_the_threshold_of_agreement_come_from_the_preset() -> None:
    presets = {"p": {**CATALOGUE.presets["quick"], "rounds": 3, "agreement_threshold": 0.0, "orders": 5}}
    catalogue = Catalogue(presets=presets, policies=CATALOGUE.policies)

    def spec(**fields: Any) -> run_pb2.RunSpec:
        request = run_pb2.RunRequest(task="Why?", preset="p", **fields)
        return resolve(request, catalogue, default_policy="any", default_debaters=MODELS, default_jurors=["j/1"])

    assert (spec().rounds, spec().agreement_threshold, spec().orders) == (3, 0.0, 5)
    assert spec().HasField("agreement_threshold")  # zero is a threshold: whatever the drafts say, they agree
    assert spec(rounds=1).rounds == 1
    assert (spec_of().rounds, spec_of().HasField("agreement_threshold")) == (1, False)


@pytest.mark.parametrize(
    ("asked", "tokens", "passages"), [({}, 2560, 8), (320, 320, 8), (2560, 2560, 32), (30_000, 30_000, 100)]
)
def test_debaters_read_as_many_tokens_of_the_corpus_as_the_run_asks_for(asked: Any, tokens: int, passages: int) -> None:
    spec = spec_of(corpus="docs", **({"passage_tokens": asked} if asked else {}))
    assert (spec.passage_tokens, spec.top_k) == (tokens, passages)
    with pytest.raises(InvalidInput, match="passage_tokens: bounds what is read of a corpus"):
        spec_of(passage_tokens=1000)


def test_more_debaters_than_the_preset_has_may_be_named() -> None:
    voices = [debate_pb2.Debater(debater_id=f"d{n}", model="a/b") for n in range(1, 8)]
    assert len(spec_of(preset="quick", debaters=voices).debaters) == 7


def test_explicit_fields_win_over_the_preset_even_at_zero() -> None:
    spec = spec_of(
        preset="research", corpus="docs", max_tokens=1000, temperature=0.0, seed=0, grounded_required=0, policy="any"
    )
    assert (spec.max_tokens, spec.temperature, spec.seed, spec.grounded_required) == (1000, 0.0, 0, 0)
    assert spec_of(preset="deterministic", seed=0).seed == 0
    own = debate_pb2.Debater(debater_id="x", model="b/1", temperature=1.0)
    spec = spec_of(preset="deterministic", debaters=[own])
    assert [(d.debater_id, d.temperature, d.seed) for d in spec.debaters] == [("x", 1.0, 12345)]


def test_a_spec_is_whole() -> None:
    spec = spec_of(budget_nano_usd=7, tags={"k": "v"}, trace_name="mine")
    assert spec.workflow == "adhoc"
    assert spec.policy == "any"
    assert list(spec.policy_document["allowed_models"]) == ["*"]
    assert (spec.budget_nano_usd, spec.HasField("budget_tokens")) == (7, False)
    assert (dict(spec.tags), spec.trace_name) == ({"k": "v"}, "mine")
    assert [juror.juror_id for juror in spec.jurors] == ["j1", "j2"]
    assert spec.redaction == run_pb2.REDACTION_MODE_ON


@pytest.mark.parametrize(
    ("policy", "ranking", "contested", "expected"),
    [
        (ALL, [("a", "x/1", 9)], False, ("published", "a", "")),
        (ALL, [("a", "x/1", 9)], True, ("advisory", "a", "the verdict is contested")),
        ({**ALL, "publish_contested": True}, [("a", "x/1", 9)], True, ("published", "a", "")),
        (OPENAI, [("a", "x/1", 9)], False, ("advisory", "a", "policy openai_only does not let x/1 publish")),
        (
            OPENAI,
            [("a", "x/1", 9), ("b", "openai/y", 8)],
            False,
            ("published", "b", "the best-ranked draft that may; policy openai_only does not let x/1 publish"),
        ),
        (
            OPENAI,
            [("a", "x/1", 9), ("b", "openai/y", 9)],
            False,
            ("published", "b", "the best-ranked draft that may; policy openai_only does not let x/1 publish"),
        ),
        (PREFERRED, [("a", "x/1", 9), ("b", "openai/y", 9)], False, ("published", "b", "")),
        (PREFERRED, [("a", "x/1", 9), ("b", "openai/y", 8)], False, ("published", "a", "")),
        (OPENAI, [("a", "openai.x", 9)], False, ("advisory", "a", "policy openai_only does not let openai.x publish")),
        (ALL, [], False, ("none", "", "nobody voted")),
        (
            ALL,
            [("a", "x/1", 9, ["no_answer"]), ("b", "x/2", 8, ["no_answer"])],
            False,
            ("advisory", "a", "the draft itself says that it does not answer the task"),
        ),
        (ALL, [("a", "x/1", 9, ["no_answer"]), ("b", "x/2", 8, ["rude"])], False, ("published", "b", "")),
    ],
)  # fmt: skip
def test_the_policy_decides(policy: Any, ranking: Any, contested: bool, expected: tuple[str, str, str]) -> None:
    found = choose(policy, [Ranked(*entry) for entry in ranking], contested=contested, no_winner_reason="nobody voted")
    assert (found.status, found.draft_id, found.reason) == expected


def test_without_a_reason_there_is_one() -> None:
    assert choose(ALL, [], contested=False, no_winner_reason="").reason


def _folder(root: Path, **files: str) -> Path:
    (root / "presets").mkdir()
    (root / "policies").mkdir()
    for name, content in files.items():
        (root / "policies" / f"{name}.json").write_text(content)
    return root


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a valid policy"),
        ('{"name": "mine", "description": "d", "allowed_models": []}', "allowed_models"),
        ('{"name": "mine", "description": "d", "allowed_models": ["*"], "alowed": 1}', "alowed"),
        ('{"name": "other", "description": "d", "allowed_models": ["*"]}', "as the file is called"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str, problem: str) -> None:
    with pytest.raises(FailedPrecondition, match=problem) as caught:
        load_catalogue(_folder(tmp_path, mine=content))
    assert "mine.json" in str(caught.value)


def test_a_name_that_is_not_there_suggests_the_nearest() -> None:
    for wrong, right in (("Quick", "quick"), ("thoroug", "thorough"), ("determinstic", "deterministic")):
        with pytest.raises(InvalidInput, match=f"did you mean '{right}'"):
            CATALOGUE.preset(wrong)
    with pytest.raises(InvalidInput, match="there are: deterministic, quick, research, thorough"):
        CATALOGUE.preset("zzz")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DJP_DEBATERS", "no-slash"),
        ("DJP_DEBATERS", "a/b,,c/d"),
        ("DJP_JURORS", ","),
        ("PER_TENANT_MAX_CONCURRENCY", "0"),
        ("DJP_HEARTBEAT_S", "0"),
        ("DJP_EXECUTOR_ID", "x" * 256),
    ],
)
def test_a_bad_setting_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        GatewaySettings()


def test_an_empty_setting_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DJP_DEBATERS", "DJP_JURORS", "DJP_POLICY", "PER_TENANT_MAX_CONCURRENCY"):
        monkeypatch.setenv(name, "")
    settings = GatewaySettings()
    assert settings.debaters.startswith("offline/")
    assert (settings.policy, settings.per_tenant_max_concurrency) == ("any", 5)


async def test_a_default_policy_that_is_not_there_stops_the_start(mesh: Any) -> None:
    with pytest.raises(InvalidInput, match="did you mean 'openai_only'"):
        await mesh.gateway(policy="openai-only")


def test_documents_are_plain_json() -> None:
    assert json.loads(json.dumps(CATALOGUE.presets)) == CATALOGUE.presets
