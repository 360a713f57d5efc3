"""The words of a debate: what is asked, by whom it is answered, and what happens, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from djp.llm.asking import CallFailed, CallStarted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djp.llm.calls import ModelCall
    from djp.llm.models import Model

DEFAULT_TEMPERATURE = 0.3
"""Of a debater that names none; the gateway's own default."""


@dataclass(frozen=True)
class Debater:
    """One voice: its id is unique in the debate, `role` says what it should care about and may be empty.

    Of `models` the first is asked, and the next when one fails for good.
    """

    debater_id: str
    models: tuple[Model, ...]
    role: str = ""
    temperature: float = DEFAULT_TEMPERATURE
    seed: int = 0

    @property
    def model(self) -> str:
        """The name of the model that is asked first."""
        return self.models[0].name

    @property
    def offline(self) -> bool:
        """Whether it calls no model."""
        return self.models[0].offline


@dataclass(frozen=True)
class Passage:
    """A piece of a document. `start` is its offset in the document, which puts passages of one document in order."""

    passage_id: str
    document_id: str
    title: str
    text: str
    start: int = 0


@dataclass(frozen=True)
class Draft:
    """One text that a debater wrote in one round, and the model that wrote it.

    `evidence` is what it rests on: the ids of passages, or the model's own words. `confidence` is the model's own, 0 to
    1. `safety_flags` say what is wrong with the text: one that is no answer has `djp.llm.offline.NO_ANSWER`.
    """

    draft_id: str
    debater_id: str
    model: str
    round: int
    text: str
    tokens: int
    evidence: tuple[str, ...] = ()
    safety_flags: tuple[str, ...] = ()
    confidence: float | None = None


@dataclass(frozen=True)
class Brief:
    """What a debate is about. `max_tokens` is the most that a draft may have; passages come best first.

    `completed` are the drafts that are already there, by debater and round: not written and not charged again.
    `attempt` counts the attempts at the run, from 1. Without an `agreement_threshold` every round is debated.
    """

    run_id: str
    task: str
    debaters: tuple[Debater, ...]
    max_tokens: int
    passages: tuple[Passage, ...] = ()
    required_citations: int = 0
    rounds: int = 1
    agreement_threshold: float | None = None
    completed: Mapping[tuple[str, int], Draft] = field(default_factory=dict)
    attempt: int = 1


@dataclass(frozen=True)
class Started:
    """A debater has begun a round."""

    debater: Debater
    round: int


@dataclass(frozen=True)
class Delta:
    """A further piece of a draft's text; that of a higher attempt begins the text anew."""

    debater_id: str
    round: int
    text: str
    attempt: int = 1


@dataclass(frozen=True)
class Finished:
    """A draft is done and paid for; `calls` are all attempts."""

    draft: Draft
    calls: tuple[ModelCall, ...]


@dataclass(frozen=True)
class Failed:
    """A debater gave no readable draft; its calls are charged all the same. `partial_text` is what it gave."""

    debater: Debater
    round: int
    message: str
    calls: tuple[ModelCall, ...]
    partial_text: str = ""


@dataclass(frozen=True)
class Over:
    """The debate is over: the last draft of each debater that has one, in their order, and the rounds debated.

    `agreement` is that of the first round's drafts, 0 to 1; None where it was not measured.
    """

    drafts: tuple[Draft, ...]
    rounds: int
    stopped_early: bool = False
    agreement: float | None = None


Event = Started | CallStarted | CallFailed | Delta | Finished | Failed | Over
