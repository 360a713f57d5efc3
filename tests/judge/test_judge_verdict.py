"""From ballots to the verdict."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from djp_judge.model import Ballot, Candidate, Disqualification, Marks, points
from djp_judge.verdict import checked, clear_lead, decide


def marks(task_fit: float, support: float, clarity: float) -> Marks:
    return Marks(points(task_fit), points(support), points(clarity))


def ballot(name: str, scores: dict[str, tuple[float, float, float]], juror: str = "") -> Ballot:
    return Ballot(name, juror or name, "x/y", tuple(scores), {one: marks(*score) for one, score in scores.items()})


def drafts(*tokens: int) -> list[Candidate]:
    return [Candidate(name, name, tokens=count) for name, count in zip("abcdef", tokens, strict=False)]


def test_means_are_exact_and_ranked() -> None:
    ballots = [
        ballot("1", {"a": (1, 2, 0.1), "b": (4, 3, 2)}),
        ballot("2", {"a": (2, 2, 0.2), "b": (3, 3, 2)}),
        ballot("3", {"a": (2, 2, 0.2), "b": (3, 3, 2)}),
    ]
    verdict = decide(drafts(5, 5), [], ballots)
    assert verdict.winner_draft_id == "b"
    assert [one.draft_id for one in verdict.ranking] == ["b", "a"]
    assert verdict.ranking[0].mean == Fraction(25, 3)
    assert verdict.ranking[0].task_fit == Fraction(10, 3)
    assert verdict.ranking[0].spread == 1
    assert verdict.ranking[1].spread == Fraction(11, 10)
    assert verdict.agreement == 1
    assert (verdict.valid_ballots, verdict.abstentions, verdict.tie_break) == (3, 0, "")
    assert verdict.winner_by_ballot == {"1": "b", "2": "b", "3": "b"}


def test_sums_that_floats_get_wrong_are_still_a_tie() -> None:
    ballots = [ballot("1", {"a": (0.1, 0.2, 1), "b": (0.3, 0, 1)}), ballot("2", {"a": (0.3, 0, 1), "b": (0.1, 0.2, 1)})]
    assert 0.1 + 0.2 != 0.3
    verdict = decide(drafts(9, 8), [], ballots)
    assert verdict.ranking[0].mean == verdict.ranking[1].mean
    assert (verdict.winner_draft_id, verdict.tie_break) == ("b", "fewer tokens")


@pytest.mark.parametrize(
    ("a", "b", "tokens", "winner", "tie_break"),
    [
        ((3, 2, 1), (2, 3, 1), (1, 9), "b", "support"),
        ((3, 2, 1), (2, 2, 2), (9, 1), "b", "fewer tokens"),
        ((3, 2, 1), (2, 2, 2), (5, 5), "a", "draft id"),
        ((3, 2, 1), (2, 2, 1.99), (9, 1), "a", ""),
    ],
)
def test_ties_are_broken_by_support_then_tokens_then_id(
    a: tuple[float, float, float], b: tuple[float, float, float], tokens: tuple[int, int], winner: str, tie_break: str
) -> None:
    for candidates in (drafts(*tokens), drafts(*tokens)[::-1]):
        verdict = decide(candidates, [], [ballot("1", {"b": b, "a": a})])
        assert (verdict.winner_draft_id, verdict.tie_break) == (winner, tie_break)
        assert verdict.winner_by_ballot == {"1": winner}
        assert not verdict.contested


def test_a_tie_further_down_is_not_told_as_one_for_the_first_place() -> None:
    verdict = decide(drafts(1, 2, 2), [], [ballot("1", {"a": (4, 4, 2), "c": (1, 1, 1), "b": (1, 1, 1)})])
    assert [one.draft_id for one in verdict.ranking] == ["a", "b", "c"]
    assert verdict.tie_break == ""


def test_a_lead_inside_the_winners_spread_is_contested() -> None:
    near = [ballot("o1", {"a": (4, 4, 1), "b": (4, 2, 1)}, "j1"), ballot("o2", {"a": (2, 2, 1), "b": (2, 1, 1)}, "j1")]
    assert decide(drafts(1, 1), [], near).contested  # leads by 1.5, spread 4
    far = [ballot("o1", {"a": (4, 4, 2), "b": (1, 1, 1)}, "j1"), ballot("o2", {"a": (4, 4, 1), "b": (1, 1, 1)}, "j1")]
    assert not decide(drafts(1, 1), [], far).contested


def test_a_severe_juror_is_no_spread() -> None:
    ballots = [ballot("1", {"a": (4, 4, 1), "b": (4, 2, 1)}), ballot("2", {"a": (2, 2, 1), "b": (2, 1, 1)})]
    verdict = decide(drafts(1, 1), [], ballots)
    assert verdict.ranking[0].spread == 4
    assert not verdict.contested  # both put a first, by 2 and by 1
    split = [ballot("1", {"a": (4, 4, 1), "b": (4, 0, 1)}), ballot("2", {"a": (2, 2, 1), "b": (2, 3, 1)})]
    assert decide(drafts(1, 1), [], split).contested  # leads by 1.5; one says 4, one -1


def test_a_lead_as_large_as_the_spread_is_not_contested() -> None:
    ballots = [ballot("o1", {"a": (4, 2, 1), "b": (3, 2, 1)}, "j"), ballot("o2", {"a": (3, 2, 1), "b": (2, 2, 1)}, "j")]
    verdict = decide(drafts(1, 1), [], ballots)
    assert verdict.ranking[0].spread == 1 == verdict.ranking[0].mean - verdict.ranking[1].mean
    assert not verdict.contested


def shown(name: str, juror: str, order: str, worth: dict[str, float], pull: float) -> Ballot:
    """A juror's ballot: what each draft is worth, and `pull` more for the first place."""
    scores = {one: (1 + worth[one] + (pull if place == 0 else 0), 1.0, 1.0) for place, one in enumerate(order)}
    return ballot(name, scores, juror)


def test_an_only_juror_whose_orders_differ_is_contested_even_if_its_places_cancel() -> None:
    ballots = [shown("j1-o1", "j1", "ab", {"a": 1, "b": 0}, 2), shown("j1-o2", "j1", "ba", {"a": 1, "b": 0}, 2)]
    verdict = decide(drafts(1, 1), [], ballots)
    assert (verdict.winner_draft_id, verdict.contested, verdict.agreement) == ("a", True, Fraction(1, 2))


def test_jurors_whose_places_cancel_decide_together() -> None:
    worth = {"a": 1.0, "b": 0.0}
    ballots = [shown(f"{j}-{order}", j, order, worth, 2) for j in ("j1", "j2") for order in ("ab", "ba")]
    verdict = decide(drafts(1, 1), [], ballots)
    assert (verdict.winner_draft_id, verdict.contested) == ("a", False)
    cut = [*ballots[:2], ballots[3]]  # the second juror's places do not cancel
    assert decide(drafts(1, 1), [], cut).contested
    other = [shown(f"j3-{order}", "j3", order, {"a": 0, "b": 1}, 2) for order in ("ab", "ba")]
    assert decide(drafts(1, 1), [], [*ballots, *other]).contested  # the jurors do not agree


def test_a_juror_that_compared_nothing_does_not_vouch_for_one_whose_orders_differ() -> None:
    ballots = [shown(f"j1-{order}", "j1", order, {"a": 1, "b": 0}, 2) for order in ("ab", "ba")]
    assert decide(drafts(1, 1), [], [*ballots, shown("j2", "j2", "a", {"a": 1}, 0)]).contested


def test_a_part_of_the_square_is_told_by_its_orders() -> None:
    worth = {"a": 1.0, "b": 0.0, "c": 0.0}
    orders = {"j1": ("abc", "bca"), "j2": ("bac", "acb")}
    ballots = [shown(f"{j}-{order}", j, order, worth, 2) for j, seen in orders.items() for order in seen]
    assert decide(drafts(1, 1, 1), [], ballots).contested
    whole = [shown(f"{j}-{order}", j, order, worth, 2) for j in ("j1", "j2") for order in ("abc", "bca", "cab")]
    assert not decide(drafts(1, 1, 1), [], whole).contested


def test_effective_jurors_are_those_with_a_vote() -> None:
    votes = [
        ballot("1", {"a": (3, 3, 1)}, "j1"),
        ballot("2", {"a": (3, 3, 1)}, "j1"),
        ballot("3", {"a": (3, 3, 1)}, "j2"),
    ]
    silent = Ballot("4", "j3", "x/y", ("a",), abstain_reason="asleep")
    assert decide(drafts(1), [], [*votes, silent]).effective_jurors == 2


def test_a_contested_lead_is_not_clear() -> None:
    clear = [ballot("o1", {"a": (4, 4, 2), "b": (1, 1, 1)}, "j1")]
    assert clear_lead(drafts(1, 1), clear) == 7
    assert clear_lead(drafts(1, 1), [*clear, ballot("o2", {"a": (1, 1, 1), "b": (1, 2, 1)}, "j1")]) is None
    assert clear_lead(drafts(1, 1), []) is None


def test_a_juror_that_changes_its_mind_with_the_order_makes_it_contested() -> None:
    scores = [{"a": (4, 4, 2), "b": (0, 0, 0)}, {"a": (2, 2, 1), "b": (2, 2, 1.01)}]
    swayed = [ballot(f"j1-o{number}", one, "j1") for number, one in enumerate(scores, 1)]
    assert decide(drafts(1, 1), [], swayed).contested
    steady = {"a": (4, 4, 2), "b": (0, 0, 0)}
    assert not decide(drafts(1, 1), [], [ballot("j1-o1", steady, "j1"), ballot("j1-o2", steady, "j1")]).contested


def test_jurors_may_disagree_without_the_order_having_decided() -> None:
    ballots = [ballot(f"j{n}", {"a": (4, 4, 2), "b": (1, 1, 1)}, f"j{n}") for n in range(9)]
    ballots.append(ballot("j9", {"a": (4, 4, 1.9), "b": (4, 4, 2)}, "j9"))
    verdict = decide(drafts(1, 1), [], ballots)
    assert not verdict.contested
    assert verdict.agreement == Fraction(9, 10)


def test_one_draft_left_has_a_place_and_no_rival() -> None:
    ballots = [ballot("1", {"a": (4, 4, 2)}, "j1"), ballot("2", {"a": (0, 0, 0)}, "j1")]
    verdict = decide(drafts(1), [], ballots)
    assert (verdict.winner_draft_id, verdict.contested, verdict.ranking[0].mean) == ("a", False, 5)
    assert clear_lead(drafts(1), ballots) is None


def test_no_draft_left_has_no_winner_and_says_why() -> None:
    out = [Disqualification("a", "empty_text", "x"), Disqualification("b", "empty_text", "x")]
    verdict = decide([], out, [])
    assert (verdict.winner_draft_id, verdict.ranking) == ("", ())
    assert verdict.reason == "no draft is left: the rules disqualified all 2"
    assert verdict.disqualified == tuple(out)


def test_only_abstentions_have_no_winner_no_ranking_and_say_why() -> None:
    ballots = [Ballot(f"{n}", f"{n}", "x/y", ("a", "b"), abstain_reason="asleep") for n in range(3)]
    verdict = decide(drafts(1, 1), [], ballots)
    assert (verdict.winner_draft_id, verdict.ranking, verdict.valid_ballots, verdict.abstentions) == ("", (), 0, 3)
    assert verdict.reason == "no juror voted: asleep"


def test_an_abstention_moves_no_mean() -> None:
    vote = ballot("1", {"a": (3, 3, 1), "b": (1, 1, 1)})
    silent = Ballot("2", "2", "x/y", ("a", "b"), abstain_reason="asleep")
    alone, both = decide(drafts(1, 1), [], [vote]), decide(drafts(1, 1), [], [vote, silent])
    assert alone.ranking == both.ranking
    assert (both.valid_ballots, both.abstentions) == (1, 1)


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ({"a": (1, 1, 1)}, "1 missing, 0 unknown"),
        ({"a": (1, 1, 1), "b": (1, 1, 1), "ghost": (4, 4, 2)}, "0 missing, 1 unknown"),
        ({}, "2 missing, 0 unknown"),
        ({"a": (4.01, 1, 1), "b": (1, 1, 1)}, "outside the rubric"),
        ({"a": (1, -0.01, 1), "b": (1, 1, 1)}, "outside the rubric"),
        ({"a": (1, 1, 2.5), "b": (1, 1, 1)}, "outside the rubric"),
    ],
)
def test_marks_that_cannot_be_counted_are_an_abstention(
    scores: dict[str, tuple[float, float, float]], reason: str
) -> None:
    read = checked(ballot("1", scores), ["a", "b"])
    assert read.abstained
    assert reason in read.abstain_reason
    assert not read.marks


def test_the_order_of_ballots_and_drafts_changes_nothing() -> None:
    generator = random.Random(3)
    candidates = drafts(5, 5, 4, 4)
    ballots = [
        ballot(f"{n}", {one.draft_id: (generator.randint(1, 2), generator.randint(1, 2), 1) for one in candidates})
        for n in range(7)
    ]
    expected = decide(candidates, [], ballots)
    for _ in range(20):
        generator.shuffle(ballots)
        generator.shuffle(candidates)
        again = decide(candidates, [], ballots)
        assert (again.ranking, again.tie_break, again.contested, again.agreement) == (
            expected.ranking,
            expected.tie_break,
            expected.contested,
            expected.agreement,
        )
