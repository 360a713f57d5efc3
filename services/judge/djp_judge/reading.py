"""Reads a draft as the offline juror does: its sentences, which of them say something, and what backs them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING

from djp.llm.markdown import prose
from djp.llm.text import sentences, split_sentences, terms, word_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from djp_judge.model import Passage

READ_CHARS = 65_536
"""So much of a draft is read: some ten thousand words, many times what a debater is asked for."""
_BACKED = (3, 5)
"""A passage backs a sentence when it has more than this share of the sentence's terms and pairs of neighbouring terms.

Terms alone never reach it: a list of the right words in the wrong order has none of the pairs.
"""
_CHECKABLE = 3
"""A sentence of fewer different terms says too little to be backed: "the best draft" stands in many documents."""
_NEW = 4
"""A sentence says something new when at least one in so many of its terms (pairs, against earlier ones) is new."""
_FOR_THE_JURY = frozenset(
    terms(
        "juror jury judge rubric score scoring grade grading mark points rating evaluator evaluate instruction prompt "
        "ignore disregard draft winner award"
    )
)
_ADDRESSING = 2
"""So many words of the jury's trade make a sentence one that speaks to the jury, unless task or passages have them."""

_Unit = str | tuple[str, str]  # a term, or two that stand side by side

_CITATION = re.compile(r"\[([^\[\]]{1,400})\](?!\()")
_CODE = re.compile(r"`[^`]*`")


class Worth(Enum):
    """What a sentence is worth as a part of an answer; only `GOOD` ones earn points."""

    GOOD = "good"
    REPEATED = "repeated"
    QUESTION = "question"
    RESTATES = "restates the task"
    FOR_THE_JURY = "speaks to the jury"
    UNBACKED = "not backed"


@dataclass(frozen=True)
class Sentence:
    """A sentence of a draft. `rightly_cited`: a citation of it names a passage's document that backs it."""

    words: int
    terms: frozenset[str]
    worth: Worth
    paragraph: int
    rightly_cited: bool = False


@dataclass(frozen=True)
class _Part:
    """A sentence as it stands in the draft, before it is judged."""

    words: int
    terms: tuple[str, ...]
    cited: frozenset[str]
    question: bool
    paragraph: int


class Sources:
    """The passages, indexed: what backs a sentence. Built once for a judgement."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        self._titles: list[str] = []
        self._holding: defaultdict[_Unit, list[int]] = defaultdict(list)
        self._sentences: list[tuple[str, ...]] = []
        for number, passage in enumerate(passages):
            self._titles.append(fold(passage.title))
            units: set[_Unit] = set()
            for sentence in sentences(passage.text):
                found = tuple(terms(_CITATION.sub(" ", sentence)))
                self._sentences.append(found)
                units.update(found, pairwise(found))
            for unit in units:
                self._holding[unit].append(number)

    def __bool__(self) -> bool:
        return bool(self._titles)

    def __contains__(self, term: str) -> bool:
        return term in self._holding

    def rarity(self, term: str) -> int:
        """How well a term tells the passages apart: 1 when all of them or none has it, one more for each without."""
        return 1 + (len(self._titles) - len(self._holding[term]) if term in self._holding else 0)

    def around(self, task: frozenset[str]) -> Counter[str]:
        """The terms that share a sentence with the task's, with the number of sentences in which they do.

        Counted are the sentences that hold at least a third as many of the task's terms as the one that holds most.
        """
        held = [(len(task.intersection(sentence)), sentence) for sentence in self._sentences]
        most = max((count for count, _ in held), default=0)
        key = [sentence for count, sentence in held if count and 3 * count >= most]
        return Counter(term for sentence in key for term in set(sentence) - task)

    def backing(self, sentence: Sequence[str]) -> frozenset[str]:
        """The folded titles of the passages that back a sentence of these terms; none for fewer than three terms."""
        if len(set(sentence)) < _CHECKABLE:
            return frozenset()
        pairs = set(pairwise(sentence))
        units: set[_Unit] = {*sentence, *pairs}
        held = Counter(number for unit in units for number in self._holding.get(unit, ()))
        held_pairs = Counter(number for pair in pairs for number in self._holding.get(pair, ()))
        part, whole = _BACKED
        return frozenset(
            self._titles[number]
            for number, count in held.items()
            if count * whole > len(units) * part and held_pairs[number]
        )


def fold(title: str) -> str:
    """A title as compared: compatibility forms unified, without case, punctuation and surplus spaces."""
    plain = unicodedata.normalize("NFKC", title).casefold()
    return " ".join("".join(char if char.isalnum() or char.isspace() else " " for char in plain).split())


def read_draft(text: str, task_terms: frozenset[str], sources: Sources) -> list[Sentence]:
    """The sentences in the first `READ_CHARS` characters of a draft; those without a content word are passed over.

    Without passages a sentence counts as backed when it shares a term with the task: nothing better can be measured.
    """
    parts = list(_parts(text[:READ_CHARS]))
    backing = [sources.backing(part.terms) for part in parts]
    rightly = _rightly_cited(parts, backing)
    seen: set[object] = set()
    read = []
    for part, titles, cited in zip(parts, backing, rightly, strict=True):
        units: set[object] = set(pairwise(part.terms)) or set(part.terms)
        repeated = len(units - seen) * _NEW < len(units)
        seen |= units
        own = frozenset(part.terms)
        backed = bool(titles) if sources else bool(own & task_terms)
        if len([term for term in own & _FOR_THE_JURY if term not in task_terms and term not in sources]) >= _ADDRESSING:
            worth = Worth.FOR_THE_JURY
        elif repeated:
            worth = Worth.REPEATED
        elif part.question:
            worth = Worth.QUESTION
        elif len(own - task_terms) * _NEW < len(own):
            worth = Worth.RESTATES
        else:
            worth = Worth.GOOD if backed else Worth.UNBACKED
        read.append(Sentence(part.words, own, worth, part.paragraph, cited and worth is Worth.GOOD))
    return read


def _parts(text: str) -> Iterator[_Part]:
    for number, block in enumerate(prose(text)):
        for sentence in split_sentences(block.text):
            said = _CITATION.sub(" ", sentence)
            found = terms(said)
            if found:
                cited = frozenset(filter(None, map(fold, _CITATION.findall(_CODE.sub(" ", sentence)))))
                yield _Part(word_count(said), tuple(found), cited, said.rstrip(" .*_\"'").endswith("?"), number)


def _rightly_cited(parts: Sequence[_Part], backing: Sequence[frozenset[str]]) -> list[bool]:
    """For each sentence whether its citations name what backs it.

    A citation stands for its sentence and for those before it in the paragraph that have none of their own. It counts
    only if most of the titles cited there back one of these sentences: naming every title earns nothing.
    """
    right = [False] * len(parts)
    group: list[int] = []
    for number, part in enumerate(parts):
        if group and parts[group[-1]].paragraph != part.paragraph:
            group = []
        group.append(number)
        if part.cited:
            useful = part.cited & frozenset().union(*(backing[one] for one in group))
            if len(useful) * 2 > len(part.cited):
                for one in group:
                    right[one] = bool(part.cited & backing[one])
            group = []
    return right
