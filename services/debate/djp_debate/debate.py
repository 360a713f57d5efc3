"""A debate from beginning to end: what it may cost at most, then the drafts, written side by side."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from djp.llm.bounds import Bound, bound_call
from djp.llm.calls import ModelCall, Usage, call_id
from djp.llm.tokens import count_tokens, utf8_bytes
from djp.mesh import semconv, telemetry
from djp_debate.compose import compose, read
from djp_debate.model import Brief, Debater, Delta, Draft, Event, Failed, Finished, Started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from djp.llm.prices import Price, PriceBook
    from djp_debate.material import Material
    from djp_debate.writing import Written

_ROUND = 1


@dataclass(frozen=True)
class _Prompt:
    """The size of what every debater is given: the task and the passages with their titles."""

    tokens: int
    utf8_bytes: int

    @classmethod
    def of(cls, brief: Brief) -> _Prompt:
        parts = [brief.task, *(part for passage in brief.passages for part in (passage.title, passage.text))]
        return cls(sum(map(count_tokens, parts)), sum(map(utf8_bytes, parts)))

    def tokens_for(self, debater: Debater) -> int:
        return self.tokens + count_tokens(debater.role)

    def bound(self, debater: Debater, price: Price, max_tokens: int) -> Bound:
        return bound_call(price, self.utf8_bytes + utf8_bytes(debater.role), max_tokens)


@dataclass(frozen=True)
class _Answer:
    """What one debater gave, and the call that it took."""

    debater: Debater
    written: Written
    call: ModelCall


async def project(brief: Brief, prices: PriceBook) -> Bound:
    """The most that the debate can cost: one call for each debater that has no draft yet.

    Raises UnpricedModel.
    """
    priced = [(debater, prices.price(debater.model)) for debater in _missing(brief)]
    prompt = await asyncio.to_thread(_Prompt.of, brief)
    return sum((prompt.bound(debater, price, brief.max_tokens) for debater, price in priced), start=Bound())


async def debate(brief: Brief, prices: PriceBook) -> AsyncIterator[Event]:
    """Everything that happens, as it happens: each missing draft is written and its call reported.

    Raises UnpricedModel before the first event.
    """
    priced = [(debater, prices.price(debater.model)) for debater in _missing(brief)]
    if not priced:
        return
    for debater, _ in priced:
        yield Started(debater, _ROUND)
    prompt = await asyncio.to_thread(_Prompt.of, brief)
    material = await asyncio.to_thread(read, brief)
    answers = [asyncio.create_task(_answer(brief, debater, price, prompt, material)) for debater, price in priced]
    try:
        for next_answer in asyncio.as_completed(answers):
            for event in _events(await next_answer, brief):
                yield event
    finally:
        for task in answers:
            task.cancel()
        await asyncio.gather(*answers, return_exceptions=True)


def _missing(brief: Brief) -> list[Debater]:
    return [debater for debater in brief.debaters if debater.debater_id not in brief.written]


async def _answer(brief: Brief, debater: Debater, price: Price, prompt: _Prompt, material: Material) -> _Answer:
    attributes: dict[str, str | int | float] = {
        semconv.GEN_AI_OPERATION_NAME: "chat",
        semconv.GEN_AI_PROVIDER_NAME: "offline",
        semconv.GEN_AI_REQUEST_MODEL: debater.model,
        semconv.GEN_AI_REQUEST_MAX_TOKENS: brief.max_tokens,
        semconv.GEN_AI_REQUEST_TEMPERATURE: debater.temperature,
        semconv.GEN_AI_REQUEST_SEED: debater.seed,
        semconv.DJP_ROUND: _ROUND,
    }
    started_at, started = datetime.now(UTC), time.perf_counter()
    with telemetry.span(f"draft {debater.debater_id}", **attributes) as span:
        written = await asyncio.to_thread(compose, brief, debater, material)
        usage = Usage(input_tokens=prompt.tokens_for(debater), output_tokens=count_tokens(written.text))
        cost = price.cost(usage)
        span.set_attribute(semconv.GEN_AI_USAGE_INPUT_TOKENS, usage.input_tokens)
        span.set_attribute(semconv.GEN_AI_USAGE_OUTPUT_TOKENS, usage.output_tokens)
        span.set_attribute(semconv.DJP_COST_NANO_USD, cost)
    call = ModelCall(
        call_id=call_id(brief.run_id, "debate", debater.debater_id, _ROUND, 1),
        stage="DEBATE",
        model=debater.model,
        usage=usage,
        cost_nano_usd=cost,
        bound_nano_usd=prompt.bound(debater, price, brief.max_tokens).nano_usd,
        started_at=started_at,
        duration=timedelta(seconds=time.perf_counter() - started),
        actor_id=debater.debater_id,
        offline=True,
        error="" if written.text else "no sentence fits",
    )
    return _Answer(debater, written, call)


def _events(answer: _Answer, brief: Brief) -> Iterator[Event]:
    debater, text = answer.debater, answer.written.text
    if not text:
        message = (
            f"{debater.debater_id} ({debater.model}): max_tokens {brief.max_tokens} leaves no room for one whole "
            "sentence with its citation; raise max_tokens"
        )
        yield Failed(debater, _ROUND, message, (answer.call,))
        return
    for piece in _pieces(text):
        yield Delta(debater.debater_id, _ROUND, piece)
    draft = Draft(
        draft_id=f"{debater.debater_id}-r{_ROUND}",
        debater_id=debater.debater_id,
        model=debater.model,
        round=_ROUND,
        text=text,
        tokens=answer.call.usage.output_tokens,
        evidence=answer.written.evidence,
        safety_flags=answer.written.safety_flags,
    )
    yield Finished(draft, (answer.call,))


def _pieces(text: str) -> Iterator[str]:
    """The paragraphs of a text, each with the line ends behind it."""
    return (found[0] for found in re.finditer(r"[^\n]+\n*", text))
