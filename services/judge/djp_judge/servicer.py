"""JudgeService on the wire: what of a request is refused, requests to cases, ballots and verdicts to protobuf."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from djp.llm.convert import bound_to_proto, to_proto
from djp.llm.errors import UnknownModel
from djp.llm.offline import JUROR_MODELS
from djp.mesh.errors import InvalidInput
from djp.v1 import judge_pb2, judge_pb2_grpc
from djp_judge.jury import Case, Cast, ballot_id, judge
from djp_judge.model import Ballot, Candidate, Marks, Passage, Rules, Seat, points
from djp_judge.offline import OfflineJuror
from djp_judge.projection import bytes_read, project

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    import grpc

    from djp.llm.prices import PriceBook
    from djp.v1 import common_pb2
    from djp_judge.model import Verdict

_SUM_TOLERANCE = points(0.02)
"""A stated total may differ from the sum of its three marks by their rounding to hundredths, and no more."""


class JudgeServicer(judge_pb2_grpc.JudgeServiceServicer):
    """Judges with the offline juror. Keeps nothing between calls."""

    def __init__(self, prices: PriceBook) -> None:
        self._prices = prices

    async def Judge(
        self,
        request: judge_pb2.JudgeRequest,
        context: grpc.aio.ServicerContext[judge_pb2.JudgeRequest, judge_pb2.JudgeResponse],
    ) -> AsyncIterator[judge_pb2.JudgeResponse]:
        """Each ballot as it is cast, then the verdict."""
        case = await asyncio.to_thread(_case, request)
        for seat in case.seats:
            self._prices.price(seat.model)  # refused before anything is called
        juror = OfflineJuror(case.task, case.passages)
        async for event in judge(case, {seat.model: juror for seat in case.seats}, self._prices):
            if isinstance(event, Cast):
                calls = [to_proto(call) for call in event.calls]
                yield judge_pb2.JudgeResponse(ballot=judge_pb2.BallotCast(ballot=_ballot(event.ballot), calls=calls))
            else:
                yield judge_pb2.JudgeResponse(verdict=_verdict(event))

    async def ProjectJudge(
        self,
        request: judge_pb2.ProjectJudgeRequest,
        context: grpc.aio.ServicerContext[judge_pb2.ProjectJudgeRequest, judge_pb2.ProjectJudgeResponse],
    ) -> judge_pb2.ProjectJudgeResponse:
        """The most that the judgement could cost."""
        bound = project(
            self._prices,
            _seats(request.jurors),
            bytes_read(request.task, _passages(request.passages)),
            request.drafts,
            request.draft_max_tokens,
            request.orders,
        )
        return judge_pb2.ProjectJudgeResponse(bound=bound_to_proto(bound))


def _case(request: judge_pb2.JudgeRequest) -> Case:
    """The case that a request describes.

    Raises:
        InvalidInput: an id is missing or twice, a field contradicts another one, or a field is not supported yet.
        UnknownModel: a juror's model does not exist.
    """
    seats = _seats(request.jurors)
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
        passages=_passages(request.passages),
        orders=request.orders,
        seed=request.seed,
        completed=_completed(request.completed_ballots, seats, request.orders),
        fast_path_margin=points(request.fast_path_margin) if request.HasField("fast_path_margin") else None,
    )


def _seats(jurors: Iterable[judge_pb2.Juror]) -> tuple[Seat, ...]:
    """The jury. Raises InvalidInput and UnknownModel as `_case` does."""
    seats: dict[str, Seat] = {}
    for number, juror in enumerate(jurors):
        field = f"jurors[{number}]"
        if juror.juror_id in seats:
            raise InvalidInput(
                f"{field}.juror_id: {juror.juror_id!r} is there twice; give every juror an id of its own",
                field=f"{field}.juror_id",
            )
        if juror.model not in JUROR_MODELS:
            raise UnknownModel(juror.model, JUROR_MODELS, field=f"{field}.model")
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


def _passages(passages: Iterable[common_pb2.Passage]) -> tuple[Passage, ...]:
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
        completed[ballot.ballot_id] = _read_ballot(ballot)
    return completed


def _read_ballot(ballot: judge_pb2.Ballot) -> Ballot:
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


def _ballot(ballot: Ballot) -> judge_pb2.Ballot:
    return judge_pb2.Ballot(
        ballot_id=ballot.ballot_id,
        juror_id=ballot.juror_id,
        model=ballot.model,
        order=ballot.order,
        scores=[
            judge_pb2.Score(
                draft_id=draft_id,
                task_fit=float(ballot.marks[draft_id].task_fit),
                support=float(ballot.marks[draft_id].support),
                clarity=float(ballot.marks[draft_id].clarity),
                total=float(ballot.marks[draft_id].total),
                reason=ballot.marks[draft_id].reason,
            )
            for draft_id in ballot.order
            if draft_id in ballot.marks
        ],
        abstained=ballot.abstained,
        abstain_reason=ballot.abstain_reason,
    )


def _verdict(verdict: Verdict) -> judge_pb2.Verdict:
    return judge_pb2.Verdict(
        winner_draft_id=verdict.winner_draft_id,
        ranking=[
            judge_pb2.Standing(
                draft_id=entry.draft_id,
                task_fit=float(entry.task_fit),
                support=float(entry.support),
                clarity=float(entry.clarity),
                mean=float(entry.mean),
                spread=float(entry.spread),
                ballots=verdict.valid_ballots,
            )
            for entry in verdict.ranking
        ],
        disqualified=[
            judge_pb2.Disqualification(draft_id=one.draft_id, rule=one.rule, reason=one.reason)
            for one in verdict.disqualified
        ],
        contested=verdict.contested,
        agreement=float(verdict.agreement),
        valid_ballots=verdict.valid_ballots,
        abstentions=verdict.abstentions,
        tie_break=verdict.tie_break,
        winner_by_ballot=verdict.winner_by_ballot,
        fast_path=verdict.fast_path,
        reason=verdict.reason,
    )
