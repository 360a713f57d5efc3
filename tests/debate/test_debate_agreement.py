"""How much drafts say the same, and that the preset's threshold ends no debate of drafts that do not."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from djp_debate.agreement import MAX_SENTENCES, READ_CHARS, agreement

ROOT = Path(__file__).parents[2]
THRESHOLD = json.loads((ROOT / "presets" / "quick.json").read_text())["agreement_threshold"]
SAID = "The ledger reserves the most that a run can cost before any model is called."


@given(st.lists(st.text(max_size=200), min_size=2, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_texts_agree_from_nothing_to_wholly_whatever_their_order(texts: list[str]) -> None:
    values = [agreement(order) for order in permutations(texts)]
    assert all(0 <= value <= 1 for value in values)
    assert values == pytest.approx([values[0]] * len(values))


@pytest.mark.parametrize("number", [2, 5])
def test_copies_agree_wholly(number: int) -> None:
    assert agreement([SAID] * number) == pytest.approx(1)


def test_case_emphasis_and_citations_make_no_difference() -> None:
    cited = "**THE LEDGER** reserves [Budgets] the most that a run can cost, before any model is called [The Ledger]."
    assert agreement([SAID, cited]) == pytest.approx(1)


@pytest.mark.parametrize("empty", ["", " \n", "[Budgets]", "...", "the of and", "\u200b"])
def test_texts_that_say_nothing_agree_with_nothing(empty: str) -> None:
    assert agreement([empty, empty]) == 0
    assert agreement([empty, SAID]) == 0


@pytest.mark.parametrize("texts", [[], [SAID]])
def test_one_text_agrees_with_nobody(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="nobody"):
        agreement(texts)


CONTRARY = (
    ("Tenants pay for drafts, and the house pays for votes.", "Tenants pay for votes, and the house pays for drafts."),
    ("Budgets can be overdrawn by two runs.", "Budgets cannot be overdrawn by two runs."),
    ("The refund is paid to everybody who asks.", "The refund isn\u2019t paid to everybody who asks."),
    (
        "The refund period of the shop ends 30 days after delivery.",
        "The refund period of the shop ends 14 days after delivery.",
    ),
)


@pytest.mark.parametrize(("one", "other"), CONTRARY)
@pytest.mark.parametrize("around", [0, 30])
def test_what_contradicts_in_nearly_the_same_words_does_not_agree_however_long_the_rest(
    one: str, other: str, around: int
) -> None:
    rest = " ".join(
        f"Ledger {number} keeps the books of shop {number} and closes them at night." for number in range(around)
    )
    assert agreement([f"{rest} {one}", f"{rest} {one}"]) == pytest.approx(1)
    assert agreement([f"{rest} {one}", f"{rest} {other}"]) < THRESHOLD
    assert agreement([f"{one}\n\n{rest}", f"{other}\n\n{rest}"]) < THRESHOLD


def test_what_one_draft_says_and_the_other_does_not_keeps_them_from_agreeing() -> None:
    assert agreement([SAID, f"{SAID} Whoever is refused may ask an operator for room."]) < 0.3


def test_a_table_and_code_are_part_of_what_a_draft_says() -> None:
    assert agreement([f"{SAID}\n\n| day | 25 |", f"{SAID}\n\n| day | 30 |"]) < THRESHOLD
    assert agreement([f"{SAID}\n\n    refuse(run)", f"{SAID}\n\n    grant(run)"]) < THRESHOLD


def test_one_draft_that_differs_keeps_the_others_from_agreeing() -> None:
    assert agreement([SAID, SAID, SAID, "Nobody knows who keeps the bread."]) == pytest.approx(0.5)


def test_a_text_agrees_with_itself_in_scripts_without_spaces_and_differs_from_another() -> None:
    one = "\u9762\u5305\u5e08\u5148\u5f97\u5230\u62a5\u916c\u3002"
    other = "\u78e8\u574a\u4e3b\u6700\u540e\u624d\u6765\u5230\u3002"
    assert agreement([one, one]) == pytest.approx(1)
    assert agreement([one, other]) == 0


@pytest.mark.parametrize("piece", ["[", "[x", "a ", "\u0301", "word\u2019", "\U0001f600 ", "- [ ] ", "A day.\n", "`"])
def test_of_hostile_sizes_only_the_beginning_is_compared(piece: str) -> None:
    huge = piece * (4_000_000 // len(piece))
    whole = agreement([huge, f"{SAID} {huge}"] * 3)
    assert whole == agreement([huge[:READ_CHARS], f"{SAID} {huge}"[:READ_CHARS]] * 3)


def test_beyond_so_many_sentences_the_rest_still_counts() -> None:
    many = [f"Ledger {number} keeps the books." for number in range(2 * MAX_SENTENCES)]
    assert agreement([" ".join(many), " ".join(many)]) == pytest.approx(1)
    assert agreement([" ".join(many), " ".join([*many[:-1], "Nobody keeps any books."])]) < THRESHOLD


def test_the_sample_tasks_have_no_false_stop_at_the_preset_s_threshold() -> None:
    run = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "agreement.py", "--quick"], capture_output=True, text=True, check=False
    )
    figures = json.loads(run.stdout.splitlines()[-1])["figures"]
    assert run.returncode == 0, run.stdout
    assert figures["threshold"] == THRESHOLD
    assert figures["false_stops"] == 0
    assert figures["nearest_false"] < figures["threshold"]
    assert figures["other_pairs"] >= 150


def test_no_other_preset_ends_a_debate_early() -> None:
    presets = {path.stem: json.loads(path.read_text()) for path in (ROOT / "presets").glob("*.json")}
    assert [name for name, preset in presets.items() if "agreement_threshold" in preset] == ["quick"]
