"""JudgeService on the wire: requests to cases, ballots and verdicts to protobuf."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from djp.llm.convert import bound_to_proto, to_proto
from djp.v1 import judge_pb2, judge_pb2_grpc
from djp_judge.jury import Cast, judge
from djp_judge.offline import OfflineJuror
from djp_judge.projection import bytes_read, project
from djp_judge.requests import read_case, read_passages, read_seats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

    from djp.llm.prices import PriceBook
    from djp_judge.model import Ballot, Verdict


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
        case = await asyncio.to_thread(read_case, request)
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
            read_seats(request.jurors),
            bytes_read(request.task, read_passages(request.passages)),
            request.drafts,
            request.draft_max_tokens,
            request.orders,
        )
        return judge_pb2.ProjectJudgeResponse(bound=bound_to_proto(bound))


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
