"""JudgeService on the wire: what of a request is refused, requests to cases, ballots and verdicts to protobuf."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from djp.llm.asking import CallFailed, CallStarted
from djp.llm.convert import bound_to_proto, prices_to_proto, to_proto
from djp.llm.errors import UnknownModel
from djp.llm.families import family_of
from djp.llm.offline import DEBATER_MODELS, JUROR_MODELS
from djp.mesh.errors import DjpError, InvalidInput
from djp.v1 import judge_pb2, judge_pb2_grpc
from djp_judge.jury import Case, Cast, Juror, ballot_id, judge
from djp_judge.model import Ballot, Candidate, Marks, Passage, Rules, Seat, points
from djp_judge.model_juror import ModelJuror
from djp_judge.offline import OfflineJuror
from djp_judge.projection import project

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    import grpc

    from djp.llm.llm import Llm
    from djp.llm.models import Model
    from djp.v1 import common_pb2
    from djp_judge.model import Verdict

_SUM_TOLERANCE = points(0.02)
"""A stated total may differ from the sum of its three marks by their rounding to hundredths, and no more."""


class JudgeServicer(judge_pb2_grpc.JudgeServiceServicer):
    """Judges with offline jurors and with models. Keeps nothing between calls."""

    def __init__(self, llm: Llm) -> None:
        self._llm = llm

    async def Judge(
        self,
        request: judge_pb2.JudgeRequest,
        context: grpc.aio.ServicerContext[judge_pb2.JudgeRequest, judge_pb2.JudgeResponse],
    ) -> AsyncIterator[judge_pb2.JudgeResponse]:
        """Each call before it is made, each ballot as it is cast, then the verdict."""
        case, jurors = await asyncio.to_thread(self._case, request)
        async with aclosing(judge(case, jurors)) as events:
            async for event in events:
                match event:
                    case CallStarted(call):
                        yield judge_pb2.JudgeResponse(call_started=to_proto(call))
                    case CallFailed(call):
                        yield judge_pb2.JudgeResponse(call_failed=to_proto(call))
                    case Cast(ballot, calls):
                        cast = judge_pb2.BallotCast(ballot=_ballot(ballot), calls=map(to_proto, calls))
                        yield judge_pb2.JudgeResponse(ballot=cast)
                    case verdict:
                        yield judge_pb2.JudgeResponse(verdict=_verdict(verdict))

    async def ProjectJudge(
        self,
        request: judge_pb2.ProjectJudgeRequest,
        context: grpc.aio.ServicerContext[judge_pb2.ProjectJudgeRequest, judge_pb2.ProjectJudgeResponse],
    ) -> judge_pb2.ProjectJudgeResponse:
        """The most that the judgement could cost."""
        return await asyncio.to_thread(self._project, request)

    def _project(self, request: judge_pb2.ProjectJudgeRequest) -> judge_pb2.ProjectJudgeResponse:
        _, jurors = self._jury(request.jurors, request.task, _passages(request.passages))
        bound = project(jurors.values(), request.drafts, request.draft_max_tokens, request.orders)
        names = {name for juror in request.jurors for name in (juror.model, *juror.fallback_models)}
        prices = prices_to_proto(self._llm.catalogue.model(name, field="jurors") for name in names)
        return judge_pb2.ProjectJudgeResponse(bound=bound_to_proto(bound), prices=prices)

    def _case(self, request: judge_pb2.JudgeRequest) -> tuple[Case, dict[str, Juror]]:
        """The case that a request describes, and its jurors by id.

        Raises:
            InvalidInput: an id is missing or twice, or a field contradicts another one.
            UnknownModel, UnpricedModel, ProviderNotConfigured: a juror's model cannot be called.
        """
        if request.max_words and request.min_words > request.max_words:
            raise InvalidInput(
                f"min_words: {request.min_words} is more than max_words, {request.max_words}; no draft could keep to "
                "both",
                field="min_words",
            )
        passages = _passages(request.passages)
        seats, jurors = self._jury(request.jurors, request.task, passages)
        case = Case(
            run_id=request.run_id,
            task=request.task,
            candidates=self._candidates(request.candidates),
            seats=seats,
            rules=Rules(
                required_citations=request.required_citations,
                blocking_safety_flags=tuple(request.blocking_safety_flags),
                min_words=request.min_words,
                max_words=request.max_words,
            ),
            passages=passages,
            orders=request.orders,
            seed=request.seed,
            completed=_completed(request.completed_ballots, seats, request.orders),
            fast_path_margin=points(request.fast_path_margin) if request.HasField("fast_path_margin") else None,
            attempt=max(1, request.attempt),
        )
        return case, jurors

    def _jury(
        self, jurors: Iterable[judge_pb2.Juror], task: str, passages: Sequence[Passage]
    ) -> tuple[tuple[Seat, ...], dict[str, Juror]]:
        """The jury. Raises as `_case` does."""
        seats: list[Seat] = []
        opened: dict[str, Juror] = {}
        offline: OfflineJuror | None = None
        for number, juror in enumerate(jurors):
            field = f"jurors[{number}]"
            if juror.juror_id in opened:
                raise InvalidInput(
                    f"{field}.juror_id: {juror.juror_id!r} is there twice; give every juror an id of its own",
                    field=f"{field}.juror_id",
                )
            models = self._models(juror, field)
            if models[0].offline:
                offline = opened[juror.juror_id] = offline or OfflineJuror(models[0], task, passages)
                families: frozenset[str] = frozenset()  # it measures, so it has no favourites
            else:
                opened[juror.juror_id] = ModelJuror(self._llm.asker, models, task, passages, juror.temperature)
                families = frozenset(model.family for model in models)
            seats.append(Seat(juror.juror_id, models[0].name, families))
        return tuple(seats), opened

    def _models(self, juror: judge_pb2.Juror, field: str) -> list[Model]:
        """The juror's model and its fallbacks. Raises as `_case` does."""
        names = [juror.model, *juror.fallback_models]
        places = [f"{field}.model", *(f"{field}.fallback_models[{at}]" for at in range(len(names) - 1))]
        for name, place in zip(names, places, strict=True):
            if name in DEBATER_MODELS:
                raise UnknownModel(name, JUROR_MODELS, field=place)
        if len(names) > 1 and not set(JUROR_MODELS).isdisjoint(names):
            place = f"{field}.fallback_models"
            raise InvalidInput(
                f"{place}: an offline juror never fails, and stands in for no other; leave it out", field=place
            )
        models = [self._llm.catalogue.model(name, field=place) for name, place in zip(names, places, strict=True)]
        fixed = next((one.name for one in models if one.offline or not one.temperature), "")
        if juror.temperature and fixed:
            place = f"{field}.temperature"
            raise InvalidInput(f"{place}: {fixed} takes no temperature; leave it out or give 0", field=place)
        return models

    def _candidates(self, candidates: Iterable[judge_pb2.Candidate]) -> tuple[Candidate, ...]:
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
                family=self._family(draft.model),
                names=(draft.draft_id, draft.debater_id, draft.model),
            )
        return tuple(read.values())

    def _family(self, name: str) -> str:
        """The family of a draft's model; one that is not configured here is judged by its name."""
        try:
            return self._llm.catalogue.model(name).family
        except DjpError:
            provider, _, own = name.partition("/")
            return family_of(provider, own)


def _passages(passages: Iterable[common_pb2.Passage]) -> tuple[Passage, ...]:
    """Title and text: all that a juror gets of a passage."""
    return tuple(Passage(passage.title, passage.text) for passage in passages)


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
    return Ballot(
        ballot_id=ballot.ballot_id,
        juror_id=ballot.juror_id,
        model=ballot.model,
        order=tuple(ballot.order),
        marks=marks,
        abstain_reason=reason,
        recused=tuple(ballot.recused_draft_ids),
    )


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
        recused_draft_ids=ballot.recused,
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
                ballots=entry.ballots,
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
        effective_jurors=verdict.effective_jurors,
    )
