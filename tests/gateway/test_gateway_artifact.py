"""The artifact of every kind of run fits schemas/artifact.json, and hardly anything else does."""

from __future__ import annotations

import copy
import json
import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from djp.catalogue_files import validate_against
from djp.v1 import common_pb2, debate_pb2, judge_pb2, redaction_pb2, run_pb2
from djp_gateway.artifact import build_artifact
from djp_gateway.hiding import Sent
from djp_gateway.policy import Publication
from djp_gateway.record import RunRecord, build_result

INT64 = (-(2**63), 2**63 - 1)


def a_record(status: str, *, corpus: bool, redaction: bool, budget: int = 0, seed: int = 0) -> RunRecord:
    """A judged run of two drafts."""
    spec = run_pb2.RunSpec(
        task="Why? Ask x@y.org", workflow="adhoc", policy="any", max_tokens=800, temperature=0.2, seed=seed, rounds=1
    )
    spec.debaters.add(debater_id="d1", model="offline/lead", role="the lead")
    spec.redaction = run_pb2.REDACTION_MODE_ON if redaction else run_pb2.REDACTION_MODE_OFF
    if budget:
        spec.budget_nano_usd, spec.budget_tokens = budget, budget
    if corpus:
        spec.corpus, spec.corpus_version, spec.grounded_required = "docs", "v1", 2
    run = run_pb2.Run(run_id=str(uuid.uuid4()), tenant="default", spec=spec, reservation_id="r1", offline=True)
    run.started_at.GetCurrentTime()
    draft = debate_pb2.Draft(
        draft_id="d1-r1",
        debater_id="d1",
        model="offline/lead",
        round=1,
        text="See [Budgets], x@y.org",
        tokens=9,
        confidence=0.5,
        safety_flags=["x@y.org"],
        evidence=["p1", "the page of x@y.org"],
    )
    found = common_pb2.Citation(
        text="Budgets", start=4, end=13, status=common_pb2.CITATION_STATUS_RESOLVED, document_id="d", title="Budgets"
    )
    ballots = [
        judge_pb2.Ballot(
            juror_id="j1",
            model="offline/rubric",
            order=["d1-r1"],
            scores=[
                judge_pb2.Score(draft_id="d1-r1", task_fit=4, support=4, clarity=2, total=10, reason="good, x@y.org")
            ],
        ),
        judge_pb2.Ballot(
            juror_id="j2", model="offline/rubric", order=["d1-r1"], abstained=True, abstain_reason="no x@y.org"
        ),
    ]
    verdict = judge_pb2.Verdict(agreement=1, valid_ballots=1, abstentions=1)
    if status == "none":
        verdict.disqualified.add(draft_id="d1-r1", rule="empty", reason="nothing for x@y.org")
    else:
        verdict.winner_draft_id = "d1-r1"
        verdict.ranking.add(draft_id="d1-r1", task_fit=4, support=4, clarity=2, mean=10)
    publication = {
        "published": Publication("published", "d1-r1", ""),
        "advisory": Publication("advisory", "d1-r1", "policy does not let offline/lead publish"),
        "none": Publication("none", "", "every draft is disqualified"),
    }[status]
    call = common_pb2.ModelCall(
        call_id=str(uuid.uuid4()),
        stage=common_pb2.STAGE_DEBATE,
        model="offline/lead",
        cost_nano_usd=INT64[1],
        bound_nano_usd=INT64[1],
        attempt=1,
        actor_id="d1",
        usage_unknown=True,
        error="503: x@y.org is busy",
    )
    call.started_at.GetCurrentTime()
    failed = debate_pb2.DraftFailed(
        debater_id="d2",
        round=1,
        model="openai/gpt-4o",
        reason=common_pb2.ERROR_REASON_PROVIDER_FAILED,
        message="refused x@y.org",
        partial_text="dear x@y.org",
    )
    passage = common_pb2.Passage(passage_id="p1", document_id="d", title="Budgets", path="budgets.md", page=3)
    record = RunRecord(
        run,
        Sent(spec, [passage] if corpus else []),
        debate_pb2.DebateFinished(drafts=[draft], rounds=1),
        [failed],
        {"d1-r1": [found]} if corpus else {},
        ballots,
        verdict,
        publication,
        [call],
    )
    if redaction:
        record.cleaned = {
            text: redaction_pb2.RedactResponse(
                text=text.replace("x@y.org", "[E]"), counts={"EMAIL": 1} if "x@y.org" in text else {}
            )
            for text in record.texts()
        }
    run.result.CopyFrom(build_result(record))
    return record


def as_stored(record: RunRecord) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(build_artifact(record), allow_nan=False))
    return document


@pytest.mark.parametrize("status", ["published", "advisory", "none"])
@pytest.mark.parametrize("corpus", [True, False])
@pytest.mark.parametrize("redaction", [True, False])
def test_every_artifact_fits_the_schema(status: str, corpus: bool, redaction: bool) -> None:
    artifact = as_stored(a_record(status, corpus=corpus, redaction=redaction))
    assert validate_against("artifact", artifact) == []
    assert list(artifact) == [
        "schema_version", "run_metadata", "debate", "judge", "publish", "grounding", "redaction", "provenance"
    ]  # fmt: skip
    assert ("x@y.org" in json.dumps(artifact)) == (not redaction)
    assert artifact["redaction"]["enabled"] == redaction


@pytest.mark.parametrize("seed", [*INT64, 0])
@pytest.mark.parametrize("budget", [1, INT64[1]])
def test_whole_numbers_stay_exact(seed: int, budget: int) -> None:
    artifact = as_stored(a_record("published", corpus=True, redaction=True, budget=budget, seed=seed))
    assert validate_against("artifact", artifact) == []
    assert artifact["run_metadata"]["seed"] == seed
    assert artifact["run_metadata"]["budget_nano_usd"] == budget
    assert artifact["provenance"]["calls"][0]["cost_nano_usd"] == INT64[1]


def test_a_text_that_was_never_redacted_cannot_leave() -> None:
    record = a_record("published", corpus=True, redaction=True)
    record.cleaned = {text: answer for text, answer in (record.cleaned or {}).items() if "See" not in text}
    with pytest.raises(KeyError):
        build_artifact(record)
    with pytest.raises(KeyError):
        build_result(record)


WHOLE = as_stored(a_record("advisory", corpus=True, redaction=True, budget=5, seed=-1))


def _places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(place for key, child in children for place in _places(child, (*path, key)))]


PLACES = [place for place in _places(WHOLE) if place[:2] != ("redaction", "counts") or len(place) == 2]


def _at(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        document = document[key]
    return document


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.sampled_from(PLACES), how=st.sampled_from(["retype", "remove", "add"]))
def test_a_changed_artifact_does_not_fit(place: tuple[Any, ...], how: str) -> None:
    document = copy.deepcopy(WHOLE)
    node = _at(document, place)
    if how == "add" and isinstance(node, dict) and place != ("redaction", "counts"):
        node["surprise"] = 1
    elif how == "remove" and place and isinstance(place[-1], str):
        del _at(document, place[:-1])[place[-1]]
    elif place:
        _at(document, place[:-1])[place[-1]] = {"another": "type"} if not isinstance(node, dict) else ["another type"]
    else:
        document = [document]
    assert validate_against("artifact", document)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("schema_version",), "1.0"),
        (("run_metadata", "run_id"), "latest"),
        (("run_metadata", "tenant"), "Acme Inc."),
        (("run_metadata", "seed"), 2**63),
        (("run_metadata", "seed"), 0.5),
        (("run_metadata", "temperature"), 2.1),
        (("run_metadata", "started_at"), "yesterday"),
        (("run_metadata", "finished_at"), "2026-01-01 00:00:00"),
        (("run_metadata", "budget_nano_usd"), 0),
        (("debate", "drafts"), []),
        (("debate", "drafts", 0, "model"), "no-slash"),
        (("judge", "ballots", 0, "scores", 0, "task_fit"), 4.5),
        (("judge", "ballots", 0, "abstained"), True),
        (("judge", "verdict", "agreement"), 1.5),
        (("publish", "status"), "maybe"),
        (("publish", "status"), "none"),
        (("publish", "reason"), ""),
        (("publish", "draft_id"), None),
        (("publish", "text"), ""),
        (("grounding", "enabled"), False),
        (("grounding", "version"), ""),
        (("grounding", "citations", 0, "document_id"), None),
        (("redaction", "enabled"), False),
        (("redaction", "redacted"), False),
        (("redaction", "counts"), {}),
        (("redaction", "counts"), {"EMAIL": 0}),
        (("redaction", "redaction_types"), ["EMAIL", "EMAIL"]),
        (("provenance", "calls", 0, "cost_nano_usd"), -1),
        (("provenance", "calls", 0, "stage"), "store"),
        (("provenance", "model_usage", 0, "calls"), 0),
        (("provenance", "spec_sha256"), "0"),
    ],
)
def test_a_wrong_value_does_not_fit(place: tuple[Any, ...], value: Any) -> None:
    document = copy.deepcopy(WHOLE)
    _at(document, place[:-1])[place[-1]] = value
    problems = validate_against("artifact", document)
    assert problems
    assert all(len(problem) < 500 for problem in problems)


def test_an_artifact_of_the_version_before_still_fits() -> None:
    document = build_artifact(a_record("published", corpus=True, redaction=True))
    assert document["schema_version"] == "2.1"
    older = copy.deepcopy(document)
    for field in ("rounds", "stopped_early", "agreement", "failures"):
        del older["debate"][field]
    for draft in older["debate"]["drafts"]:
        del draft["confidence"], draft["safety_flags"], draft["evidence"]
    for ballot in older["judge"]["ballots"]:
        del ballot["recused_draft_ids"]
    del older["judge"]["verdict"]["effective_jurors"], older["judge"]["verdict"]["fast_path"]
    for call in older["provenance"]["calls"]:
        del call["error"]
    assert validate_against("artifact", older)  # it says that it is of the present version
    older["schema_version"] = "2.0"
    assert validate_against("artifact", older) == []
    older["schema_version"] = "1.9"
    assert validate_against("artifact", older)
