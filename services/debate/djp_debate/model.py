"""The words of a debate: what is asked, by whom it is answered, and what happens, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djp.llm.calls import ModelCall

DEFAULT_TEMPERATURE = 0.3
"""Of a debater that names none; the gateway's own default."""


@dataclass(frozen=True)
class Debater:
    """One voice: its id is unique in the debate, `role` says what it should care about and may be empty."""

    debater_id: str
    model: str
    role: str = ""
    temperature: float = DEFAULT_TEMPERATURE
    seed: int = 0


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
    """One text that a debater wrote in one round. `evidence` holds the ids of the passages it drew on.

    `safety_flags` say what is wrong with the text: a note that there is no answer has `djp.llm.offline.NO_ANSWER`.
    """

    draft_id: str
    debater_id: str
    model: str
    round: int
    text: str
    tokens: int
    evidence: tuple[str, ...] = ()
    safety_flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Brief:
    """What a debate is about. `max_tokens` is the most that a draft may have; passages come best first."""

    run_id: str
    task: str
    debaters: tuple[Debater, ...]
    max_tokens: int
    passages: tuple[Passage, ...] = ()
    required_citations: int = 0
    written: frozenset[str] = field(default=frozenset())
    """Ids of the debaters whose drafts are already there: not written and not charged again."""


@dataclass(frozen=True)
class Started:
    """A debater has begun a round."""

    debater: Debater
    round: int


@dataclass(frozen=True)
class Delta:
    """A further piece of a draft's text."""

    debater_id: str
    round: int
    text: str


@dataclass(frozen=True)
class Finished:
    """A draft is done and paid for."""

    draft: Draft
    calls: tuple[ModelCall, ...]


@dataclass(frozen=True)
class Failed:
    """A debater gave no readable draft; its call is charged all the same."""

    debater: Debater
    round: int
    message: str
    calls: tuple[ModelCall, ...]


Event = Started | Delta | Finished | Failed
