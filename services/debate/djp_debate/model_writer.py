"""Has models write the drafts: asks, reads what they answer, and shows the text while it comes."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from djp.llm.asking import Asking, GaveUp, Piece
from djp.llm.tokens import count_tokens
from djp_debate.deltas import Deltas
from djp_debate.model import Draft, Failed, Finished
from djp_debate.prompts import draft_question
from djp_debate.reading import UnreadableDraftError, read_draft

if TYPE_CHECKING:
    from djp.llm.asking import Answered, Asker, CallFailed, CallStarted
    from djp.llm.bounds import Bound
    from djp.llm.models import Model
    from djp.llm.provider import Question
    from djp_debate.model import Brief, Debater
    from djp_debate.ports import Tell, Work

_SECRET = secrets.token_hex(16)
"""Of this process: nobody who writes a passage or a task can know what stands around it in a prompt."""


class ModelWriter:
    """Writes the drafts of those debaters that are models."""

    def __init__(self, brief: Brief, asker: Asker) -> None:
        self._brief = brief
        self._asker = asker
        self._bounds: dict[tuple[tuple[Model, ...], str, bool], Bound] = {}

    async def write(self, debater: Debater, work: Work, tell: Tell) -> Finished | Failed:
        """The draft that the model answers with, or why it gave none that can be read."""
        question = await asyncio.to_thread(self._question, debater, work)
        deltas = Deltas(debater.debater_id, work.round, tell)

        def told(event: CallStarted | CallFailed | Piece) -> None:
            if isinstance(event, Piece):
                deltas.add(event)
            else:
                tell(event)

        parts = (debater.debater_id, work.round)
        asking = Asking(self._brief.run_id, "DEBATE", debater.debater_id, parts, self._brief.attempt)
        answer = await self._asker.ask(debater.models, question, asking, told)
        if isinstance(answer, GaveUp):
            return Failed(debater, work.round, answer.message, answer.calls, answer.partial_text)
        try:
            draft = await asyncio.to_thread(self._draft, debater, work, answer)
        except UnreadableDraftError as error:
            return Failed(debater, work.round, f"{answer.model.name}: {error}", answer.calls, answer.text)
        deltas.end(draft.text)
        return Finished(draft, answer.calls)

    async def bound(self, debater: Debater, round_: int) -> Bound:
        """The most that a draft can cost: every attempt at every model, the drafts before it as long as they may be."""
        key = debater.models, debater.role, round_ > 1  # what else there is about a debater makes no difference
        if key not in self._bounds:
            self._bounds[key] = await asyncio.to_thread(self._bound, debater, round_)
        return self._bounds[key]

    def _bound(self, debater: Debater, round_: int) -> Bound:
        if round_ == 1:
            return self._asker.bound(debater.models, self._ask(debater, round_, None, ()))
        others = len(self._brief.debaters) - 1
        # A letter stands for each draft, so that the ends of the lines around it count as they will.
        question = self._ask(debater, round_, "x", ("x",) * others)
        unwritten = (1 + others) * self._brief.max_tokens
        return self._asker.bound(debater.models, question, unwritten_tokens=unwritten)

    def _question(self, debater: Debater, work: Work) -> Question:
        own = work.own.text if work.own else None
        return self._ask(debater, work.round, own, tuple(draft.text for draft in work.others))

    def _ask(self, debater: Debater, round_: int, own: str | None, others: tuple[str, ...]) -> Question:
        return draft_question(self._brief, debater, own=own, others=others, round_=round_, secret=_SECRET)

    def _draft(self, debater: Debater, work: Work, answer: Answered) -> Draft:
        """Raises UnreadableDraftError."""
        read = read_draft(answer.text, answer.stop, self._brief.max_tokens)
        call = answer.calls[-1]
        # The usage counts the form around the answer too, so it is never less than the text alone.
        told = call.usage.output_tokens - call.usage.reasoning_tokens
        return Draft(
            draft_id=f"{debater.debater_id}-r{work.round}",
            debater_id=debater.debater_id,
            model=answer.model.name,
            round=work.round,
            text=read.text,
            tokens=count_tokens(read.text) if call.usage_unknown else told,
            evidence=read.evidence,
            safety_flags=read.safety_flags,
            confidence=read.confidence,
        )
