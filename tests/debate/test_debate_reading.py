"""A model's answer read as a draft: in whatever form it comes, and never an empty one."""

from __future__ import annotations

import contextlib
import json

import pytest

from djp.llm.tokens import cut_draft
from djp_debate.reading import TRUNCATED, UnreadableDraftError, answer_so_far, read_draft

WHOLE = {"answer": "Money is held **first** [Budgets].", "evidence": ["Budgets"], "confidence": 0.8, "safety_flags": []}
JSON = json.dumps(WHOLE)


@pytest.mark.parametrize(
    "text",
    [
        JSON,
        f"```json\n{JSON}\n```",
        f"```\n{JSON}\n```",
        f"Here is my draft:\n\n{JSON}\n\nI hope it helps.",
        f"<think>It {{may}} be so.</think>\n{JSON}",
        JSON.replace("]}", "],}").replace("[]", "[ ]"),
        f'{{"note": "first"}} {JSON}',
        f"\n\n  {JSON}",
    ],
)
def test_a_draft_is_found_in_any_form(text: str) -> None:
    draft = read_draft(text, "end", 200)
    assert draft.text == WHOLE["answer"]
    assert (draft.evidence, draft.confidence, draft.safety_flags) == (("Budgets",), 0.8, ())


def test_an_answer_without_json_is_the_draft() -> None:
    draft = read_draft("## Budgets\n\nMoney is held {first}.", "end", 200)
    assert draft.text == "## Budgets\n\nMoney is held {first}."
    assert draft.confidence is None


@pytest.mark.parametrize(
    ("text", "stop"),
    [
        ("", "end"),
        (" \n\t ", "end"),
        ("...", "end"),
        ('{"answer": ""}', "end"),
        ('{"answer": " \\n"}', "end"),
        ('{"answer": null}', "end"),
        ('{"reply": "Money is held."}', "end"),
        ('{"answer": ["Money"]}', "end"),
        ("{}", "end"),
        ("<think>It may be so, and then again it may not", "length"),
        (JSON, "refusal"),
        ("I cannot help with that.", "refusal"),
    ],
)
def test_what_holds_no_answer_is_no_draft(text: str, stop: str) -> None:
    with pytest.raises(UnreadableDraftError) as error:
        read_draft(text, stop, 200)  # type: ignore[arg-type]
    assert "Money" not in str(error.value)


@pytest.mark.parametrize("text", [JSON[:30], f"```json\n{JSON[:30]}", "Money is held fir"])
def test_a_draft_that_was_cut_off_is_kept_as_far_as_it_goes(text: str) -> None:
    draft = read_draft(text, "length", 200)
    assert draft.text.startswith("Money is held")
    assert TRUNCATED in draft.safety_flags


@pytest.mark.parametrize("text", ["word " * 1000, "\u0939\u093f\u0928\u094d\u0926\u0940 " * 1000, "\ufdfa" * 1000])
def test_a_draft_is_no_longer_than_others_were_told_it_could_be(text: str) -> None:
    draft = read_draft(json.dumps({"answer": text}), "end", 50)
    assert draft.text
    assert cut_draft(draft.text, 50) == draft.text
    assert draft.safety_flags == (TRUNCATED,)


def test_flags_and_evidence_are_cleaned_and_keep_to_the_contract() -> None:
    answer = {
        "answer": "half \ud800 a character",
        "evidence": ["e" * 5000, "", 7, None, "\udfff", *["more"] * 200],
        "confidence": "0.5",
        "safety_flags": ["No Answer", "no-answer", "MEDICAL", *[f"flag {number}" for number in range(90)]],
    }
    draft = read_draft(json.dumps(answer), "end", 200)
    draft.text.encode()
    assert "".join(draft.evidence).encode()
    assert len(draft.evidence) <= 100
    assert max(map(len, draft.evidence)) <= 1000
    assert draft.safety_flags[:2] == ("no_answer", "medical")
    assert len(draft.safety_flags) <= 50
    assert draft.confidence == 0.5


@pytest.mark.parametrize("confidence", [-1, 1.01, 85, True, "sure", "nan", [], None, 1e400])
def test_a_confidence_that_is_none_is_left_out(confidence: object) -> None:
    assert read_draft(json.dumps(WHOLE | {"confidence": confidence}), "end", 200).confidence is None


@pytest.mark.parametrize(
    "text",
    [
        "{" * 1_000_000,
        '{"a":' * 100_000,
        "[" * 1_000_000,
        '{"answer": "' + "x" * 1_000_000,
        ", ," * 300_000,
        '{"safety_flags": [' + '"f",' * 300_000 + '], "answer": "x"}',
        '{"answer": "x", "evidence": [' + '"e",' * 300_000,
        "<think>" * 100_000,
    ],
    ids=range(8),
)
def test_hostile_answers_end(text: str) -> None:
    with contextlib.suppress(UnreadableDraftError):
        assert read_draft(text, "end", 100).text


def test_the_text_is_shown_while_it_comes() -> None:
    seen = [answer_so_far(JSON[:end]) for end in range(len(JSON) + 1)]
    assert all(str(WHOLE["answer"]).startswith(text) for text in seen)
    assert seen[-1] == WHOLE["answer"]
    fenced = f"```json\n{JSON}"
    assert all(str(WHOLE["answer"]).startswith(answer_so_far(fenced[:end])) for end in range(len(fenced) + 1))
    assert answer_so_far("Money is") == "Money is"
    assert answer_so_far('{"note": {"answer": "no"') == ""
    assert answer_so_far("<think>Money is") == ""
