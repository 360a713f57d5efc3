"""The rules that come before the jury."""

from __future__ import annotations

import pytest

from djp_judge.model import Candidate, Passage, Rules
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


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, but I can\u2019t help with that.",
        "**I'm sorry**, but I won't be able to help you with that.",
        "As an AI I cannot give medical advice.",
        "As an AI language model, I am unable to provide that.",
        "I apologize, but I cannot fulfill your request.",
        "Sorry, I can't assist with this request.",
        "Unfortunately, I am not able to answer that question.",
        "I can't comply.",
        "I cannot.",
        "I must decline to answer.",
        "I'm not comfortable with writing this.",
        "I\u200b'm sorr\u0443, but I can't help with that.",
        "I cannot help with that. " + "However, the tides are a wide field. " * 50,
    ],
)
def test_a_refusal_is_no_answer(text: str) -> None:
    left, out = apply_rules([Candidate("d1", text)], Rules())
    assert not left
    assert [(one.rule, one.reason) for one in out] == [("refusal", "it opens by refusing to answer")]


@pytest.mark.parametrize(
    "text",
    [
        "Models say \"I'm sorry, but I can't help with that\" when a filter stops them.",
        "\"I'm sorry, but I can't help with that\" is what models say.",
        "> I can't help with that\n\nThis quote shows a refusal.",
        "I cannot stress enough that budgets matter.",
        "We can't predict the weather.",
        "I am sorry to say that the budget is overdrawn.",
        "As an AI tool it cannot fail.",
        "I will not go into history.",
        "Sorry, the gate cannot open.",
        "I cannot give an exact number, but the passages say " + "much of it " * 60,
    ],
)
def test_what_only_sounds_like_a_refusal_is_none(text: str) -> None:
    assert apply_rules([Candidate("d1", text)], Rules())[1] == []


def words(count: int, start: int = 0) -> str:
    return " ".join(f"word{number}" for number in range(start, start + count))


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        (f'He said: "{words(76)}." So be it.', 76),
        (f"He said: \u201c{words(80)}\u201d. So be it.", 80),
        (f"Er sagte: \u201e{words(90)}\u201c.", 90),
        (f"Il dit : \u00ab {words(77)} \u00bb.", 77),
        (f"As it says:\n\n> {words(40)}\n> {words(40)}\n\nSo be it.", 80),
        (f"As it says:\n\n> {words(40)}\n{words(40)}\n\nSo be it.", 80),
    ],
)
def test_a_quote_of_more_than_75_words_is_too_long(text: str, quoted: int) -> None:
    _, out = apply_rules([Candidate("d1", text)], Rules())
    assert [one.rule for one in out] == ["long_quote"]
    assert out[0].reason == f"it quotes {quoted} words in a row, at most 75 allowed"


@pytest.mark.parametrize(
    "text",
    [
        f'He said: "{words(75)}." So be it.',
        f'The board is 5" wide. {words(100)}\n\nAnother is 6" wide.',
        f'"{words(40)}" he said. "{words(40)}"',
        f"It's {words(90)}, isn't it?",
        f"> {words(40)}\n\n> {words(40)}",
        f'An open "quote\n\n{words(100)}',
        words(500),
    ],
)
def test_shorter_quotes_and_own_words_are_allowed(text: str) -> None:
    assert apply_rules([Candidate("d1", text)], Rules())[1] == []


def test_words_copied_from_one_passage_are_a_quote_without_marks() -> None:
    passages = [Passage("T", words(200)), Passage("U", words(200, 1000))]
    dressed = words(76, 20).replace(" ", ", ").upper()
    for text, copies in (
        (f"It begins. {words(76, 20)} and ends.", True),
        (f"It begins. {dressed} and ends.", True),
        (f"It begins. {words(75, 20)} and ends.", False),
        (f"{words(70, 20)} indeed {words(70, 90)}", False),
        (f"{words(40, 160)} {words(40, 1000)}", False),  # of two passages
    ):
        _, out = apply_rules([Candidate("d1", text)], Rules(), passages)
        assert [one.rule for one in out] == (["long_quote"] if copies else [])
        assert all(one.reason == "it copies more than 75 words in a row from a passage" for one in out)


def test_two_characters_are_a_word_where_no_spaces_are_written() -> None:
    text = "".join(chr(0x4E00 + number) for number in range(400))
    passages = [Passage("T", text)]
    assert apply_rules([Candidate("d1", f"\u6f6e\u6c50{text[50:200]}\u6d77")], Rules(), passages)[1] == []
    assert apply_rules([Candidate("d1", f"\u6f6e\u6c50{text[50:201]}\u6d77")], Rules(), passages)[1] != []


@pytest.mark.parametrize("piece", ["a ", '" ', "> ", '"a', "\u201c", "> \n", "a\n\n", "i am sorry ", "word0 word1 "])
def test_a_hostile_draft_takes_linear_time(piece: str) -> None:
    text = piece * (400_000 // len(piece))
    passages = [Passage("T", piece * 5_000)] * 5
    apply_rules([Candidate("d1", text)], Rules(), passages)  # quadratic work would take hours


def test_reasons_never_quote_the_draft() -> None:
    text = f'I cannot help with that. "{words(80)}"'
    _, out = apply_rules([Candidate("d1", text)], Rules(required_citations=1, min_words=900), [Passage("T", text)])
    assert "word1" not in out[0].reason
    assert [reason.split()[0] for reason in out[0].reason.split("; ")] == ["it", "0", "it", "85"]
