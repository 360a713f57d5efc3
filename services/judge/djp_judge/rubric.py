"""The offline juror's rubric: points for one draft from what can be measured in it, the task and the passages.

Points are earned by good sentences only: new, no question, not the task said again, not addressed to the jury, and
backed by a passage. Everything else only makes shares smaller or counts as a defect, so that padding, repeating,
stuffing in keywords, citing at random and praising oneself never pay. The measure knows words, not meaning: it does not
see that a sentence was turned into its opposite.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

from djp.llm.text import terms
from djp_judge.model import MAX_CLARITY, MAX_SUPPORT, MAX_TASK_FIT, Marks
from djp_judge.reading import READ_CHARS, Sources, Worth, read_draft

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from djp_judge.model import Passage
    from djp_judge.reading import Sentence

STEPS_PER_POINT = 100
"""Marks are hundredths of a point, rounded half up. In tenths, every second question about docs/ ended in a tie."""
LONG_SENTENCE_WORDS = 30
"""Plain-language guides ask for sentences of 15 to 20 words on average; from 30 on most readers go back."""
_EXCESS_WORDS = 20
"""So many words beyond that make a sentence a whole defect."""
LONG_PARAGRAPH_SENTENCES = 6
"""Every further sentence of a paragraph is half a defect."""
_FEW_SENTENCES = 5
"""Defects are weighed against the good sentences, and against so many at least."""
_DEFECT = {Worth.FOR_THE_JURY: Fraction(2), Worth.REPEATED: Fraction(1), Worth.RESTATES: Fraction(1, 2)}


class Rubric:
    """Scores drafts for one task and its passages. Deterministic, and every draft for itself: order cannot sway it."""

    def __init__(self, task: str, passages: Iterable[Passage]) -> None:
        self._task = frozenset(terms(task))
        self._sources = Sources(passages)
        self._weights = {term: self._sources.rarity(term) for term in self._task}
        self._around = self._sources.around(self._task)

    def marks(self, text: str) -> Marks:
        """The points of a draft, with a reason that holds numbers and no words of the draft.

        - task fit, four equal parts: coverage, the share of the task's terms that good sentences hold, a term weighing
          more the fewer passages have it; opening, the same of the first sentence alone; focus, the mean of it over all
          sentences, half of the task counting as all of it and a sentence that is not good as nothing; depth, the share
          of the terms around the task's in the passages that good sentences hold. Without passages, the first three.
        - support: up to 2 for the share of all sentences that are good, and so backed, up to 2 for the share that also
          cite what backs them. Without passages nothing can back a draft: 0.
        - clarity: 2, less the share of defects: sentences of more than 30 words, repetitions, paragraphs of more than 6
          sentences, words to the jury.
        """
        sentences = read_draft(text, self._task, self._sources)
        fit, fit_reason = self._task_fit(sentences)
        support, support_reason = self._support(sentences)
        clarity, clarity_reason = _clarity(sentences)
        unread = f"; only the first {READ_CHARS:,} characters were read" if len(text) > READ_CHARS else ""
        return Marks(
            fit,
            support,
            clarity,
            f"task fit {_shown(fit)}: {fit_reason}; support {_shown(support)}: {support_reason}; "
            f"clarity {_shown(clarity)}: {clarity_reason}{unread}",
        )

    def _task_fit(self, sentences: Sequence[Sentence]) -> tuple[Fraction, str]:
        if not self._task:
            return Fraction(0), "the task has no content words to measure against"
        if not sentences:
            return Fraction(0), "it has no sentence"
        good = [sentence for sentence in sentences if sentence.worth is Worth.GOOD]
        covered = self._task & frozenset().union(*(sentence.terms for sentence in good))
        whole = self._weight(self._task)
        opening = Fraction(self._weight(sentences[0].terms) if sentences[0].worth is Worth.GOOD else 0, whole)
        focus = Fraction(sum(min(whole, 2 * self._weight(one.terms)) for one in good), whole * len(sentences))
        shares = [Fraction(self._weight(covered), whole), opening, focus]
        reason = (
            f"covers {len(covered)} of the task's {_count(len(self._task), 'term')}, {_percent(opening)} of their "
            f"weight in the first sentence; its {_count(len(sentences), 'sentence')} keep to the task by "
            f"{_percent(focus)}"
        )
        if self._around:
            told = frozenset().union(*(sentence.terms for sentence in good))
            depth = Fraction(sum(self._around[term] for term in told), self._around.total())
            shares.append(depth)
            reason += f" and hold {_percent(depth)} of what the passages say around it"
        return _in_steps(MAX_TASK_FIT * sum(shares, Fraction(0)) / len(shares)), reason

    def _weight(self, terms: frozenset[str]) -> int:
        """How much of the task these hold: its rare terms weigh more."""
        return sum(self._weights[term] for term in terms & self._task)

    def _support(self, sentences: Sequence[Sentence]) -> tuple[Fraction, str]:
        if not self._sources:
            return Fraction(0), "no passages were given that could back it"
        if not sentences:
            return Fraction(0), "it has no sentence"
        backed = sum(sentence.worth is Worth.GOOD for sentence in sentences)
        cited = sum(sentence.rightly_cited for sentence in sentences)
        return _in_steps(Fraction((backed + cited) * MAX_SUPPORT, 2 * len(sentences))), (
            f"the passages back {backed} of {_count(len(sentences), 'sentence')}, {cited} with the right citation"
        )


def _clarity(sentences: Sequence[Sentence]) -> tuple[Fraction, str]:
    if not sentences:
        return Fraction(0), "it has no sentence"
    excess = [max(0, sentence.words - LONG_SENTENCE_WORDS) for sentence in sentences]
    paragraphs: dict[int, int] = {}
    for sentence in sentences:
        paragraphs[sentence.paragraph] = paragraphs.get(sentence.paragraph, 0) + 1
    crowded = sum(max(0, size - LONG_PARAGRAPH_SENTENCES) for size in paragraphs.values())
    worths = [sentence.worth for sentence in sentences]
    defects = (
        Fraction(sum(min(words, _EXCESS_WORDS) for words in excess), _EXCESS_WORDS)
        + Fraction(crowded, 2)
        + sum(weight * worths.count(worth) for worth, weight in _DEFECT.items())
    )
    share = min(Fraction(1), defects / max(_FEW_SENTENCES, worths.count(Worth.GOOD)))
    found = [
        (sum(map(bool, excess)), f"of over {LONG_SENTENCE_WORDS} words"),
        (crowded, f"beyond {LONG_PARAGRAPH_SENTENCES} in a paragraph"),
        (worths.count(Worth.REPEATED), "repeated"),
        (worths.count(Worth.RESTATES), "restating the task"),
        (worths.count(Worth.FOR_THE_JURY), "addressed to the jury"),
    ]
    said = ", ".join(f"{_count(number, 'sentence')} {what}" for number, what in found if number)
    return _in_steps(MAX_CLARITY * (1 - share)), said or "no defects found"


def _in_steps(points: Fraction) -> Fraction:
    return Fraction(math.floor(points * STEPS_PER_POINT + Fraction(1, 2)), STEPS_PER_POINT)


def _shown(points: Fraction) -> str:
    return f"{float(points):.2f}"


def _percent(share: Fraction) -> str:
    return f"{math.floor(100 * share + Fraction(1, 2))} %"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
