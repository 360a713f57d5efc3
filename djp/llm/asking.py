"""Asks models: one question, as many attempts and fallbacks as it takes, each of them bounded, told and charged."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from djp.llm.bounds import Bound, bound_call
from djp.llm.calls import ModelCall, Usage, call_id
from djp.llm.provider import ProviderError, Reply
from djp.llm.tokens import MAX_BYTES_PER_TOKEN, prompt_bound, utf8_bytes
from djp.mesh import semconv, telemetry
from djp.mesh.deadline import remaining_s

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.trace import Span

    from djp.llm.models import Model
    from djp.llm.provider import Provider, Question, Stop


@dataclass(frozen=True)
class Asking:
    """For whom a question is asked. `parts` name this piece of work within the run, for example ("d1", 2).

    `run_attempt` counts the attempts at the run: after a crash the same piece of work makes calls of its own.
    """

    run_id: str
    stage: Literal["DEBATE", "JUDGE"]
    actor_id: str
    parts: tuple[object, ...]
    run_attempt: int = 1


@dataclass(frozen=True)
class CallStarted:
    """An attempt is about to be sent. The call stands at its bound until it is told again."""

    call: ModelCall


@dataclass(frozen=True)
class CallFailed:
    """An attempt failed, and another one follows."""

    call: ModelCall


@dataclass(frozen=True)
class Piece:
    """A further piece of the answer; that of a higher attempt begins the text anew."""

    attempt: int
    text: str


@dataclass(frozen=True)
class Answered:
    """The whole answer of the model that gave it, and every attempt."""

    text: str
    stop: Stop
    model: Model
    calls: tuple[ModelCall, ...]


@dataclass(frozen=True)
class GaveUp:
    """No model answered. `partial_text` is what the last attempt gave before it failed."""

    message: str
    calls: tuple[ModelCall, ...]
    partial_text: str


@dataclass(frozen=True)
class Retries:
    """The guide's retry settings: `max_retries` after the first attempt, waiting `backoff_factor` times longer each.

    The first wait is a second, or what the provider's Retry-After says; up to a quarter is added by chance, so that
    those who were refused together do not come back together.
    """

    max_retries: int = 3
    backoff_factor: float = 2.0
    first_wait_s: float = 1.0


_JITTER = 0.25
_SLACK_BYTES = 65_536


class _AttemptError(Exception):
    """Carries a failed attempt out of the retry loop's body."""

    def __init__(self, error: ProviderError, call: ModelCall, partial_text: str) -> None:
        super().__init__(error.message)
        self.error = error
        self.call = call
        self.partial_text = partial_text


class Asker:
    """Asks the models of several providers, each with at most `max_concurrency` calls at once."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        *,
        max_concurrency: Mapping[str, int],
        retries: Retries | None = None,
    ) -> None:
        self._providers = providers
        self._retries = retries or Retries()
        self._room: defaultdict[str, asyncio.Semaphore] = defaultdict(asyncio.Semaphore)
        self._room.update({name: asyncio.Semaphore(limit) for name, limit in max_concurrency.items()})

    def bound(self, models: Sequence[Model], question: Question, *, further_bytes: int = 0) -> Bound:
        """The most that a question can cost: every attempt at every model fails after it was billed, but the last.

        `further_bytes` is the size of text that will be in the prompt and is not known yet.
        """
        total = Bound()
        for model in models:
            one = call_bound(model, question, further_bytes=further_bytes)
            tries = 1 + self._retries.max_retries
            total += Bound(one.nano_usd * tries, one.tokens * tries, one.calls * tries)
        return total

    async def ask(
        self,
        models: Sequence[Model],
        question: Question,
        asking: Asking,
        tell: Callable[[CallStarted | CallFailed | Piece], None],
    ) -> Answered | GaveUp:
        """Ask the first model, and the next when one fails for good; `tell` learns of all that happens meanwhile."""
        calls: list[ModelCall] = []
        failed: _AttemptError | None = None
        for model in models:
            if failed:
                tell(CallFailed(failed.call))
            try:
                async for attempt in self._attempts(tell):
                    with attempt:
                        return await self._once(model, question, asking, calls, tell)
            except _AttemptError as failure:
                failed = failure
        if failed is None:
            raise ValueError("no model is named")
        tried = f" after {len(calls)} attempts" if len(calls) > 1 else ""
        return GaveUp(f"{failed.call.model}{tried}: {failed.error.message}", tuple(calls), failed.partial_text)

    def _attempts(self, tell: Callable[[CallFailed], None]) -> AsyncRetrying:
        def wait(state: RetryCallState) -> float:
            asked = _failure(state).error.retry_after_s
            waited = self._retries.first_wait_s * self._retries.backoff_factor ** (state.attempt_number - 1)
            return max(waited, asked or 0.0) * random.uniform(1, 1 + _JITTER)  # noqa: S311  no secret

        def stop(state: RetryCallState) -> bool:
            left = remaining_s()
            return state.attempt_number > self._retries.max_retries or (
                left is not None and state.upcoming_sleep >= left
            )

        return AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, _AttemptError) and error.error.passing),
            wait=wait,
            stop=stop,
            before_sleep=lambda state: tell(CallFailed(_failure(state).call)),
            reraise=True,
        )

    async def _once(
        self,
        model: Model,
        question: Question,
        asking: Asking,
        calls: list[ModelCall],
        tell: Callable[[CallStarted | Piece], None],
    ) -> Answered:
        async with self._room[model.provider]:
            number = len(calls) + 1
            bound = call_bound(model, question)
            input_bound = bound.tokens - _output_limit(model, question)
            call = ModelCall(
                call_id=call_id(asking.run_id, asking.stage, *asking.parts, asking.run_attempt, number),
                stage=asking.stage,
                model=model.name,
                usage=Usage(input_bound, output_tokens=_output_limit(model, question)),
                cost_nano_usd=bound.nano_usd,
                bound_nano_usd=bound.nano_usd,
                started_at=datetime.now(UTC),
                duration=timedelta(),
                actor_id=asking.actor_id,
                attempt=number,
                usage_unknown=True,
            )
            tell(CallStarted(call))
            began = time.perf_counter()
            pieces: list[str] = []
            with telemetry.span(f"chat {model.name}", **_attributes(model, question, number)) as span:
                try:
                    reply = await self._listen(model, question, pieces, lambda text: tell(Piece(number, text)))
                except ProviderError as error:
                    spent = (
                        call if error.billed else replace(call, usage=Usage(0), cost_nano_usd=0, usage_unknown=False)
                    )
                    ended = replace(spent, duration=_since(began), error=error.message)
                    calls.append(ended)
                    _note(span, ended, "error")
                    raise _AttemptError(error, ended, "".join(pieces)) from error
                ended = replace(call, duration=_since(began))
                if reply.usage is not None:
                    cost = model.price.cost(reply.usage)
                    ended = replace(ended, usage=reply.usage, cost_nano_usd=cost, usage_unknown=False)
                calls.append(ended)
                _note(span, ended, reply.stop)
            return Answered("".join(pieces), reply.stop, model, tuple(calls))

    async def _listen(self, model: Model, question: Question, pieces: list[str], tell: Callable[[str], None]) -> Reply:
        most = _SLACK_BYTES + 4 * MAX_BYTES_PER_TOKEN * _output_limit(model, question)
        size = 0
        async for piece in self._providers[model.provider].ask(model, question):
            if isinstance(piece, Reply):
                return piece
            size += utf8_bytes(piece)
            if size > most:
                raise ProviderError(
                    f"the answer is longer than {most} bytes, which no answer of {question.max_tokens} tokens is",
                    passing=False,
                    billed=True,
                )
            pieces.append(piece)
            tell(piece)
        raise ProviderError("the answer ended without its end", passing=True, billed=True)


def call_bound(model: Model, question: Question, *, further_bytes: int = 0) -> Bound:
    """The most that one attempt can cost; `further_bytes` of prompt are not known yet."""
    tokens = prompt_bound(model.tokenizer, question) + further_bytes
    return bound_call(model.price, tokens, _output_limit(model, question))


def _output_limit(model: Model, question: Question) -> int:
    return question.max_tokens + model.thinking_tokens


def _failure(state: RetryCallState) -> _AttemptError:
    failure = state.outcome.exception() if state.outcome else None
    if not isinstance(failure, _AttemptError):
        raise TypeError("only failed attempts are tried again") from failure
    return failure


def _since(began: float) -> timedelta:
    return timedelta(seconds=time.perf_counter() - began)


def _attributes(model: Model, question: Question, attempt: int) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        semconv.GEN_AI_OPERATION_NAME: "chat",
        semconv.GEN_AI_PROVIDER_NAME: model.provider,
        semconv.GEN_AI_REQUEST_MODEL: model.name,
        semconv.GEN_AI_REQUEST_MAX_TOKENS: question.max_tokens,
        semconv.DJP_CALL_ATTEMPT: attempt,
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
