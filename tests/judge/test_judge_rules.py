"""The rules that come before the jury."""

from __future__ import annotations

import pytest

from djp_judge.model import Candidate, Rules
from djp_judge.rules import apply_rules


@pytest.mark.parametrize("text", ["", " \n\t ", "\u200b\u2060", "...", "**", "\u3000"])
def test_a_text_without_letter_or_digit_is_empty(text: str) -> None:
    left, out = apply_rules([Candidate("d1", text)], Rules())
    assert not left
    assert [(one.draft_id, one.rule) for one in out] == [("d1", "empty_text")]


@pytest.mark.parametrize("text", ["7", "\u6f6e\u6c50", "\u00e9", "ok."])
def test_any_letter_or_digit_is_a_text(text: str) -> None:
    assert apply_rules([Candidate("d1", text)], Rules()) == ([Candidate("d1", text)], [])


def test_citations_are_counted_by_grounding_and_not_by_brackets() -> None:
    drafts = [Candidate("d1", "[A] [B] [C]", resolved_citations=1), Candidate("d2", "none", resolved_citations=2)]
    left, out = apply_rules(drafts, Rules(required_citations=2))
    assert [one.draft_id for one in left] == ["d2"]
    assert out[0].rule == "too_few_citations"
    assert out[0].reason == "1 resolved citation, 2 required"


def test_a_blocking_flag_stops_whatever_its_case_and_others_do_not() -> None:
    drafts = [Candidate("d1", "x", safety_flags=(" Self-Harm", "spam")), Candidate("d2", "x", safety_flags=("spam",))]
    left, out = apply_rules(drafts, Rules(blocking_safety_flags=("self-harm", "violence")))
    assert [one.draft_id for one in left] == ["d2"]
    assert out[0].rule == "blocked_safety_flag"
    assert out[0].reason == "blocked by its safety flag self-harm"


@pytest.mark.parametrize(
    ("words", "rule", "reason"),
    [
        (4, "too_short", "4 words, at least 5 required"),
        (5, "", ""),
        (7, "", ""),
        (8, "too_long", "8 words, at most 7 allowed"),
    ],
)
def test_words_are_kept_to(words: int, rule: str, reason: str) -> None:
    _, out = apply_rules([Candidate("d1", "word " * words)], Rules(min_words=5, max_words=7))
    assert [(one.rule, one.reason) for one in out] == ([(rule, reason)] if rule else [])


def test_without_limits_any_length_will_do() -> None:
    assert apply_rules([Candidate("d1", "one"), Candidate("d2", "w " * 10_000)], Rules())[1] == []


def test_several_broken_rules_are_one_entry_with_every_reason() -> None:
    draft = Candidate("d1", "short", safety_flags=("spam",))
    _, out = apply_rules([draft], Rules(required_citations=3, blocking_safety_flags=("spam",), min_words=10))
    assert len(out) == 1
    assert out[0].rule == "too_few_citations"
    assert out[0].reason == (
        "0 resolved citations, 3 required; blocked by its safety flag spam; 1 word, at least 10 required"
    )


def test_the_order_of_the_drafts_is_kept() -> None:
    drafts = [Candidate("z", "ok"), Candidate("m", ""), Candidate("a", "ok"), Candidate("b", "")]
    left, out = apply_rules(drafts, Rules())
    assert [one.draft_id for one in left] == ["z", "a"]
    assert [one.draft_id for one in out] == ["m", "b"]
