"""DebateService on the wire: protobuf to domain and back, and what a request must keep to."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from djp.llm.asking import CallFailed, CallStarted
from djp.llm.convert import bound_to_proto, prices_to_proto, to_proto
from djp.llm.errors import UnknownModel
from djp.llm.offline import DEBATER_MODELS, JUROR_MODELS
from djp.llm.text import sendable
from djp.llm.tokens import MAX_BYTES_PER_TOKEN, cut_to_bytes
from djp.mesh.errors import InvalidInput
from djp.money import NANO_PER_USD
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
    Over,
    Passage,
    Started,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import grpc

    from djp.llm.catalogue import ListedModel
    from djp.llm.llm import Llm
    from djp.llm.models import Model

_MAX_PARTIAL_BYTES = 1 << 18
_MAX_DRAFTS_BYTES = 15 << 20
"""Of a debate's drafts together: a message has at most 16 MiB, and they all go into one when a debate is resumed."""


class DebateServicer(debate_pb2_grpc.DebateServiceServicer):
    """Keeps nothing between calls: a request carries all that it is about."""

    def __init__(self, llm: Llm) -> None:
        self._llm = llm

    async def Debate(
        self,
        request: debate_pb2.DebateRequest,
        context: grpc.aio.ServicerContext[debate_pb2.DebateRequest, debate_pb2.DebateResponse],
    ) -> AsyncIterator[debate_pb2.DebateResponse]:
        """Events as they happen; the last one has each debater's last draft, in the order of the debaters."""
        failures = []
        async with aclosing(debate(self._brief(request), self._llm.asker)) as events:
            async for event in events:
                if isinstance(event, Failed):
                    failures.append(event.message)
                elif isinstance(event, Over) and not event.drafts:
                    raise AllDebatersFailed(failures)
                yield _response(event)

    async def ProjectDebate(
        self,
        request: debate_pb2.ProjectDebateRequest,
        context: grpc.aio.ServicerContext[debate_pb2.ProjectDebateRequest, debate_pb2.ProjectDebateResponse],
    ) -> debate_pb2.ProjectDebateResponse:
        """Every draft that is missing, in every round, with all attempts at it."""
        brief = self._brief(request.debate)
        bound = await project(brief, self._llm.asker)
        models = [model for debater in brief.debaters for model in debater.models]
        return debate_pb2.ProjectDebateResponse(bound=bound_to_proto(bound), prices=prices_to_proto(models))

    async def ListModels(
        self,
        request: debate_pb2.ListModelsRequest,
        context: grpc.aio.ServicerContext[debate_pb2.ListModelsRequest, debate_pb2.ListModelsResponse],
    ) -> debate_pb2.ListModelsResponse:
        """The models of every configured provider, and the offline ones, the jurors' among them."""
        listed = await self._llm.catalogue.list(request.provider, field="provider")
        return debate_pb2.ListModelsResponse(models=map(_listed, listed))

    def _brief(self, request: debate_pb2.DebateRequest) -> Brief:
        """The request as a brief.

        Raises:
            InvalidInput: an id is there twice, or a field contradicts another one.
            UnknownModel, UnpricedModel, ProviderNotConfigured: a debater's model cannot be called.
        """
        debaters = tuple(self._debater(number, debater) for number, debater in enumerate(request.debaters))
        ids = [debater.debater_id for debater in debaters]
        for number, debater_id in enumerate(ids):
            if debater_id in ids[:number]:
                field = f"debaters[{number}].debater_id"
                raise InvalidInput(f"{field}: {debater_id!r} is there twice; give each debater its own", field=field)
        most = _MAX_DRAFTS_BYTES // (MAX_BYTES_PER_TOKEN * len(debaters) * request.rounds)
        if request.max_tokens > most:
            raise InvalidInput(
                f"max_tokens: with {len(debaters)} debaters and {request.rounds} rounds at most {most}, for all drafts "
                "go into one message; give less, or fewer debaters or rounds",
                field="max_tokens",
            )
        return Brief(
            run_id=request.run_id,
            task=request.task,
            debaters=debaters,
            max_tokens=request.max_tokens,
            passages=tuple(_passage(passage) for passage in request.passages),
            required_citations=request.required_citations,
            rounds=request.rounds,
            agreement_threshold=request.agreement_threshold if request.HasField("agreement_threshold") else None,
            completed=_completed(request, ids),
            attempt=max(1, request.attempt),
        )

    def _debater(self, number: int, debater: debate_pb2.Debater) -> Debater:
        place = f"debaters[{number}]"
        models = [self._model(debater.model, f"{place}.model")]
        for at, name in enumerate(debater.fallback_models):
            field = f"{place}.fallback_models[{at}]"
            fallback = self._model(name, field)
            if models[0].offline or fallback.offline:
                raise InvalidInput(
                    f"{field}: an offline debater has no fallback and is none; leave it out", field=field
                )
            models.append(fallback)
        return Debater(
            debater_id=debater.debater_id,
            models=tuple(models),
            role=debater.role,
            temperature=debater.temperature if debater.HasField("temperature") else DEFAULT_TEMPERATURE,
            seed=debater.seed,
        )

    def _model(self, name: str, field: str) -> Model:
        if name in JUROR_MODELS:
            raise UnknownModel(name, DEBATER_MODELS, field=field)
        return self._llm.catalogue.model(name, field=field)


def _completed(request: debate_pb2.DebateRequest, ids: list[str]) -> dict[tuple[str, int], Draft]:
    """The completed drafts by debater and round, each checked to belong to this debate."""
    completed: dict[tuple[str, int], Draft] = {}
    for number, draft in enumerate(request.completed_drafts):
        place = f"completed_drafts[{number}]"
        if draft.debater_id not in ids:
            field = f"{place}.debater_id"
            raise InvalidInput(f"{field}: {draft.debater_id!r} is no debater of this debate", field=field)
        if draft.round > request.rounds:
            field = f"{place}.round"
            raise InvalidInput(f"{field}: {draft.round} is past the {request.rounds} of this debate", field=field)
        if (draft.debater_id, draft.round) in completed:
            raise InvalidInput(f"{place}: {draft.debater_id!r} has a draft of this round already", field=place)
        completed[draft.debater_id, draft.round] = Draft(
            draft_id=draft.draft_id,
            debater_id=draft.debater_id,
            model=draft.model,
            round=draft.round,
            text=draft.text,
            tokens=draft.tokens,
            evidence=tuple(draft.evidence),
            safety_flags=tuple(draft.safety_flags),
            confidence=draft.confidence if draft.HasField("confidence") else None,
        )
    return completed


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
        confidence=draft.confidence,
    )


def _listed(model: ListedModel) -> debate_pb2.Model:
    listed = debate_pb2.Model(
        model=model.name, reachable=model.reachable, problem=model.problem, offline=model.offline, family=model.family
    )
    if model.price:
        listed.input_nano_usd_per_million = int(model.price.input * NANO_PER_USD)
        listed.cached_input_nano_usd_per_million = int(model.price.cached_input * NANO_PER_USD)
        listed.output_nano_usd_per_million = int(model.price.output * NANO_PER_USD)
    return listed


def _response(event: Event) -> debate_pb2.DebateResponse:
    match event:
        case Started(debater, round_):
            return debate_pb2.DebateResponse(
                started=debate_pb2.DebaterStarted(debater_id=debater.debater_id, model=debater.model, round=round_)
            )
        case CallStarted(call):
            return debate_pb2.DebateResponse(call_started=to_proto(call))
        case CallFailed(call):
            return debate_pb2.DebateResponse(call_failed=to_proto(call))
        case Delta(debater_id, round_, text, attempt):
            return debate_pb2.DebateResponse(
                delta=debate_pb2.DraftDelta(debater_id=debater_id, round=round_, text=text, attempt=attempt)
            )
        case Finished(draft, calls):
            return debate_pb2.DebateResponse(
                draft=debate_pb2.DraftFinished(draft=_draft(draft), calls=map(to_proto, calls))
            )
        case Over(drafts, rounds, stopped_early, agreement):
            return debate_pb2.DebateResponse(
                finished=debate_pb2.DebateFinished(
                    drafts=map(_draft, drafts), rounds=rounds, stopped_early=stopped_early, agreement=agreement
                )
            )
        case Failed(debater, round_, message, calls, partial_text):
            return debate_pb2.DebateResponse(
                failed=debate_pb2.DraftFailed(
                    debater_id=debater.debater_id,
                    round=round_,
                    model=debater.model,
                    reason=common_pb2.ERROR_REASON_PROVIDER_FAILED,
                    message=message,
                    calls=map(to_proto, calls),
                    partial_text=_shown(partial_text),
                )
            )


def _shown(text: str) -> str:
    """As much of a text as a message should hold, without halves of characters."""
    return cut_to_bytes(sendable(text), _MAX_PARTIAL_BYTES)
