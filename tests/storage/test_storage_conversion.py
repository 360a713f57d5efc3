"""Run artifacts of schema 1.1 become artifacts of today's schema; what is none is refused with the reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from djp.catalogue_files import validate_against
from djp.mesh.errors import InvalidInput
from djp_storage.conversion import convert

from .older_run import ANSWER, older_file, older_run


def converted(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(convert(older_file(**changes), tenant="acme", workflow="older").content)
    assert validate_against("artifact", document) == []
    return document


def refused(content: bytes) -> str:
    with pytest.raises(InvalidInput) as caught:
        convert(content, tenant="acme", workflow="older")
    return caught.value.message


def test_every_fact_that_has_a_place_is_kept() -> None:
    got = converted()
    told = got["run_metadata"]
    assert (told["tenant"], told["workflow"], told["task"]) == ("acme", "older", "How long do refunds take?")
    assert (told["preset"], told["policy"], told["trace_name"]) == ("research", "openai_only", "djp-run")
    assert (told["seed"], told["temperature"], told["max_tokens"]) == (7, 0.3, 1000)
    assert told["finished_at"] == "2025-10-02T12:34:56.789012Z"
    assert told["started_at"] == "2025-10-02T12:34:46.289012Z"
    assert [one["text"] for one in got["debate"]["drafts"]] == [ANSWER, "Ten days."]
    assert [one["resolved_citations"] for one in got["debate"]["drafts"]] == [1, 0]
    assert [one["confidence"] for one in got["debate"]["drafts"]] == [0.8, 0.5]
    verdict = got["judge"]["verdict"]
    assert verdict["winner_draft_id"] == "d1-r1"
    assert [(one["draft_id"], one["mean"], one["clarity"]) for one in verdict["ranking"]] == [
        ("d1-r1", 8.5, 2.0),
        ("d2-r1", 5.0, 1.0),
    ]
    assert got["judge"]["ballots"][0]["scores"][1]["reason"] == "no citation"
    assert got["publish"] == {
        "status": "published",
        "text": ANSWER,
        "draft_id": "d1-r1",
        "model": "openai/gpt-4o",
        "reason": "",
    }
    cited = got["grounding"]["citations"][0]
    assert ANSWER[cited["start"] : cited["end"]] == "[Handbook]"
    assert (cited["document_id"], cited["path"]) == ("d7", "handbook/handbook.md")
    assert got["redaction"]["counts"] == {"email": 2}
    usage = got["provenance"]["model_usage"]
    assert usage[0]["cost_nano_usd"] == got["provenance"]["total_cost_nano_usd"] == 2_100_000
    assert (got["provenance"]["total_tokens"], got["provenance"]["djp_version"]) == (
        230,
        "older system, commit 3eef82c",
    )


def test_what_is_guessed_is_said() -> None:
    warnings = " ".join(converted(run_metadata__parameters__max_tokens=3)["run_metadata"]["warnings"])
    for said in ("schema 1.1", "no zone", "max_tokens was 3", "estimated"):
        assert said in warnings
    zoned = converted(run_metadata__timestamp="2025-10-02T12:00:00+02:00")["run_metadata"]
    assert zoned["finished_at"].startswith("2025-10-02T10:00:00")
    assert "zone" not in " ".join(zoned["warnings"])


def test_the_same_file_is_the_same_run() -> None:
    one = convert(older_file(), tenant="acme", workflow="older")
    assert one == convert(older_file(), tenant="acme", workflow="older")
    assert one.run_id != convert(older_file(), tenant="other", workflow="older").run_id
    assert one.run_id != convert(older_file() + b"\n", tenant="acme", workflow="older").run_id


DRAFT = older_run()["debate"]["drafts"][0]

VARIANTS: dict[str, dict[str, Any]] = {
    "advisory without a reason": {"publish__status": "advisory_only"},
    "advisory": {"publish__status": "advisory_only", "publish__reason": "not allowed"},
    "nothing published": {"publish__status": "none", "publish__text": "", "publish__provider": ""},
    "published without a text": {"publish__text": ""},
    "no winner": {"judge__winner_provider": "", "judge__ranked_drafts": []},
    "ranked, never written": {"judge__ranked_drafts": [{**older_run()["judge"]["ranked_drafts"][0], "provider": "x"}]},
    "no grounding": {"grounding": {"enabled": False, "corpus_loaded": False, "citations": [{"title": "left over"}]}},
    "citations failed": {"grounding__citations": [{}], "grounding__grounded_fail_reason": "Insufficient citations"},
    "a citation not in the text": {"grounding__citations": [{"title": "Elsewhere"}]},
    "redacted, not counted": {"publish__redaction_events": []},
    "redaction off": {
        "run_metadata__parameters__redact": False,
        "publish__redacted": False,
        "publish__redaction_events": [],
    },
    "a provider without a model": {
        "publish__provider": "local llm",
        "debate__drafts": [{**DRAFT, "provider": "local llm"}],
    },
    "two of one model": {"debate__drafts": [DRAFT] * 2},
    "no duration, no seed, no usage": {
        "provenance__duration_seconds": ...,
        "run_metadata__parameters__seed": None,
        "provenance__model_usage": {},
        "provenance__estimated_costs": {},
    },
    "a seed of no database": {"run_metadata__parameters__seed": 10**30},
    "an empty corpus path": {"run_metadata__parameters__grounded_corpus": ""},
    "fields that we do not know": {"extra": {"deep": [1, 2]}, "judge__more": None},
    "any Unicode": {"run_metadata__task": "Ж\u202e😀\0"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_run_fits_the_schema(variant: str) -> None:
    converted(**VARIANTS[variant])


def test_ranked_drafts_find_the_draft_they_are() -> None:
    first, second = older_run()["debate"]["drafts"]
    twins = [{**first, "answer": "one"}, {**first, "answer": "two"}, second]
    ranked = [{**twins[1], "score": 9, "reasons": ""}, {**twins[0], "score": 2, "reasons": ""}]
    got = converted(debate__drafts=twins, judge__ranked_drafts=ranked, publish__text="two")
    assert [one["draft_id"] for one in got["judge"]["verdict"]["ranking"]] == ["d2-r1", "d1-r1"]
    assert got["judge"]["verdict"]["winner_draft_id"] == got["publish"]["draft_id"] == "d2-r1"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no schema_version"),
        (b"{}", "no schema_version"),
        (b'{"schema_version": "2.1"}', "'2.1'"),
        (b'{"schema_version": "1.1"}', "run_metadata: Field required"),
        (b"9" * 5000, "no JSON"),
        (older_file(debate__drafts=[]), "debate.drafts"),
        (older_file(debate__drafts=[DRAFT] * 17), "debate.drafts"),
        (older_file(publish__provider="nobody/none"), "publish.provider"),
        (older_file(run_metadata__timestamp="yesterday"), "run_metadata.timestamp"),
        (older_file(run_metadata__timestamp="0001-01-01T00:00:00"), "run_metadata.timestamp"),
        (older_file(provenance__estimated_costs={"m/n": -1}), "estimated_costs"),
        (older_file().replace(b"0.8", b"NaN"), "confidence"),
        (older_file().replace(b"Ten days", b"\\ud800"), "half a character"),
        (older_file(provenance__model_usage={"m": {"calls": 10**30, "tokens_in": 0, "tokens_out": 10**400}}), "calls"),
    ],
)
def test_what_cannot_be_converted_says_why(content: bytes, said: str) -> None:
    assert said in refused(content)
