"""From protobuf requests to a case, and what of a request is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.llm.errors import UnknownModelError
from djp.llm.offline import JUROR_MODELS
from djp.mesh.errors import InvalidInput
from djp_judge.jury import Case, ballot_id
from djp_judge.model import Ballot, Candidate, Marks, Passage, Rules, Seat, points

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from djp.v1 import common_pb2, judge_pb2

_SUM_TOLERANCE = points(0.02)
"""A stated total may differ from the sum of its three marks by their rounding to hundredths, and no more."""


def read_case(request: judge_pb2.JudgeRequest) -> Case:
    """The case that a request describes.

    Raises:
        InvalidInput: an id is missing or twice, a field contradicts another one, or a field is not supported yet.
        UnknownModelError: a juror's model does not exist.
    """
    seats = read_seats(request.jurors)
    if request.max_words and request.min_words > request.max_words:
        raise InvalidInput(
            f"min_words: {request.min_words} is more than max_words, {request.max_words}; no draft could keep to both",
            field="min_words",
        )
    return Case(
        run_id=request.run_id,
        task=request.task,
        candidates=_candidates(request.candidates),
        seats=seats,
        rules=Rules(
            required_citations=request.required_citations,
            blocking_safety_flags=tuple(request.blocking_safety_flags),
            min_words=request.min_words,
            max_words=request.max_words,
        ),
        passages=read_passages(request.passages),
        orders=request.orders,
        seed=request.seed,
        completed=_completed(request.completed_ballots, seats, request.orders),
        fast_path_margin=points(request.fast_path_margin) if request.HasField("fast_path_margin") else None,
    )


def read_seats(jurors: Iterable[judge_pb2.Juror]) -> tuple[Seat, ...]:
    """The jury. Raises InvalidInput and UnknownModelError as `read_case` does."""
    seats: dict[str, Seat] = {}
    for number, juror in enumerate(jurors):
        field = f"jurors[{number}]"
        if juror.juror_id in seats:
            raise InvalidInput(
                f"{field}.juror_id: {juror.juror_id!r} is there twice; give every juror an id of its own",
                field=f"{field}.juror_id",
            )
        if juror.model not in JUROR_MODELS:
            raise UnknownModelError(juror.model, JUROR_MODELS, field=f"{field}.model")
        if juror.fallback_models:
            raise InvalidInput(
                f"{field}.fallback_models: not supported yet; leave it empty", field=f"{field}.fallback_models"
            )
        if juror.temperature:
            raise InvalidInput(
                f"{field}.temperature: {juror.model} measures and has none; leave it out or give 0",
                field=f"{field}.temperature",
            )
        seats[juror.juror_id] = Seat(juror.juror_id, juror.model)
    return tuple(seats.values())


def read_passages(passages: Iterable[common_pb2.Passage]) -> tuple[Passage, ...]:
    """Title and text: all that a juror gets of a passage."""
    return tuple(Passage(passage.title, passage.text) for passage in passages)


def _candidates(candidates: Iterable[judge_pb2.Candidate]) -> tuple[Candidate, ...]:
    read: dict[str, Candidate] = {}
    for number, candidate in enumerate(candidates):
        draft, field = candidate.draft, f"candidates[{number}].draft.draft_id"
        if not draft.draft_id:
            raise InvalidInput(f"{field}: empty; give every draft an id of its own", field=field)
        if draft.draft_id in read:
            raise InvalidInput(
                f"{field}: {draft.draft_id!r} is there twice; give every draft an id of its own", field=field
            )
        read[draft.draft_id] = Candidate(
            draft_id=draft.draft_id,
            text=draft.text,
            tokens=draft.tokens,
            resolved_citations=candidate.resolved_citations,
            safety_flags=tuple(draft.safety_flags),
        )
    return tuple(read.values())


def _completed(ballots: Iterable[judge_pb2.Ballot], seats: Sequence[Seat], orders: int) -> dict[str, Ballot]:
    expected = {ballot_id(seat.juror_id, order): seat for seat in seats for order in range(1, orders + 1)}
    completed: dict[str, Ballot] = {}
    for number, ballot in enumerate(ballots):
        field = f"completed_ballots[{number}]"
        seat = expected.get(ballot.ballot_id)
        if seat is None or ballot.juror_id != seat.juror_id:
            raise InvalidInput(
                f"{field}: {ballot.ballot_id!r} of juror {ballot.juror_id!r} is no ballot of this jury; pass those "
                "of an earlier attempt with the same jurors and orders, as they came",
                field=f"{field}.ballot_id",
            )
        if ballot.ballot_id in completed:
            raise InvalidInput(
                f"{field}: {ballot.ballot_id!r} is there twice; pass it once", field=f"{field}.ballot_id"
            )
        if ballot.recused_draft_ids:
            raise InvalidInput(
                f"{field}.recused_draft_ids: not supported yet; leave it empty", field=f"{field}.recused_draft_ids"
            )
        completed[ballot.ballot_id] = _ballot(ballot)
    return completed


def _ballot(ballot: judge_pb2.Ballot) -> Ballot:
    reason = (ballot.abstain_reason or "it gave no reason") if ballot.abstained else ""
    marks: dict[str, Marks] = {}
    for score in ballot.scores:
        read = Marks(points(score.task_fit), points(score.support), points(score.clarity), score.reason)
        if score.draft_id in marks:
            reason = reason or "it scores a draft twice"
        if abs(points(score.total) - read.total) > _SUM_TOLERANCE:
            reason = reason or "a total is not the sum of its scores"
        marks[score.draft_id] = read
    return Ballot(ballot.ballot_id, ballot.juror_id, ballot.model, tuple(ballot.order), marks, reason)
