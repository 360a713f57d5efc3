"""How much drafts say the same: a measure from 0 to 1."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

from djp.llm.text import split_sentences, terms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

READ_CHARS = 32_768
"""So much of a draft is compared."""
MAX_SENTENCES = 64
"""So many sentences of a draft stand for themselves; what follows them is compared as one."""
_CONTRADICTS = 0.5  # what is left of the likeness of two sentences of which one denies, or has another number
_CITATION = re.compile(r"\[[^\[\]]{1,400}\]")
_NEGATION = re.compile(
    r"\b(?:not?|nor|none|nobody|nothing|never|neither|cannot|without)\b|n['\u2019]t\b", re.IGNORECASE
)


def agreement(texts: Sequence[str]) -> float:
    """The mean over all pairs of texts of how alike they are: as much as that sentence which the other says least.

    Two sentences are as alike as the cosine (Salton 1975) of their content words, reduced to their stems, and of the
    pairs in which these stand, citations left out; half as much if they differ in a number or in how often they deny.
    Words alone would find that opposite answers to one question agree, and whole texts that a long draft agrees with
    one that contradicts it in a single sentence. Two empty texts agree in nothing.

    On the sample tasks of benchmarks/agreement.py, answers that say the same agree from 0.11 to 0.95, and answers that
    do not up to 0.92, where two words have changed places, however long the drafts around them are. Nothing in between
    tells them apart: so 0.95, the threshold of the preset `quick`, stops on near copies only.

    Raises ValueError for fewer than two texts.
    """
    if len(texts) < 2:
        raise ValueError("one text agrees with nobody")
    read = [list(_sentences(text)) for text in texts]
    alike = [min(_least(one, other), _least(other, one)) for one, other in combinations(read, 2)]
    return math.fsum(alike) / len(alike)


@dataclass(frozen=True)
class _Sentence:
    units: Counter[object]
    square: int
    numbers: Counter[str]
    negations: int

    @classmethod
    def of(cls, text: str) -> _Sentence | None:
        """None if there is no content word in it."""
        found = terms(text)
        if not found:
            return None
        units: Counter[object] = Counter([*found, *pairwise(found)])
        square = sum(count * count for count in units.values())
        numbers = Counter(term for term in found if any(char.isdigit() for char in term))
        return cls(units, square, numbers, len(_NEGATION.findall(text)))

    def like(self, other: _Sentence) -> float:
        few, many = sorted((self.units, other.units), key=len)
        cosine = min(
            1.0, sum(count * many[unit] for unit, count in few.items()) / math.sqrt(self.square * other.square)
        )
        same = self.numbers == other.numbers and self.negations == other.negations
        return cosine if same else _CONTRADICTS * cosine


def _sentences(text: str) -> Iterator[_Sentence]:
    plain = _CITATION.sub("", text[:READ_CHARS])
    parts = [part for line in plain.splitlines() for part in split_sentences(line)]
    rest = " ".join(parts[MAX_SENTENCES - 1 :])
    for part in (*parts[: MAX_SENTENCES - 1], rest):
        sentence = _Sentence.of(part)
        if sentence:
            yield sentence


def _least(texts: Sequence[_Sentence], others: Sequence[_Sentence]) -> float:
    """How alike the sentence is that the other text says least."""
    return min((max((one.like(other) for other in others), default=0.0) for one in texts), default=0.0)
