"""From ballots to the verdict: means, places, ties, agreement, and whether the result can be trusted."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from djp_judge.model import Standing, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from djp_judge.model import Ballot, Candidate, Disqualification


def checked(ballot: Ballot, draft_ids: Sequence[str]) -> Ballot:
    """The ballot, or an abstention in its place if its marks cannot be counted: never an arbitrary number.

    Every one of the drafts must have marks within the rubric, and nothing else may have any.
    """
    if ballot.abstained:
        return replace(ballot, marks={})
    missing, others = set(draft_ids) - set(ballot.marks), set(ballot.marks) - set(draft_ids)
    reason = ""
    if missing or others:
        reason = f"it does not score the drafts shown: {len(missing)} missing, {len(others)} unknown"
    elif not all(marks.in_rubric for marks in ballot.marks.values()):
        reason = "it has a score outside the rubric"
    return replace(ballot, marks={}, abstain_reason=reason) if reason else ballot


def decide(
    candidates: Sequence[Candidate],
    disqualified: Sequence[Disqualification],
    ballots: Sequence[Ballot],
    *,
    fast_path: bool = False,
) -> Verdict:
    """The verdict of checked ballots over the candidates that the rules left.

    A tie on the mean is broken by support, then by fewer tokens, then by draft id; `tie_break` says which of them
    decided between the first two, and is empty when their means differ. The verdict is contested when the lead over the
    second is smaller than the winner's spread, or when two orders shown to one juror have different first places.
    """
    valid = [ballot for ballot in ballots if not ballot.abstained]
    base = Verdict(
        disqualified=tuple(disqualified),
        valid_ballots=len(valid),
        abstentions=len(ballots) - len(valid),
        fast_path=fast_path,
    )
    if not candidates:
        return replace(base, reason=f"no draft is left: the rules disqualified {_all(len(disqualified))}")
    if not valid:
        why = "; ".join(sorted({ballot.abstain_reason for ballot in ballots}))
        return replace(base, reason=f"no juror voted: {why}")
    tokens = {candidate.draft_id: candidate.tokens for candidate in candidates}
    standings = [_standing(draft_id, valid) for draft_id in tokens]
    ranking = sorted(standings, key=lambda entry: _place(entry.mean, entry.support, tokens, entry.draft_id))
    winner = ranking[0]
    firsts = {ballot.ballot_id: _first(ballot, tokens) for ballot in valid}
    return replace(
        base,
        winner_draft_id=winner.draft_id,
        ranking=tuple(ranking),
        contested=_is_contested(ranking, valid, firsts),
        agreement=Fraction(sum(first == winner.draft_id for first in firsts.values()), len(valid)),
        tie_break=_tie_break(ranking, tokens),
        winner_by_ballot=firsts,
    )


def lead(candidates: Sequence[Candidate], ballots: Sequence[Ballot]) -> Fraction | None:
    """Mean points between the first and the second so far; None without a valid ballot or without a second."""
    ranking = decide(candidates, (), ballots).ranking
    return ranking[0].mean - ranking[1].mean if len(ranking) > 1 else None


def _standing(draft_id: str, ballots: Sequence[Ballot]) -> Standing:
    marks = [ballot.marks[draft_id] for ballot in ballots]
    totals = [one.total for one in marks]

    def mean(values: Sequence[Fraction]) -> Fraction:
        return sum(values, Fraction(0)) / len(values)

    return Standing(
        draft_id=draft_id,
        task_fit=mean([one.task_fit for one in marks]),
        support=mean([one.support for one in marks]),
        clarity=mean([one.clarity for one in marks]),
        mean=mean(totals),
        spread=max(totals) - min(totals),
    )


def _place(total: Fraction, support: Fraction, tokens: Mapping[str, int], draft_id: str) -> tuple[object, ...]:
    """Sorts the better draft first; the order of the tie rules stands here and nowhere else."""
    return -total, -support, tokens[draft_id], draft_id


def _first(ballot: Ballot, tokens: Mapping[str, int]) -> str:
    return min(
        ballot.marks,
        key=lambda draft_id: _place(ballot.marks[draft_id].total, ballot.marks[draft_id].support, tokens, draft_id),
    )


def _tie_break(ranking: Sequence[Standing], tokens: Mapping[str, int]) -> str:
    if len(ranking) < 2 or ranking[0].mean != ranking[1].mean:
        return ""
    first, second = ranking[0], ranking[1]
    if first.support != second.support:
        return "support"
    return "fewer tokens" if tokens[first.draft_id] != tokens[second.draft_id] else "draft id"


def _is_contested(ranking: Sequence[Standing], ballots: Sequence[Ballot], firsts: Mapping[str, str]) -> bool:
    if len(ranking) < 2:
        return False
    by_juror: dict[str, set[str]] = {}
    for ballot in ballots:
        by_juror.setdefault(ballot.juror_id, set()).add(firsts[ballot.ballot_id])
    order_decided = any(len(named) > 1 for named in by_juror.values())
    return order_decided or ranking[0].mean - ranking[1].mean < ranking[0].spread


def _all(number: int) -> str:
    return "the only one" if number == 1 else f"all {number}"
