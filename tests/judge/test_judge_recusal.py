"""Who leaves which draft to others, and what becomes of the marks when jurors scored different drafts."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import pytest

from djp_judge.model import Candidate, Seat
from djp_judge.recusal import recusals
from djp_judge.severity import without_severity


def seats(**families: str) -> list[Seat]:
    return [Seat(name, "x/y", frozenset(own.split())) for name, own in families.items()]


def drafts(**families: str) -> list[Candidate]:
    return [Candidate(name, name, family=family) for name, family in families.items()]


@pytest.mark.parametrize(
    ("candidates", "jury", "expected"),
    [
        (drafts(a="red", b="blue"), seats(j1="green"), {"j1": ""}),
        (drafts(a="red", b="blue"), seats(j1="red"), {"j1": ""}),  # nobody else can
        (drafts(a="red", b="blue"), seats(j1="red", j2="blue"), {"j1": "a", "j2": "b"}),
        (drafts(a="red", b="blue"), seats(j1="red", j2="green"), {"j1": "a", "j2": ""}),
        (drafts(a="red", b="blue"), seats(j1="red", j2="red"), {"j1": "", "j2": ""}),
        (drafts(a="red", b="red"), seats(j1="red", j2="blue"), {"j1": "ab", "j2": ""}),
        (drafts(a="red", b="blue"), seats(j1="red blue", j2="green"), {"j1": "ab", "j2": ""}),
        (drafts(a="red", b="blue"), seats(j1="red blue", j2="blue"), {"j1": "a", "j2": ""}),  # b: both are partial
        (drafts(a="offline", b="offline"), seats(j1="", j2="red"), {"j1": "", "j2": ""}),
        (drafts(a="", b="red"), seats(j1="red", j2="blue"), {"j1": "b", "j2": ""}),
    ],
)
def test_a_draft_is_left_to_jurors_of_other_families_if_there_are_any(
    candidates: list[Candidate], jury: list[Seat], expected: dict[str, str]
) -> None:
    assert recusals(candidates, jury) == {name: frozenset(ids) for name, ids in expected.items()}


JURY = [Seat("j1", "x/y", frozenset({"red"})), Seat("j2", "x/y", frozenset({"blue"})), Seat("j3", "x/y")]
DRAFTS = [Candidate("a", "a", family="red"), Candidate("b", "b", family="blue"), Candidate("c", "c", family="green")]
MERIT = {"a": (4, 4, 1), "b": (3, 3, 1), "c": (2, 2, 1)}


async def test_a_recused_draft_is_not_shown_and_the_ballot_says_so(bench: Any) -> None:
    shown: dict[str, set[str]] = {}

    def note(juror: str) -> Any:
        def points(text: str, _place: int) -> tuple[float, float, float]:
            shown.setdefault(juror, set()).add(text)
            return MERIT[text]

        return bench.Scripted(points)

    jurors = {name: note(name) for name in ("j1", "j2", "j3")}
    casts, verdict = await bench.judge(jurors, candidates=DRAFTS, seats=JURY, orders=2)
    assert shown == {"j1": {"b", "c"}, "j2": {"a", "c"}, "j3": {"a", "b", "c"}}
    assert [cast.ballot.recused for cast in casts] == [("a",)] * 2 + [("b",)] * 2 + [()] * 2
    assert [set(cast.ballot.order) & set(cast.ballot.recused) for cast in casts] == [set()] * 6
    assert [(one.draft_id, one.ballots) for one in verdict.ranking] == [("a", 4), ("b", 4), ("c", 6)]
    assert (verdict.agreement, verdict.contested, verdict.effective_jurors) == (1, False, 3)
    again, same = await bench.judge(jurors, candidates=DRAFTS, seats=JURY, orders=2, completed=bench.ballots(casts[:3]))
    assert [cast.ballot for cast in again] == [cast.ballot for cast in casts[3:]]
    assert same == verdict


async def test_a_juror_whose_drafts_are_all_recused_is_not_asked_and_says_why(bench: Any) -> None:
    drafts = [Candidate("a", "a", family="red"), Candidate("b", "b", family="red")]
    jurors = {"j1": bench.Scripted(lambda *_: (0, 0, 0)), "j2": bench.Scripted(lambda text, _: MERIT[text])}
    casts, verdict = await bench.judge(jurors, candidates=drafts, seats=JURY[:2], orders=2)
    assert jurors["j1"].asked == 0
    assert [cast.ballot.ballot_id for cast in casts] == ["j1-o1", "j2-o1", "j2-o2"]
    assert casts[0].ballot.abstain_reason == "every draft is of the juror's own model family"
    assert (casts[0].ballot.recused, casts[0].calls) == (("a", "b"), ())
    assert (verdict.winner_draft_id, verdict.effective_jurors, verdict.abstentions) == ("a", 1, 1)
    again, same = await bench.judge(jurors, candidates=drafts, seats=JURY[:2], orders=2, completed=bench.ballots(casts))
    assert (again, same) == ([], verdict)


async def test_a_single_draft_left_to_a_juror_is_scored_by_the_rubric(bench: Any) -> None:
    drafts = [Candidate("a", "a", family="red"), Candidate("b", "b", family="blue")]
    juror = bench.Scripted(lambda text, _: MERIT[text])
    casts, verdict = await bench.judge(juror, candidates=drafts, seats=JURY[:2], orders=2)
    assert [cast.ballot.order for cast in casts] == [("b",), ("a",)]  # one order is all there is
    assert (verdict.winner_draft_id, verdict.contested) == ("a", True)  # no juror compared them


async def test_no_juror_scoring_a_draft_makes_the_verdict_contested(bench: Any) -> None:
    drafts = [Candidate("a", "a", family="red"), Candidate("b", "b", family="blue")]

    def silent(*_: Any) -> Any:
        raise ValueError

    jurors = {"j1": bench.Scripted(lambda text, _: MERIT[text]), "j2": bench.Scripted(silent)}
    _, verdict = await bench.judge(jurors, candidates=drafts, seats=JURY[:2])
    assert [one.draft_id for one in verdict.ranking] == ["b"]
    assert (verdict.winner_draft_id, verdict.contested) == ("b", True)


async def test_severity_must_not_decide_between_drafts_of_different_jurors(bench: Any) -> None:
    """`a` is a little better than `b`, but a severe juror scored it and a lenient one did not."""
    jurors = {
        "j1": bench.Scripted(lambda text, _: {"b": (4, 4, 1.5), "c": (4, 4, 0)}[text]),  # not a
        "j2": bench.Scripted(lambda text, _: {"a": (2, 2, 1), "c": (1, 1, 1)}[text]),  # severe, not b
    }
    _, verdict = await bench.judge(jurors, candidates=DRAFTS, seats=JURY[:2])
    assert verdict.winner_draft_id == "b"
    assert verdict.contested  # a is 2 better than c, b only 1.5


def test_severity_is_taken_out_exactly() -> None:
    chance = random.Random(1)
    for _ in range(50):
        worth = {name: Fraction(chance.randint(0, 100), 10) for name in "abcdef"}
        ballots = []
        for _ in range(8):
            level = Fraction(chance.randint(-30, 30), 10)
            ballots.append({name: worth[name] + level for name in chance.sample("abcdef", chance.randint(2, 6))})
        ballots.append({name: worth[name] for name in "abcdef"})  # connects all
        assert without_severity(ballots, "c") == {name: points - worth["c"] for name, points in worth.items()}


def test_with_every_draft_on_every_ballot_it_is_the_difference_of_the_means() -> None:
    ballots = [{"a": Fraction(9), "b": Fraction(4)}, {"a": Fraction(3), "b": Fraction(5)}]
    assert without_severity(ballots, "a") == {"a": 0, "b": Fraction(-3, 2)}
    assert without_severity([*ballots, {"a": Fraction(1)}], "a") == {"a": 0, "b": Fraction(-3, 2)}


def test_what_no_chain_of_ballots_connects_is_not_compared() -> None:
    ballots = [{"a": Fraction(1), "b": Fraction(2)}, {"c": Fraction(1), "d": Fraction(2)}, {"e": Fraction(9)}]
    assert without_severity(ballots, "a") == {"a": 0, "b": 1}
