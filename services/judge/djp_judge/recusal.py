"""Which drafts a juror leaves to others, because they are of its own model family."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from djp_judge.model import Candidate, Seat


def recusals(candidates: Sequence[Candidate], seats: Sequence[Seat]) -> Mapping[str, frozenset[str]]:
    """For each juror's id the ids of the drafts that it does not score.

    A draft is left to the jurors who are not of its family. If every juror is, all of them score it: a partial mark,
    told by nobody better, is more than none. Each draft is decided for itself, so a juror may be left with one draft,
    which it scores by the rubric as it would among others, or with none: then it casts no vote.
    """
    own: dict[str, set[str]] = {seat.juror_id: set() for seat in seats}
    for candidate in candidates:
        partial = [seat.juror_id for seat in seats if candidate.family in seat.families]
        if len(partial) < len(seats):
            for juror_id in partial:
                own[juror_id].add(candidate.draft_id)
    return {juror_id: frozenset(draft_ids) for juror_id, draft_ids in own.items()}
