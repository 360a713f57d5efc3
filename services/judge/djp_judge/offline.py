"""The offline juror: no model is called; its charges are what a model would have read and written."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from djp.llm.calls import Usage
from djp.llm.tokens import count_tokens
from djp_judge.jury import Answer
from djp_judge.projection import RUBRIC
from djp_judge.rubric import Rubric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp_judge.model import Marks, Passage, Shown


class OfflineJuror:
    """Scores drafts of one judgement by the rubric. It gets the task, the passages and anonymous texts, and no more."""

    offline = True

    def __init__(self, task: str, passages: Sequence[Passage]) -> None:
        self._task = task
        self._passages = passages
        self._rubric: Rubric | None = None
        self._scored: dict[str, Marks] = {}  # a draft is read once, however many orders show it

    async def vote(self, shown: Sequence[Shown]) -> Answer:
        """Marks for every draft shown, by label; the work is done in a thread."""
        return await asyncio.to_thread(self._vote, shown)

    def _vote(self, shown: Sequence[Shown]) -> Answer:
        self._rubric = self._rubric or Rubric(self._task, self._passages)
        marks = {}
        for draft in shown:
            if draft.text not in self._scored:
                self._scored[draft.text] = self._rubric.marks(draft.text)
            marks[draft.label] = self._scored[draft.text]
        read = [RUBRIC, self._task]
        read += [part for passage in self._passages for part in (passage.title, passage.text)]
        read += [part for draft in shown for part in (draft.label, draft.text)]
        written = [f"{label}: {mark.reason}" for label, mark in marks.items()]
        usage = Usage(input_tokens=sum(map(count_tokens, read)), output_tokens=sum(map(count_tokens, written)))
        return Answer(marks, usage)
