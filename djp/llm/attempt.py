"""One attempt at a call: listens to the answer until the deadline, and says what it cost."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from djp.llm.calls import ModelCall, Usage
from djp.llm.provider import ProviderError, Reply
from djp.llm.tokens import MAX_BYTES_PER_TOKEN, utf8_bytes
from djp.mesh import semconv, telemetry
from djp.mesh.deadline import remaining_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.trace import Span

    from djp.llm.models import Model
    from djp.llm.provider import Provider, Question, Stop

_log = logging.getLogger(__name__)

_SLACK_BYTES = 65_536  # for schemas and white space, which have more bytes a token than prose


@dataclass(frozen=True)
class Succeeded:
    """A whole answer, and the call with what it cost."""

    call: ModelCall
    text: str
    stop: Stop


@dataclass(frozen=True)
class Failed:
    """Why there is no whole answer, what came of it, and the call with what it cost, or can have cost at most."""

    call: ModelCall
    error: ProviderError
    partial_text: str


async def attempt(
    provider: Provider, model: Model, question: Question, call: ModelCall, tell: Callable[[str], None]
) -> Succeeded | Failed:
    """Make a `call` that stands at its bound, and tell the answer's pieces as they come. One span, without text."""
    began = time.perf_counter()
    pieces: list[str] = []
    with telemetry.span(f"chat {model.name}", **_attributes(model, question, call.attempt)) as span:
        try:
            reply = await _listen(provider, model, question, pieces, tell)
        except ProviderError as error:
            ended = replace(call, duration=_since(began), error=error.message)
            if not error.billed:
                ended = replace(ended, usage=Usage(0), cost_nano_usd=0, usage_unknown=False)
            _note(span, ended, "error")
            return Failed(ended, error, "".join(pieces))
        ended = replace(call, duration=_since(began))
        if reply.usage is not None:
            cost = model.price.cost(reply.usage)
            ended = replace(ended, usage=reply.usage, cost_nano_usd=cost, usage_unknown=False)
        _note(span, ended, reply.stop)
    if ended.cost_nano_usd > call.bound_nano_usd:
        _log.warning(
            "call %s of %s cost %d nano-dollars, and its bound was %d: look at its tokenizer, template_tokens, "
            "thinking_tokens and price in providers.yaml",
            *(call.call_id, call.model, ended.cost_nano_usd, call.bound_nano_usd),
        )
    return Succeeded(ended, "".join(pieces), reply.stop)


def output_tokens_limit(model: Model, question: Question) -> int:
    """The most output tokens that an answer can have, with what the model thinks."""
    return question.max_tokens + model.thinking_tokens


async def _listen(
    provider: Provider, model: Model, question: Question, pieces: list[str], tell: Callable[[str], None]
) -> Reply:
    """The reply, once every piece of the answer is in `pieces` and told. Raises ProviderError."""
    most = _SLACK_BYTES + 4 * MAX_BYTES_PER_TOKEN * question.max_tokens
    size = 0
    try:
        async with asyncio.timeout(remaining_s()), aclosing(provider.ask(model, question)) as answer:
            async for piece in answer:
                if isinstance(piece, Reply):
                    return piece
                size += utf8_bytes(piece)
                if size > most:
                    told = f"the answer is longer than {most} bytes, which no {question.max_tokens} tokens are"
                    raise ProviderError(told, passing=False, billed=True)
                pieces.append(piece)
                tell(piece)
    except TimeoutError as error:
        told = "the answer was not whole when the time of the call was over"
        raise ProviderError(told, passing=False, billed=True) from error
    raise ProviderError("the answer ended without its end", passing=True, billed=True)


def _since(began: float) -> timedelta:
    return timedelta(seconds=time.perf_counter() - began)


def _attributes(model: Model, question: Question, number: int) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        semconv.GEN_AI_OPERATION_NAME: "chat",
        semconv.GEN_AI_PROVIDER_NAME: model.provider,
        semconv.GEN_AI_REQUEST_MODEL: model.name,
        semconv.GEN_AI_REQUEST_MAX_TOKENS: question.max_tokens,
        semconv.DJP_CALL_ATTEMPT: number,
    }
    if question.temperature is not None:
        attributes[semconv.GEN_AI_REQUEST_TEMPERATURE] = question.temperature
    if question.seed is not None:
        attributes[semconv.GEN_AI_REQUEST_SEED] = question.seed
    return attributes


def _note(span: Span, call: ModelCall, finish: str) -> None:
    span.set_attribute(semconv.GEN_AI_USAGE_INPUT_TOKENS, call.usage.input_tokens)
    span.set_attribute(semconv.GEN_AI_USAGE_OUTPUT_TOKENS, call.usage.output_tokens)
    span.set_attribute(semconv.GEN_AI_RESPONSE_FINISH_REASONS, [finish])
    span.set_attribute(semconv.DJP_COST_NANO_USD, call.cost_nano_usd)
    span.set_attribute(semconv.DJP_USAGE_UNKNOWN, call.usage_unknown)
