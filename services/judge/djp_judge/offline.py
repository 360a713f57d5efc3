"""The offline juror: no model is called; its charges are what a model would have read and written."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from djp.llm.bounds import Bound, bound_call
from djp.llm.calls import ModelCall, Usage, call_id
from djp.llm.tokens import BYTES_PER_TOKEN, MAX_BYTES_PER_TOKEN, count_tokens
from djp_judge.jury import Tell, Vote
from djp_judge.orders import label
from djp_judge.prompts import RUBRIC
from djp_judge.rubric import Rubric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp.llm.asking import Asking
    from djp.llm.models import Model
    from djp_judge.model import Marks, Passage, Shown

ANSWER_TOKENS_PER_DRAFT = 200
"""The most that it writes about one draft."""


class OfflineJuror:
    """Scores drafts of one judgement by the rubric. It gets the task, the passages and anonymous texts, and no more.

    One serves all offline jurors of a jury: a draft is read once, however many of them and of their orders show it.
    """

    def __init__(self, model: Model, task: str, passages: Sequence[Passage]) -> None:
        self._model = model
        self._task = task
        self._passages = passages
        self._rubric: Rubric | None = None
        self._scored: dict[str, Marks] = {}
        self._reading = asyncio.Lock()

    async def vote(self, shown: Sequence[Shown], asking: Asking, tell: Tell) -> Vote:
        """Marks for every draft shown, by label; the work is done in a thread. Nothing is sent, so nothing is told."""
        started_at, began = datetime.now(UTC), time.perf_counter()
        async with self._reading:
            marks = await asyncio.to_thread(self._marks, shown)
        written = [f"{label}: {mark.reason}" for label, mark in marks.items()]
        drafts = sum(count_tokens(part) for draft in shown for part in (draft.label, draft.text))
        call = ModelCall(
            call_id=call_id(asking.run_id, asking.stage, *asking.parts, 1, asking.run_attempt, 1),
            stage=asking.stage,
            model=self._model.name,
            usage=Usage(self._read_tokens() + drafts, output_tokens=sum(map(count_tokens, written))),
            cost_nano_usd=0,
            bound_nano_usd=self._bound(len(shown), drafts).nano_usd,
            started_at=started_at,
            duration=timedelta(seconds=time.perf_counter() - began),
            actor_id=asking.actor_id,
            offline=True,
        )
        call = replace(call, cost_nano_usd=self._model.price.cost(call.usage))
        return Vote(self._model.name, marks, calls=(call,))

    def bound(self, drafts: int, draft_tokens: int) -> Bound:
        """One call, for it is never asked again. Its tokens are bytes divided by four, each text's rounded up."""
        labels = drafts * count_tokens(label(0))
        return self._bound(drafts, labels + drafts + draft_tokens * MAX_BYTES_PER_TOKEN // BYTES_PER_TOKEN)

    def _bound(self, drafts: int, draft_tokens: int) -> Bound:
        return bound_call(self._model.price, self._read_tokens() + draft_tokens, drafts * ANSWER_TOKENS_PER_DRAFT)

    def _read_tokens(self) -> int:
        parts = [RUBRIC, self._task, *(part for passage in self._passages for part in (passage.title, passage.text))]
        return sum(map(count_tokens, parts))

    def _marks(self, shown: Sequence[Shown]) -> dict[str, Marks]:
        self._rubric = self._rubric or Rubric(self._task, self._passages)
        for draft in shown:
            if draft.text not in self._scored:
                self._scored[draft.text] = self._rubric.marks(draft.text)
        return {draft.label: self._scored[draft.text] for draft in shown}
