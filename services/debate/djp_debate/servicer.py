"""DebateService on the wire: protobuf to domain and back, and what a request must keep to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.llm.convert import bound_to_proto, to_proto
from djp.llm.errors import UnknownModel, UnpricedModel
from djp.llm.offline import DEBATER_MODELS, JUROR_MODELS
from djp.mesh.errors import InvalidInput
from djp.v1 import common_pb2, debate_pb2, debate_pb2_grpc
from djp_debate.debate import debate, project
from djp_debate.errors import AllDebatersFailed
from djp_debate.model import (
    DEFAULT_TEMPERATURE,
    Brief,
    Debater,
    Delta,
    Draft,
    Event,
    Failed,
    Finished,
    Passage,
    Started,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

    from djp.llm.prices import PriceBook

_NANO_USD_PER_USD = 10**9


class DebateServicer(debate_pb2_grpc.DebateServiceServicer):
    """Keeps nothing between calls: a request carries all that it is about."""

    def __init__(self, prices: PriceBook) -> None:
        self._prices = prices

    async def Debate(
        self,
        request: debate_pb2.DebateRequest,
        context: grpc.aio.ServicerContext[debate_pb2.DebateRequest, debate_pb2.DebateResponse],
    ) -> AsyncIterator[debate_pb2.DebateResponse]:
        """Events as they happen; the last one has every draft, in the order of the debaters."""
        brief = _brief(request)
        drafts = {draft.debater_id: draft for draft in request.completed_drafts}
        failures = []
        async for event in debate(brief, self._prices):
            match event:
                case Finished():
                    drafts[event.draft.debater_id] = _draft(event.draft)
                case Failed():
                    failures.append(event.message)
            yield _response(event)
        if not drafts:
            raise AllDebatersFailed(failures)
        in_order = [drafts[one.debater_id] for one in brief.debaters if one.debater_id in drafts]
        yield debate_pb2.DebateResponse(finished=debate_pb2.DebateFinished(drafts=in_order, rounds=1))

    async def ProjectDebate(
        self,
        request: debate_pb2.ProjectDebateRequest,
        context: grpc.aio.ServicerContext[debate_pb2.ProjectDebateRequest, debate_pb2.ProjectDebateResponse],
    ) -> debate_pb2.ProjectDebateResponse:
        """One call for each debater whose draft is missing."""
        bound = await project(_brief(request.debate), self._prices)
        return debate_pb2.ProjectDebateResponse(bound=bound_to_proto(bound))

    async def ListModels(
        self,
        request: debate_pb2.ListModelsRequest,
        context: grpc.aio.ServicerContext[debate_pb2.ListModelsRequest, debate_pb2.ListModelsResponse],
    ) -> debate_pb2.ListModelsResponse:
        """The offline models, the jurors' among them."""
        if request.provider not in ("", "offline"):
            raise InvalidInput(
                f"provider: there is no provider {request.provider[:80]!r}; there is: offline", field="provider"
            )
        return debate_pb2.ListModelsResponse(models=[self._model(name) for name in (*DEBATER_MODELS, *JUROR_MODELS)])

    def _model(self, name: str) -> debate_pb2.Model:
        model = debate_pb2.Model(model=name, reachable=True, offline=True)
        try:
            price = self._prices.price(name)
        except UnpricedModel as error:
            model.problem = error.message
        else:
            model.input_nano_usd_per_million = int(price.input * _NANO_USD_PER_USD)
            model.output_nano_usd_per_million = int(price.output * _NANO_USD_PER_USD)
        return model


def _brief(request: debate_pb2.DebateRequest) -> Brief:
    """The request, if it asks for nothing that this service does not do. Raises InvalidInput, UnknownModel."""
    if request.rounds > 1:
        raise InvalidInput("rounds: this release debates one round; give 1", field="rounds")
    if request.HasField("agreement_threshold"):
        message = "agreement_threshold: has no meaning in one round; leave it out"
        raise InvalidInput(message, field="agreement_threshold")
    debaters = tuple(_debater(number, debater) for number, debater in enumerate(request.debaters))
    ids = [debater.debater_id for debater in debaters]
    for number, debater_id in enumerate(ids):
        if debater_id in ids[:number]:
            field = f"debaters[{number}].debater_id"
            raise InvalidInput(f"{field}: {debater_id!r} is there twice; give each debater its own", field=field)
    return Brief(
        run_id=request.run_id,
        task=request.task,
        debaters=debaters,
        max_tokens=request.max_tokens,
        passages=tuple(_passage(passage) for passage in request.passages),
        required_citations=request.required_citations,
        written=frozenset(_written(request, ids)),
    )


def _debater(number: int, debater: debate_pb2.Debater) -> Debater:
    place = f"debaters[{number}]"
    if debater.model not in DEBATER_MODELS:
        raise UnknownModel(debater.model, DEBATER_MODELS, field=f"{place}.model")
    if debater.fallback_models:
        field = f"{place}.fallback_models"
        raise InvalidInput(f"{field}: an offline model needs no fallback; leave it out", field=field)
    return Debater(
        debater_id=debater.debater_id,
        model=debater.model,
        role=debater.role,
        temperature=debater.temperature if debater.HasField("temperature") else DEFAULT_TEMPERATURE,
        seed=debater.seed,
    )


def _written(request: debate_pb2.DebateRequest, ids: list[str]) -> list[str]:
    """The debaters whose drafts are completed, each draft checked to belong to this debate."""
    written: list[str] = []
    for number, draft in enumerate(request.completed_drafts):
        place = f"completed_drafts[{number}]"
        if draft.debater_id not in ids:
            field = f"{place}.debater_id"
            raise InvalidInput(f"{field}: {draft.debater_id!r} is no debater of this debate", field=field)
        if draft.round > request.rounds:
            field = f"{place}.round"
            raise InvalidInput(f"{field}: {draft.round} is past the {request.rounds} of this debate", field=field)
        if draft.debater_id in written:
            raise InvalidInput(f"{place}: {draft.debater_id!r} has a draft of this round already", field=place)
        written.append(draft.debater_id)
    return written


def _passage(passage: common_pb2.Passage) -> Passage:
    return Passage(
        passage_id=passage.passage_id,
        document_id=passage.document_id,
        title=passage.title or passage.path,
        text=passage.text,
        start=passage.start,
    )


def _draft(draft: Draft) -> debate_pb2.Draft:
    return debate_pb2.Draft(
        draft_id=draft.draft_id,
        debater_id=draft.debater_id,
        model=draft.model,
        round=draft.round,
        text=draft.text,
        evidence=draft.evidence,
        safety_flags=draft.safety_flags,
        tokens=draft.tokens,
    )


def _response(event: Event) -> debate_pb2.DebateResponse:
    match event:
        case Started(debater, round_):
            return debate_pb2.DebateResponse(
                started=debate_pb2.DebaterStarted(debater_id=debater.debater_id, model=debater.model, round=round_)
            )
        case Delta(debater_id, round_, text):
            return debate_pb2.DebateResponse(
                delta=debate_pb2.DraftDelta(debater_id=debater_id, round=round_, text=text)
            )
        case Finished(draft, calls):
            return debate_pb2.DebateResponse(
                draft=debate_pb2.DraftFinished(draft=_draft(draft), calls=map(to_proto, calls))
            )
        case Failed(debater, round_, message, calls):
            return debate_pb2.DebateResponse(
                failed=debate_pb2.DraftFailed(
                    debater_id=debater.debater_id,
                    round=round_,
                    model=debater.model,
                    reason=common_pb2.ERROR_REASON_PROVIDER_FAILED,
                    message=message,
                    calls=map(to_proto, calls),
                )
            )
