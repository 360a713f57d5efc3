"""Has the offline debaters write: they compose drafts from the passages, and no model is called."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from djp.llm.bounds import Bound, bound_call
from djp.llm.calls import ModelCall, Usage, call_id
from djp.llm.tokens import BYTES_PER_TOKEN, MAX_BYTES_PER_TOKEN, count_tokens, utf8_bytes
from djp.mesh import semconv, telemetry
from djp_debate.compose import compose
from djp_debate.material import Material
from djp_debate.model import Delta, Draft, Failed, Finished

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djp_debate.model import Brief, Debater
    from djp_debate.ports import Tell, Work
    from djp_debate.writing import Written


class OfflineWriter:
    """Writes the drafts of the offline debaters: the same for the same brief and drafts before, byte for byte."""

    def __init__(self, brief: Brief) -> None:
        self._brief = brief
        self._reading = asyncio.Lock()
        self._material: Material | None = None

    async def write(self, debater: Debater, work: Work, tell: Tell) -> Finished | Failed:
        """The draft, or that `max_tokens` leave no room for one sentence. No call is told before: none is made."""
        attributes: dict[str, str | int | float] = {
            semconv.GEN_AI_OPERATION_NAME: "chat",
            semconv.GEN_AI_PROVIDER_NAME: "offline",
            semconv.GEN_AI_REQUEST_MODEL: debater.model,
            semconv.GEN_AI_REQUEST_MAX_TOKENS: self._brief.max_tokens,
            semconv.GEN_AI_REQUEST_TEMPERATURE: debater.temperature,
            semconv.GEN_AI_REQUEST_SEED: debater.seed,
        }
        material = await self._read()
        started_at, started = datetime.now(UTC), time.perf_counter()
        with telemetry.span(f"chat {debater.model}", **attributes) as span:
            written = await asyncio.to_thread(compose, self._brief, debater, material, work)
            seen = [draft.text for draft in (*work.others, *([work.own] if work.own else ()))]
            read = self._prompt[0] + count_tokens(debater.role) + sum(map(count_tokens, seen))
            usage = Usage(input_tokens=read, output_tokens=count_tokens(written.text))
            cost = debater.models[0].price.cost(usage)
            span.set_attribute(semconv.GEN_AI_USAGE_INPUT_TOKENS, usage.input_tokens)
            span.set_attribute(semconv.GEN_AI_USAGE_OUTPUT_TOKENS, usage.output_tokens)
            span.set_attribute(semconv.DJP_COST_NANO_USD, cost)
        call = ModelCall(
            call_id=call_id(self._brief.run_id, "DEBATE", debater.debater_id, work.round, self._brief.attempt, 1),
            stage="DEBATE",
            model=debater.model,
            usage=usage,
            cost_nano_usd=cost,
            bound_nano_usd=self._bound(debater, work.round).nano_usd,
            started_at=started_at,
            duration=timedelta(seconds=time.perf_counter() - started),
            actor_id=debater.debater_id,
            offline=True,
            error="" if written.text else "no sentence fits",
        )
        if not written.text:
            message = (
                f"{debater.debater_id} ({debater.model}): max_tokens {self._brief.max_tokens} leaves no room for one "
                "whole sentence with its citation; raise max_tokens"
            )
            return Failed(debater, work.round, message, (call,))
        for piece in _pieces(written.text):
            tell(Delta(debater.debater_id, work.round, piece))
        return Finished(_draft(debater, work, written, usage.output_tokens), (call,))

    async def bound(self, debater: Debater, round_: int) -> Bound:
        """The most that a draft can cost: a token for each byte that is read, and as many as a draft may have."""
        return self._bound(debater, round_)

    def _bound(self, debater: Debater, round_: int) -> Bound:
        prompt = self._prompt[1] + utf8_bytes(debater.role)
        if round_ > 1:
            per_token = (BYTES_PER_TOKEN if one.offline else MAX_BYTES_PER_TOKEN for one in self._brief.debaters)
            prompt += self._brief.max_tokens * sum(per_token)
            prompt += sum(utf8_bytes(draft.text) for draft in self._brief.completed.values())
        return bound_call(debater.models[0].price, prompt, self._brief.max_tokens)

    async def _read(self) -> Material:
        """The statements of the passages, which may take a second; read by one debater, for all."""
        async with self._reading:
            if self._material is None:
                self._material = await asyncio.to_thread(Material, self._brief.passages)
            return self._material

    @cached_property
    def _prompt(self) -> tuple[int, int]:
        """Tokens and bytes of what every debater is given: the task and the passages with their titles."""
        passages = (part for passage in self._brief.passages for part in (passage.title, passage.text))
        parts = [self._brief.task, *passages]
        return sum(map(count_tokens, parts)), sum(map(utf8_bytes, parts))


def _draft(debater: Debater, work: Work, written: Written, tokens: int) -> Draft:
    return Draft(
        draft_id=f"{debater.debater_id}-r{work.round}",
        debater_id=debater.debater_id,
        model=debater.model,
        round=work.round,
        text=written.text,
        tokens=tokens,
        evidence=written.evidence,
        safety_flags=written.safety_flags,
    )


def _pieces(text: str) -> Iterator[str]:
    """The paragraphs of a text, each with the line ends behind it."""
    return (found[0] for found in re.finditer(r"[^\n]+\n*", text))
