"""From ballots to the verdict: means, places, ties, agreement, and whether the result can be trusted."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from djp_judge.model import Marks, Standing, Verdict
from djp_judge.severity import without_severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from djp_judge.model import Ballot, Candidate, Disqualification


def checked(ballot: Ballot, draft_ids: Sequence[str]) -> Ballot:
    """The ballot, or an abstention in its place if its marks cannot be counted: never an arbitrary number.

    Every one of the drafts that its juror did not leave to others must have marks within the rubric, and nothing else
    may have any.
    """
    if ballot.abstained:
        return replace(ballot, marks={})
    expected = set(draft_ids) - set(ballot.recused)
    missing, others = expected - set(ballot.marks), set(ballot.marks) - expected
    reason = ""
    if missing or others or not expected:
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
    """The verdict of checked ballots over the candidates that the rules left; the same in whatever order they came.

    A tie on the mean is broken by support, then by fewer tokens, then by draft id; `tie_break` says which of them
    decided between the first two, and is empty when their means differ. `agreement` is over the ballots that scored the
    winner. When the verdict is contested `_is_contested` says.
    """
    valid = [ballot for ballot in ballots if not ballot.abstained]
    base = Verdict(
        disqualified=tuple(disqualified),
        valid_ballots=len(valid),
        abstentions=len(ballots) - len(valid),
        effective_jurors=len({ballot.juror_id for ballot in valid}),
        fast_path=fast_path,
    )
    if not candidates:
        return replace(base, reason=f"no draft is left: the rules disqualified {_all(len(disqualified))}")
    if not valid:
        why = "; ".join(sorted({ballot.abstain_reason for ballot in ballots}))
        return replace(base, reason=f"no juror voted: {why}")
    tokens = {candidate.draft_id: candidate.tokens for candidate in candidates}
    marks = {draft_id: [one.marks[draft_id] for one in valid if draft_id in one.marks] for draft_id in tokens}
    ranking = sorted(
        (_standing(draft_id, given) for draft_id, given in marks.items() if given),
        key=lambda entry: _place(entry.mean, entry.support, tokens, entry.draft_id),
    )
    winner = ranking[0].draft_id
    firsts = {ballot.ballot_id: _first(ballot.marks, tokens) for ballot in valid}
    return replace(
        base,
        winner_draft_id=winner,
        ranking=tuple(ranking),
        contested=_is_contested(ranking, valid, tokens),
        agreement=Fraction(sum(first == winner for first in firsts.values()), ranking[0].ballots),
        tie_break=_tie_break(ranking, tokens),
        winner_by_ballot=firsts,
    )


def clear_lead(candidates: Sequence[Candidate], ballots: Sequence[Ballot]) -> Fraction | None:
    """Mean points between the first and the second so far; None without a second, or while the first is contested."""
    verdict = decide(candidates, (), ballots)
    if len(verdict.ranking) < 2 or verdict.contested:
        return None
    return verdict.ranking[0].mean - verdict.ranking[1].mean


def _standing(draft_id: str, marks: Sequence[Marks]) -> Standing:
    mean, totals = _mean(marks), [one.total for one in marks]
    return Standing(
        draft_id=draft_id,
        task_fit=mean.task_fit,
        support=mean.support,
        clarity=mean.clarity,
        mean=mean.total,
        spread=max(totals) - min(totals),
        ballots=len(marks),
    )


def _mean(marks: Sequence[Marks]) -> Marks:
    def mean(values: Iterable[Fraction]) -> Fraction:
        return sum(values, Fraction(0)) / len(marks)

    return Marks(
        mean(one.task_fit for one in marks), mean(one.support for one in marks), mean(one.clarity for one in marks)
    )


def _place(total: Fraction, support: Fraction, tokens: Mapping[str, int], draft_id: str) -> tuple[object, ...]:
    """Sorts the better draft first; the order of the tie rules stands here and nowhere else."""
    return -total, -support, tokens[draft_id], draft_id


def _first(marks: Mapping[str, Marks], tokens: Mapping[str, int]) -> str:
    return min(marks, key=lambda draft_id: _place(marks[draft_id].total, marks[draft_id].support, tokens, draft_id))


def _tie_break(ranking: Sequence[Standing], tokens: Mapping[str, int]) -> str:
    if len(ranking) < 2 or ranking[0].mean != ranking[1].mean:
        return ""
    first, second = ranking[0], ranking[1]
    if first.support != second.support:
        return "support"
    return "fewer tokens" if tokens[first.draft_id] != tokens[second.draft_id] else "draft id"


def _is_contested(ranking: Sequence[Standing], ballots: Sequence[Ballot], tokens: Mapping[str, int]) -> bool:
    """Whether another draft could as well have won. One of these is enough:

    - the order decided: two views of one juror have different winners;
    - severity decided: the jurors scored different drafts, and without their severity another draft is first, or no
      chain of ballots connects some draft with the first, so that they cannot be compared;
    - the margin is inside the spread: the lead is smaller than what lies between the winner's totals in two views, from
      which the severity of their jurors is taken, because a severe juror lowers all drafts alike;
    - a draft was scored by nobody.

    A view is a ballot. But of a juror that saw every draft in every place equally often, the mean of its ballots is the
    one view: whatever a place is worth to it, every draft was given it as often, so no order is left that could have
    decided. That holds only where several jurors compared the first with another draft. Of an only one nothing but its
    ballots tells how steady it is.
    """
    if len(ranking) < len(tokens):
        return True
    if len(ranking) < 2:
        return False
    winner = ranking[0].draft_id
    better = without_severity([ballot.totals for ballot in ballots], winner)
    if len(better) < len(tokens) or max(better.values()) > 0:
        return True
    by_juror: defaultdict[str, list[Ballot]] = defaultdict(list)
    for ballot in ballots:
        by_juror[ballot.juror_id].append(ballot)
    comparing = {ballot.juror_id for ballot in ballots if winner in ballot.marks and len(ballot.marks) > 1}
    seen: list[Fraction] = []  # the winner's totals, from each juror's level
    for own in by_juror.values():
        views = _views(own, alone=len(comparing) < 2)
        if len({_first(view, tokens) for view in views}) > 1:
            return True
        levels = [total - better[draft_id] for ballot in own for draft_id, total in ballot.totals.items()]
        seen += [view[winner].total - sum(levels, Fraction(0)) / len(levels) for view in views if winner in view]
    return ranking[0].mean - ranking[1].mean < max(seen) - min(seen)


def _views(ballots: Sequence[Ballot], *, alone: bool) -> list[Mapping[str, Marks]]:
    drafts = set(ballots[0].marks)
    stood = Counter((place, draft_id) for ballot in ballots for place, draft_id in enumerate(ballot.order))
    in_every_place = len(stood) == len(drafts) ** 2 and len(set(stood.values())) == 1
    if alone or not in_every_place or any(set(ballot.marks) != drafts for ballot in ballots):
        return [ballot.marks for ballot in ballots]
    return [{draft_id: _mean([ballot.marks[draft_id] for ballot in ballots]) for draft_id in drafts}]


def _all(number: int) -> str:
    return "the only one" if number == 1 else f"all {number}"
