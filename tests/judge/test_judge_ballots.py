"""What is read as a ballot, and what never is."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djp_judge.ballots import MAX_REASON_CHARS, UnreadableBallotError, read_ballot

LABELS = ["Draft A", "Draft B"]
A = {"reason": "good", "task_fit": 4, "support": 3.5, "clarity": 1}
B = {"reason": "fair", "task_fit": 2, "support": 0, "clarity": 0.5}
GOOD = json.dumps({"A": A, "B": B})


def total(text: str) -> list[Fraction]:
    ballot = read_ballot(text, LABELS)
    return [ballot[label].total for label in LABELS]


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"Here is my ballot [1]:\n\n{GOOD}\n\nI hope it helps {{really}}.",
        json.dumps({"Draft A": A, "draft b": B}),
        json.dumps({"scores": {"A": A, "B": B}}),
        json.dumps({"ballot": {"drafts": [{"draft": "A", **A}, {"draft": "Draft B", **B}]}}),
        json.dumps([{"label": "B", **B}, {"label": "A", **A}]),
        json.dumps({"A": {"Task fit": "4", "Support": " 3.5 ", "clarity": "1.0", "reason": "x"}, "B": B}),
        json.dumps({"A": {**A, "total": 8.5}, "B": B}),
        f"{GOOD}\n\nOnce more:\n{GOOD}",
        f"{'As [1] says. ' * 500}{GOOD}",
        '{"A": nonsense}\n' + GOOD,
        f"<think>Perhaps {GOOD.replace('3.5', '1')}? No.</think>\n{GOOD}",
    ],
)
def test_the_form_may_vary(text: str) -> None:
    assert total(text) == [Fraction(17, 2), Fraction(5, 2)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no JSON"),
        ("Draft A: 8/10, Draft B: 5/10", "no JSON"),
        ("A is best.", "no JSON"),
        (GOOD[:-20], "2 missing"),
        (json.dumps({"A": A}), "1 missing, 0 unknown"),
        (json.dumps({"A": A, "B": B, "C": B}), "0 missing, 1 unknown"),
        (json.dumps({"A": A, "B": B, "winner": A}), "0 missing, 1 unknown"),
        (json.dumps([{"draft": "A", **A}, {"draft": "A", **B}]), "twice"),
        ('{"A": {}, "A": {}}', "twice"),
        (json.dumps([A, B]), "2 missing, 2 unknown"),
        (json.dumps({"A": "8/10", "B": "5/10"}), "no object"),
        (json.dumps({"A": 8, "B": 5}), "no object"),
        (json.dumps({"A": {**A, "task_fit": "4/4"}, "B": B}), "task_fit is no number"),
        (json.dumps({"A": {**A, "task_fit": "about 3"}, "B": B}), "task_fit is no number"),
        (json.dumps({"A": {**A, "task_fit": "3,5"}, "B": B}), "task_fit is no number"),
        (json.dumps({"A": {**A, "task_fit": True}, "B": B}), "task_fit is no number"),
        (json.dumps({"A": {**A, "task_fit": None}, "B": B}), "has no task_fit"),
        (json.dumps({"A": {**A, "task_fit": [4]}, "B": B}), "task_fit is no number"),
        (json.dumps({"A": {**A, "task_fit": float("nan")}, "B": B}), "no number"),
        (json.dumps({"A": {**A, "task_fit": float("inf")}, "B": B}), "no number"),
        ('{"A": {"task_fit": 1e999, "support": 1, "clarity": 1}, "B": {}}', "no number"),
        ('{"A": {"task_fit": ' + "9" * 4000 + ', "support": 1, "clarity": 1}, "B": {}}', "no number"),
        (json.dumps({"A": {**A, "task_fit": 8}, "B": B}), "outside the rubric"),
        (json.dumps({"A": {**A, "clarity": 2.5}, "B": B}), "outside the rubric"),
        (json.dumps({"A": {**A, "support": -1}, "B": B}), "outside the rubric"),
        (json.dumps({"A": {"score": 8, "reason": "x"}, "B": B}), "has no task_fit"),
        (GOOD + GOOD.replace("3.5", "3"), "several ballots that differ"),
        ("[" * 100_000, "no JSON"),
        ('{"a":' * 50_000, "no JSON"),
        ('[{"A":' * 20_000 + "1", "no JSON"),
        ("{" * 100_000, "no JSON"),
        ("[ " * 50_000, "no JSON"),
        ('[{"a":[' * 300 + "1," * 60_000, "no JSON"),
    ],
)
def test_what_is_no_ballot_is_never_a_number(text: str, problem: str) -> None:
    with pytest.raises(UnreadableBallotError, match=problem):
        read_ballot(text, LABELS)


def test_reasons_are_kept_within_the_contract() -> None:
    long = json.dumps({"A": {**A, "reason": "\u6f6e" * 9000}, "B": {**B, "reason": "a\ud800b"}})
    ballot = read_ballot(long, LABELS)
    assert len(ballot["Draft A"].reason) == MAX_REASON_CHARS
    assert ballot["Draft A"].reason.endswith("\u2026")
    assert ballot["Draft B"].reason.encode() == b"a?b"
    assert read_ballot(json.dumps({"A": {**A, "reason": None}, "B": B}), LABELS)["Draft A"].reason == ""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["A", "3", "4/4", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["A", "B", "draft", "task_fit", "support", "clarity", "reason"]), inner, max_size=4
        )
    ),
    max_leaves=15,
)


@given(json_values, st.text(max_size=20))
def test_whatever_comes_it_is_a_ballot_within_the_rubric_or_none(value: Any, around: str) -> None:
    try:
        ballot = read_ballot(f"{around}{json.dumps(value)}{around}", LABELS)
    except UnreadableBallotError:
        pass
    else:
        assert set(ballot) == set(LABELS)
        assert all(marks.in_rubric for marks in ballot.values())
