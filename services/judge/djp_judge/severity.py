"""Takes the jurors' severity out of their marks, for juries whose jurors scored different drafts."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def without_severity(totals: Sequence[Mapping[str, Fraction]], reference: str) -> dict[str, Fraction]:
    """How many points each draft is better than the `reference`, by the least squares of total = draft + ballot.

    `totals` holds one mapping of draft ids to points for each ballot. A ballot that is severe throughout is so much
    lower in all of its totals, which the model takes out; the mean of a draft that only severe jurors scored is then
    no lower for it. Exact. Drafts that no chain of ballots connects with the reference cannot be compared with it and
    are not in the result. (The additive two-way model for unbalanced data: Yates 1934, "The analysis of multiple
    classifications with unequal numbers in the different classes", J. Am. Stat. Assoc. 29.)
    """
    if all(set(ballot) == set(totals[0]) for ballot in totals):  # then the solution is the difference of the means
        sums = {draft: sum((ballot[draft] for ballot in totals), Fraction(0)) for draft in totals[0]}
        return {draft: (points - sums[reference]) / len(totals) for draft, points in sums.items()}
    drafts = _connected(totals, reference)
    place = {draft: number for number, draft in enumerate(sorted(drafts - {reference}))}
    size = len(place)
    # Normal equations with the ballots eliminated; the reference is 0, so it has no row.
    rows = [[Fraction(0)] * (size + 1) for _ in range(size)]
    for ballot in totals:
        if not drafts & set(ballot):
            continue
        mean = sum(ballot.values(), Fraction(0)) / len(ballot)
        for draft, total in ballot.items():
            if draft == reference:
                continue
            row = rows[place[draft]]
            row[place[draft]] += 1
            row[size] += total - mean
            for other in ballot:
                if other != reference:
                    row[place[other]] -= Fraction(1, len(ballot))
    solved = _solve(rows)
    return {reference: Fraction(0), **{draft: solved[number] for draft, number in place.items()}}


def _connected(totals: Sequence[Mapping[str, Fraction]], reference: str) -> set[str]:
    reached, grew = {reference}, True
    while grew:
        size = len(reached)
        for ballot in totals:
            if reached & set(ballot):
                reached |= set(ballot)
        grew = len(reached) > size
    return reached


def _solve(rows: list[list[Fraction]]) -> list[Fraction]:
    """Gauss-Jordan elimination. The matrix is that of a connected graph without one node, so it has full rank."""
    for at in range(len(rows)):
        pivot = next(number for number in range(at, len(rows)) if rows[number][at])
        rows[at], rows[pivot] = rows[pivot], rows[at]
        rows[at] = [value / rows[at][at] for value in rows[at]]
        for number, row in enumerate(rows):
            if number != at and row[at]:
                rows[number] = [value - row[at] * own for value, own in zip(row, rows[at], strict=True)]
    return [row[-1] for row in rows]
