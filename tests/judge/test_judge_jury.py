"""The jury at work, with scripted jurors: order, abstentions, resuming, the fast path."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest

from djp_judge.jury import Vote
from djp_judge.model import Marks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp.llm.asking import Asking
    from djp_judge.jury import Tell
    from djp_judge.model import Shown

MERIT = {"a": (4, 3, 2), "b": (3, 3, 2), "c": (2, 2, 1), "d": (1, 1, 1)}


def fair(text: str, _place: int) -> tuple[float, float, float]:
    return MERIT[text]


def first_comes_first(text: str, place: int) -> tuple[float, float, float]:
    """Favours whatever is shown first with all its points."""
    return (4, 4, 2) if place == 0 else (1, 1, 1)


class Spy:
    """Notes everything that it is given."""

    def __init__(self) -> None:
        self.seen: list[Sequence[Shown]] = []

    async def vote(self, shown: Sequence[Shown], asking: Asking, tell: Tell) -> Vote:
        self.seen.append(shown)
        return Vote("x/y", {one.label: Marks(Fraction(1), Fraction(1), Fraction(1)) for one in shown})


async def test_a_juror_sees_labels_and_texts_and_nothing_else(bench: Any) -> None:
    spy = Spy()
    candidates = [
        bench.Candidate("gpt-secret-r1", "alpha", tokens=77, safety_flags=("flagged",)),
        bench.Candidate("claude-secret-r1", "beta"),
    ]
    await bench.judge(spy, candidates=candidates, orders=4)
    assert {text for shown in spy.seen for text in (one.text for one in shown)} == {"alpha", "beta"}
    assert all([one.label for one in shown] == ["Draft A", "Draft B"] for shown in spy.seen)
    told = repr(spy.seen)
    assert not any(word in told for word in ("secret", "77", "flagged", "gpt", "claude"))


async def test_labels_follow_the_place_so_that_every_draft_has_each_of_them(bench: Any) -> None:
    spy = Spy()
    await bench.judge(spy, "abcd", orders=4)
    by_text: dict[str, set[str]] = {}
    for shown in spy.seen:
        for one in shown:
            by_text.setdefault(one.text, set()).add(one.label)
    assert all(labels == {"Draft A", "Draft B", "Draft C", "Draft D"} for labels in by_text.values())


async def test_marks_come_back_to_the_drafts_they_were_given_for(bench: Any) -> None:
    casts, verdict = await bench.judge(bench.Scripted(fair), "dbca", seats=bench.seats(2), orders=4)
    assert [cast.ballot.ballot_id for cast in casts] == [f"j{j}-o{o}" for j in (1, 2) for o in range(1, 5)]
    assert len({cast.ballot.order for cast in casts}) > 1
    for cast in casts:
        assert {one: marks.total for one, marks in cast.ballot.marks.items()} == {
            one: sum(MERIT[one]) for one in "abcd"
        }
    assert [one.draft_id for one in verdict.ranking] == list("abcd")
    assert (verdict.agreement, verdict.contested, verdict.valid_ballots) == (1, False, 8)


async def test_a_juror_that_goes_by_the_place_is_contested_and_cannot_make_a_clear_winner(bench: Any) -> None:
    _, verdict = await bench.judge(bench.Scripted(first_comes_first), "abcd", orders=4)
    assert verdict.contested
    assert len({one.mean for one in verdict.ranking}) == 1
    assert verdict.agreement == Fraction(1, 4)


async def test_the_seed_fixes_the_orders(bench: Any) -> None:
    runs = [await bench.judge(bench.Scripted(fair), "abcd", orders=3, seed=seed) for seed in (5, 5, 6)]
    orders = [[cast.ballot.order for cast in casts] for casts, _ in runs]
    assert orders[0] == orders[1] != orders[2]


async def test_every_ballot_is_one_call_with_an_id_of_its_own_that_stays(bench: Any) -> None:
    casts, _ = await bench.judge(bench.Scripted(fair), seats=bench.seats(2), orders=2)
    again, _ = await bench.judge(bench.Scripted(fair), seats=bench.seats(2), orders=2)
    calls = [call for cast in casts for call in cast.calls]
    assert len({call.call_id for call in calls}) == len(calls) == 4
    assert [call.call_id for call in calls] == [call.call_id for cast in again for call in cast.calls]
    assert {(call.stage, call.attempt, call.offline, call.usage.input_tokens) for call in calls} == {
        ("JUDGE", 1, False, 10)
    }
    assert [call.actor_id for call in calls] == ["j1", "j1", "j2", "j2"]
    assert all(0 < call.cost_nano_usd <= call.bound_nano_usd for call in calls)


async def test_a_juror_that_fails_abstains_and_the_others_decide(bench: Any, caplog: Any) -> None:
    asked = []

    def sometimes(text: str, place: int) -> tuple[float, float, float]:
        if not asked:
            asked.append(text)
            raise KeyError("a private draft")
        return fair(text, place)

    with caplog.at_level(logging.DEBUG):
        casts, verdict = await bench.judge(bench.Scripted(sometimes), seats=bench.seats(3))
    assert [cast.ballot.abstained for cast in casts] == [True, False, False]
    assert casts[0].ballot.abstain_reason == "the juror failed (KeyError)"
    assert not casts[0].ballot.marks
    assert (verdict.winner_draft_id, verdict.valid_ballots, verdict.abstentions) == ("a", 2, 1)
    assert "private" not in caplog.text


async def test_when_every_juror_fails_there_is_no_winner(bench: Any) -> None:
    def broken(text: str, place: int) -> tuple[float, float, float]:
        raise RuntimeError(text)

    casts, verdict = await bench.judge(bench.Scripted(broken), seats=bench.seats(2))
    assert len(casts) == 2
    assert (verdict.winner_draft_id, verdict.ranking, verdict.abstentions) == ("", (), 2)
    assert verdict.reason == "no juror voted: the juror failed (RuntimeError)"


@pytest.mark.parametrize("marks", [(5, 0, 0), (0, 0, 2.01), (-1, 4, 2), (40, 40, 20)])
async def test_marks_outside_the_rubric_are_paid_for_and_not_counted(bench: Any, marks: tuple[float, ...]) -> None:
    def wild(text: str, _place: int) -> Any:
        return marks if text == "b" else (4, 4, 2)

    casts, verdict = await bench.judge(bench.Scripted(wild))
    assert casts[0].ballot.abstained
    assert len(casts[0].calls) == 1
    assert verdict.winner_draft_id == ""


class Forgetful(Spy):
    async def vote(self, shown: Sequence[Shown], asking: Asking, tell: Tell) -> Vote:
        vote = await super().vote(shown[1:], asking, tell)
        return replace(vote, marks={**vote.marks, "Draft Z": Marks(Fraction(4), Fraction(4), Fraction(2))})


async def test_marks_for_labels_that_nobody_showed_are_not_counted(bench: Any) -> None:
    casts, _ = await bench.judge(Forgetful())
    assert casts[0].ballot.abstain_reason == "it does not score the drafts shown: 1 missing, 1 unknown"


async def test_a_cancelled_judgement_ends_and_is_no_abstention(bench: Any) -> None:
    waiting = asyncio.Event()

    class Slow(Spy):
        async def vote(self, shown: Sequence[Shown], asking: Asking, tell: Tell) -> Vote:
            waiting.set()
            await asyncio.Event().wait()
            raise AssertionError

    judging = asyncio.create_task(bench.judge(Slow()))
    await waiting.wait()
    judging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await judging


async def test_no_juror_is_asked_when_the_rules_leave_no_draft(bench: Any) -> None:
    juror = bench.Scripted(fair)
    casts, verdict = await bench.judge(juror, rules=bench.Rules(required_citations=1), seats=bench.seats(3))
    assert (casts, juror.asked) == ([], 0)
    assert verdict.reason == "no draft is left: the rules disqualified all 2"
    assert [one.rule for one in verdict.disqualified] == ["too_few_citations"] * 2


async def test_a_disqualified_draft_is_neither_shown_nor_ranked(bench: Any) -> None:
    spy = Spy()
    candidates = [bench.Candidate("a", "alpha", resolved_citations=1), bench.Candidate("b", "beta")]
    casts, verdict = await bench.judge(spy, candidates=candidates, rules=bench.Rules(required_citations=1))
    assert [[one.text for one in shown] for shown in spy.seen] == [["alpha"]]
    assert casts[0].ballot.order == ("a",)
    assert [one.draft_id for one in verdict.ranking] == ["a"]
    assert [one.draft_id for one in verdict.disqualified] == ["b"]


async def test_after_a_crash_at_any_point_only_the_missing_ballots_are_cast(bench: Any) -> None:
    whole, expected = await bench.judge(bench.Scripted(fair), "abcd", seats=bench.seats(2), orders=3)
    for done in range(len(whole) + 1):
        juror = bench.Scripted(fair)
        casts, verdict = await bench.judge(
            juror, "abcd", seats=bench.seats(2), orders=3, completed=bench.ballots(whole[:done])
        )
        assert [cast.ballot for cast in casts] == [cast.ballot for cast in whole[done:]]
        assert [cast.calls[0].call_id for cast in casts] == [cast.calls[0].call_id for cast in whole[done:]]
        assert juror.asked == len(whole) - done
        assert verdict == expected


async def test_an_abstention_that_was_paid_for_is_not_asked_again(bench: Any) -> None:
    whole, expected = await bench.judge(bench.Scripted(lambda *_: (9, 9, 9)))
    juror = bench.Scripted(fair)
    casts, verdict = await bench.judge(juror, completed=bench.ballots(whole))
    assert (casts, juror.asked, verdict) == ([], 0, expected)


@pytest.mark.parametrize(
    ("margin", "ballots", "skipped"),
    [(None, 6, False), (Fraction(0), 2, True), (Fraction(1), 2, True), (Fraction(101, 100), 6, False)],
)
async def test_jurors_are_skipped_once_the_lead_is_clear(
    bench: Any, margin: Fraction | None, ballots: int, skipped: bool
) -> None:
    casts, verdict = await bench.judge(bench.Scripted(fair), seats=bench.seats(3), orders=2, fast_path_margin=margin)
    assert (len(casts), verdict.fast_path, verdict.winner_draft_id) == (ballots, skipped, "a")


async def test_no_single_order_makes_the_lead_clear(bench: Any) -> None:
    casts, verdict = await bench.judge(
        bench.Scripted(first_comes_first), seats=bench.seats(2), orders=2, fast_path_margin=Fraction(5)
    )
    assert (len(casts), verdict.fast_path) == (4, False)


async def test_nothing_was_skipped_when_the_last_juror_made_it_clear_or_one_draft_is_left(bench: Any) -> None:
    _, verdict = await bench.judge(bench.Scripted(fair), fast_path_margin=Fraction(0))
    assert not verdict.fast_path
    casts, verdict = await bench.judge(bench.Scripted(fair), "a", seats=bench.seats(2), fast_path_margin=Fraction(0))
    assert (len(casts), verdict.fast_path) == (2, False)  # no second, no lead


async def test_a_judgement_resumed_anywhere_skips_what_the_first_one_skipped(bench: Any) -> None:
    fields = {"seats": bench.seats(3), "orders": 2, "fast_path_margin": Fraction(1)}
    whole, expected = await bench.judge(bench.Scripted(fair), **fields)
    assert len(whole) == 2
    for done in range(3):
        casts, verdict = await bench.judge(bench.Scripted(fair), completed=bench.ballots(whole[:done]), **fields)
        assert (len(casts), verdict) == (2 - done, expected)


async def test_a_juror_that_breaks_its_port_ends_the_judgement_instead_of_holding_it(bench: Any) -> None:
    class Broken(Spy):
        async def vote(self, shown: Sequence[Shown], asking: Asking, tell: Tell) -> Vote:
            return Vote("x/y", marks=None)  # type: ignore[arg-type]

    with pytest.raises(AttributeError):
        await bench.judge(Broken(), seats=bench.seats(2), orders=2)


async def test_a_lead_that_is_contested_skips_no_juror(bench: Any) -> None:
    """The first juror's mean leads by 3, but its orders name different winners."""

    def swayed(text: str, place: int) -> tuple[float, float, float]:
        return {"a": (4, 4, 1) if place == 0 else (2, 2, 1), "b": (1, 1, 0) if place else (2, 3, 1)}[text]

    casts, verdict = await bench.judge(
        {"j1": bench.Scripted(swayed), "j2": bench.Scripted(fair)},
        seats=bench.seats(2),
        orders=2,
        fast_path_margin=Fraction(2),
    )
    assert (len(casts), verdict.fast_path, verdict.winner_draft_id) == (4, False, "a")
