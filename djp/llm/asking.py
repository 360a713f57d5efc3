"""Asks models: one question, as many attempts and fallbacks as it takes, each of them bounded, told and charged."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from djp.llm.attempt import Failed, attempt, output_tokens_limit
from djp.llm.bounds import Bound, bound_call
from djp.llm.calls import ModelCall, Usage, call_id
from djp.llm.provider import ProviderError
from djp.llm.tokens import drafts_bound, prompt_bound
from djp.mesh.deadline import remaining_s

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

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
    """No model answered; `message` tells why of each. `partial_text` is what the last attempt gave before it failed.

    There are no calls if there was no time to begin one.
    """

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
_LONG_WAIT_S = 60.0
"""No wait of our own is longer. A provider that asks for more is given up where there is a fallback, or no deadline."""
_MAX_CONCURRENCY = 16
_LONG_CHARS = 65_536


class _AttemptError(Exception):
    """Carries a failed attempt out of the retry loop's body. Without a `call` it was never begun."""

    def __init__(self, error: ProviderError, call: ModelCall | None = None, partial_text: str = "") -> None:
        super().__init__(error.message)
        self.error = error
        self.call = call
        self.partial_text = partial_text


class Asker:
    """Asks the models of several providers, each with at most `max_concurrency` calls at once (default: 16)."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        *,
        max_concurrency: Mapping[str, int],
        retries: Retries | None = None,
    ) -> None:
        self._providers = providers
        self._retries = retries or Retries()
        self._room: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_MAX_CONCURRENCY))
        self._room.update({name: asyncio.Semaphore(limit) for name, limit in max_concurrency.items()})

    def bound(self, models: Sequence[Model], question: Question, *, unwritten_tokens: int = 0) -> Bound:
        """The most that a question can cost: every attempt at every model fails after it was billed, but the last.

        `unwritten_tokens` are the output tokens that drafts may have which will be in the prompt and are not known yet.
        """
        total, tries = Bound(), 1 + self._retries.max_retries
        prompts: dict[tuple[str, int], int] = {}  # a long prompt is counted once for all models that count alike
        for model in models:
            key = model.tokenizer, model.template_tokens
            if key not in prompts:
                prompt = prompt_bound(model.tokenizer, question, model.template_tokens)
                prompts[key] = prompt + drafts_bound(model.tokenizer, unwritten_tokens)
            one = bound_call(model.price, prompts[key], output_tokens_limit(model, question))
            total += Bound(one.nano_usd * tries, one.tokens * tries, one.calls * tries)
        return total

    async def ask(
        self,
        models: Sequence[Model],
        question: Question,
        asking: Asking,
        tell: Callable[[CallStarted | CallFailed | Piece], None],
    ) -> Answered | GaveUp:
        """Ask the first model, and the next when one fails for good; `tell` learns of all that happens meanwhile.

        Nothing outlives the deadline of the current call (`djp.mesh.deadline`): an attempt is cut off there, and none
        is begun or waited for beyond it. When the task is cancelled, nothing more is told: a call that was started
        stays owed at its bound.
        """
        calls: list[ModelCall] = []
        reasons: list[str] = []
        failed: _AttemptError | None = None
        for number, model in enumerate(models, 1):
            if failed and failed.call:
                if _no_time_left():
                    break
                tell(CallFailed(failed.call))
            before = len(calls)
            bound = await _bound_of(model, question)
            try:
                async for turn in self._turns(tell, has_fallback=number < len(models)):
                    with turn:
                        return await self._once(model, bound, question, asking, calls, tell)
            except _AttemptError as failure:
                failed = failure
                made = len(calls) - before
                reasons.append(f"{model.name}{f' after {made} attempts' if made > 1 else ''}: {failure.error.message}")
        if failed is None:
            raise ValueError("no model is named")
        return GaveUp("; ".join(reasons), tuple(calls), failed.partial_text)

    def _turns(self, tell: Callable[[CallFailed], None], *, has_fallback: bool) -> AsyncRetrying:
        def wait(state: RetryCallState) -> float:
            asked = _failure(state).error.retry_after_s
            waited = self._retries.first_wait_s * self._retries.backoff_factor ** (state.attempt_number - 1)
            return max(min(waited, _LONG_WAIT_S), asked or 0.0) * random.uniform(1, 1 + _JITTER)  # noqa: S311

        def stop(state: RetryCallState) -> bool:
            left, asked = remaining_s(), _failure(state).error.retry_after_s
            too_long = asked is not None and asked > _LONG_WAIT_S and (has_fallback or left is None)
            past_deadline = left is not None and state.upcoming_sleep >= left
            return state.attempt_number > self._retries.max_retries or too_long or past_deadline

        def tell_failed(state: RetryCallState) -> None:
            if call := _failure(state).call:
                tell(CallFailed(call))

        return AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, _AttemptError) and error.error.passing),
            wait=wait,
            stop=stop,
            before_sleep=tell_failed,
            reraise=True,
        )

    @asynccontextmanager
    async def _room_for(self, model: Model) -> AsyncIterator[None]:
        """One of the provider's calls at once. Raises _AttemptError where the time is over before there is room."""
        room = self._room[model.provider]
        try:
            async with asyncio.timeout(remaining_s()):
                await room.acquire()
        except TimeoutError as error:
            told = f"{model.provider} had no room for a further call before the time was over"
            raise _AttemptError(ProviderError(told, passing=False, billed=False)) from error
        try:
            if _no_time_left():
                raise _AttemptError(ProviderError("no time was left to call it", passing=False, billed=False))
            yield
        finally:
            room.release()

    async def _once(
        self,
        model: Model,
        bound: Bound,
        question: Question,
        asking: Asking,
        calls: list[ModelCall],
        tell: Callable[[CallStarted | Piece], None],
    ) -> Answered:
        """One attempt, from waiting for room to what it cost. Raises _AttemptError."""
        async with self._room_for(model):
            provider = self._providers[model.provider]
            number, output_limit = len(calls) + 1, output_tokens_limit(model, question)
            call = ModelCall(
                call_id=call_id(asking.run_id, asking.stage, *asking.parts, asking.run_attempt, number),
                stage=asking.stage,
                model=model.name,
                usage=Usage(bound.tokens - output_limit, output_tokens=output_limit),
                cost_nano_usd=bound.nano_usd,
                bound_nano_usd=bound.nano_usd,
                started_at=datetime.now(UTC),
                duration=timedelta(),
                actor_id=asking.actor_id,
                attempt=number,
                usage_unknown=True,
            )
            tell(CallStarted(call))
            told = await attempt(provider, model, question, call, lambda text: tell(Piece(number, text)))
            calls.append(told.call)
            if isinstance(told, Failed):
                raise _AttemptError(told.error, told.call, told.partial_text)
            return Answered(told.text, told.stop, model, tuple(calls))


def call_bound(model: Model, question: Question) -> Bound:
    """The most that one attempt can cost."""
    tokens = prompt_bound(model.tokenizer, question, model.template_tokens)
    return bound_call(model.price, tokens, output_tokens_limit(model, question))


async def _bound_of(model: Model, question: Question) -> Bound:
    """The bound of a call; that of a long prompt is found in a thread, for it takes a while."""
    if len(question.user) + len(question.system) < _LONG_CHARS:
        return call_bound(model, question)
    return await asyncio.to_thread(call_bound, model, question)


def _no_time_left() -> bool:
    left = remaining_s()
    return left is not None and left <= 0


def _failure(state: RetryCallState) -> _AttemptError:
    failure = state.outcome.exception() if state.outcome else None
    if not isinstance(failure, _AttemptError):
        raise TypeError("only failed attempts are tried again") from failure
    return failure
