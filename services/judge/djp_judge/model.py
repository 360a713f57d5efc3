"""The words of a judgement: candidates, marks, ballots, the verdict. Plain values; points are exact fractions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TASK_FIT = 4
MAX_SUPPORT = 4
MAX_CLARITY = 2
"""The rubric's points: ten together."""


@dataclass(frozen=True)
class Passage:
    """A piece of a document that the debaters had: the document's title, by which drafts cite it, and its text."""

    title: str
    text: str


@dataclass(frozen=True)
class Candidate:
    """A draft as it comes to judgement. No juror learns more of it than its text, without what names its writer.

    `tokens` is the draft's length in output tokens, `resolved_citations` what grounding counted. `family` is that of
    the model that wrote it, for recusals; `names` are the ids by which the draft could name its writer.
    """

    draft_id: str
    text: str
    tokens: int = 0
    resolved_citations: int = 0
    safety_flags: tuple[str, ...] = ()
    family: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rules:
    """What a draft must keep to. Citations and words are counts; 0 means that there is no such rule."""

    required_citations: int = 0
    blocking_safety_flags: tuple[str, ...] = ()
    min_words: int = 0
    max_words: int = 0


@dataclass(frozen=True)
class Seat:
    """A juror: its id, unique in the jury, its model, and the model families that it must not judge."""

    juror_id: str
    model: str
    families: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Shown:
    """A draft as a juror sees it: a neutral label such as "Draft A", and the text."""

    label: str
    text: str


@dataclass(frozen=True)
class Marks:
    """A juror's points for one draft, with the reason in words."""

    task_fit: Fraction
    support: Fraction
    clarity: Fraction
    reason: str = ""

    @cached_property
    def total(self) -> Fraction:
        """0 to 10 for marks within the rubric."""
        return self.task_fit + self.support + self.clarity

    @property
    def in_rubric(self) -> bool:
        """Whether every mark is within its points."""
        return (
            0 <= self.task_fit <= MAX_TASK_FIT and 0 <= self.support <= MAX_SUPPORT and 0 <= self.clarity <= MAX_CLARITY
        )


@dataclass(frozen=True)
class Ballot:
    """One juror's marks for the drafts it saw, by draft id; `order` holds the draft ids as they were shown.

    A ballot with an `abstain_reason` has no marks and counts as no vote. `recused` are the drafts that the juror left
    to others.
    """

    ballot_id: str
    juror_id: str
    model: str
    order: tuple[str, ...]
    marks: Mapping[str, Marks] = field(default_factory=dict)
    abstain_reason: str = ""
    recused: tuple[str, ...] = ()

    @property
    def totals(self) -> dict[str, Fraction]:
        """The points by draft id."""
        return {draft_id: marks.total for draft_id, marks in self.marks.items()}

    @property
    def abstained(self) -> bool:
        """Whether the ballot counts as no vote."""
        return bool(self.abstain_reason)


@dataclass(frozen=True)
class Disqualification:
    """A draft that the rules stopped: the first rule it broke, and the reasons of all that it broke."""

    draft_id: str
    rule: str
    reason: str


@dataclass(frozen=True)
class Standing:
    """A draft's place: means over the valid ballots that scored it, and the highest minus the lowest total."""

    draft_id: str
    task_fit: Fraction
    support: Fraction
    clarity: Fraction
    mean: Fraction
    spread: Fraction
    ballots: int


@dataclass(frozen=True)
class Verdict:
    """The jury's result; fields as in `djp.v1.Verdict`. Without a winner the ranking is empty and `reason` says why.

    A draft that no valid ballot scored is not in the ranking.
    """

    winner_draft_id: str = ""
    ranking: tuple[Standing, ...] = ()
    disqualified: tuple[Disqualification, ...] = ()
    contested: bool = False
    agreement: Fraction = Fraction(0)
    valid_ballots: int = 0
    abstentions: int = 0
    effective_jurors: int = 0
    tie_break: str = ""
    winner_by_ballot: Mapping[str, str] = field(default_factory=dict)
    fast_path: bool = False
    reason: str = ""


def points(value: float) -> Fraction:
    """Points as they are counted: in hundredths, so that equal marks are equal. Raises ValueError if not finite."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a number of points")
    return Fraction(round(value * 100), 100)
