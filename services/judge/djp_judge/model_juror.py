"""A juror that is a model: asks it for a ballot, once more if that cannot be read, and never makes up a score."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from djp.llm.asking import CallFailed, GaveUp, Piece
from djp.llm.bounds import Bound
from djp_judge.ballots import MAX_REASON_CHARS, UnreadableBallotError, read_ballot
from djp_judge.jury import Vote
from djp_judge.model import Shown
from djp_judge.orders import label
from djp_judge.prompts import ballot_question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp.llm.asking import Answered, Asker, Asking, CallStarted
    from djp.llm.calls import ModelCall
    from djp.llm.models import Model
    from djp_judge.jury import Tell
    from djp_judge.model import Marks, Passage

TURNS = 2
"""How often a ballot is asked for before its juror abstains."""


class ModelJuror:
    """Asks its model, or a fallback, in that order of `models`, for the ballots of one judgement."""

    def __init__(
        self, asker: Asker, models: Sequence[Model], task: str, passages: Sequence[Passage], temperature: float = 0.0
    ) -> None:
        self._asker = asker
        self._models = models
        self._task = task
        self._passages = passages
        self._temperature = temperature

    async def vote(self, shown: Sequence[Shown], asking: Asking, tell: Tell) -> Vote:
        """The marks of the first answer that is a ballot; after two that are none, or none at all, an abstention."""

        def told(event: CallStarted | CallFailed | Piece) -> None:
            if not isinstance(event, Piece):
                tell(event)

        calls: tuple[ModelCall, ...] = ()
        model, problem = self._models[0].name, ""
        for turn in range(1, TURNS + 1):
            question = ballot_question(
                self._task,
                self._passages,
                shown,
                secret=f"{asking.run_id} {asking.parts}",
                temperature=self._temperature,
                again=turn > 1,
            )
            answer = await self._asker.ask(self._models, question, replace(asking, parts=(*asking.parts, turn)), told)
            calls += answer.calls
            if isinstance(answer, GaveUp):
                problem = answer.message
                break
            model = answer.model.name
            try:
                return Vote(model, _marks(answer, shown), calls=calls)
            except UnreadableBallotError as error:
                problem = str(error)
            calls = (*calls[:-1], replace(calls[-1], error=f"the answer is no ballot: {problem}"))
            if turn < TURNS:
                tell(CallFailed(calls[-1]))
        reason = problem if isinstance(answer, GaveUp) else f"no ballot in {TURNS} answers: {problem}"
        return Vote(model, abstain_reason=reason[:MAX_REASON_CHARS], calls=calls)

    def bound(self, drafts: int, draft_tokens: int) -> Bound:
        """Every turn, every attempt of it at every model."""
        # A letter stands for each draft, so that the ends of the lines around it count as they will.
        shown = [Shown(label(place), "x") for place in range(drafts)]
        total = Bound()
        for turn in range(TURNS):
            question = ballot_question(self._task, self._passages, shown, again=turn > 0)
            total += self._asker.bound(self._models, question, unwritten_tokens=draft_tokens)
        return total


def _marks(answer: Answered, shown: Sequence[Shown]) -> dict[str, Marks]:
    if answer.stop == "refusal":
        raise UnreadableBallotError("the model refused")
    try:
        return read_ballot(answer.text, [draft.label for draft in shown])
    except UnreadableBallotError as error:
        if answer.stop == "length":
            raise UnreadableBallotError("it was cut off at its longest") from error
        raise
