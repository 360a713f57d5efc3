"""The statements of the passages, and how near each is to a task."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from djp.llm.text import terms
from djp_debate.statements import statements_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from djp_debate.model import Passage
    from djp_debate.statements import Statement

# Set by reading drafts about this project's own documents, like the numbers of strategies.py.
_ASIDE = 0.5  # what a term in a heading counts against one in the sentence
_TRUSTED, _FEEDBACK = 6, 0.3  # the best statements that lend terms, and the weight of such a term
_CHANCE = 0.5  # what a chance hit counts
_PASSAGE, _DOCUMENT, _AROUND = 0.25, 0.25, 3  # the parts of what is around, and how many statements tell it
_TIE = 0.01  # what the best passage adds, so that nothing else has to choose among equals
_ENOUGH, _MANY = 0.39, 5  # of a task's words: the share, or the number, that says that the passages speak about it
_FEW = 4  # passages: too few to tell rare words from common ones, but headings say what they are about
_SUBJECT = 2.0  # of few passages: what a word of a heading weighs, and a word that is nowhere
_GENERIC = frozenset(
    terms(
        "explain summarize summary describe write key insight happen work tell list compare discuss outline overview "
        "way many much best good main point detail brief report name show say 1 2 3 4 5 6 7 8 9 10 one two three four "
        "five add come find give hold keep last look need put see set start take use want"
    )
)
_K1, _B = 1.2, 0.5  # of BM25; half the usual weight of length, for sentences differ less than documents


class Material:
    """The statements of the passages, and the weight of each term: the fewer passages have it, the more it says."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.statements = statements_of(passages)
        self._mean_words = sum(one.words for one in self.statements) / (len(self.statements) or 1)
        by_passage: defaultdict[int, set[str]] = defaultdict(set)
        self._headings: set[str] = set()
        for statement in self.statements:
            by_passage[statement.rank] |= statement.terms | statement.context
            self._headings |= statement.context
        self._passages = list(by_passage.values())
        counts = Counter(term for found in self._passages for term in found)
        total = len(by_passage)
        self._weights = {term: math.log(1 + (total - n + 0.5) / (n + 0.5)) for term, n in counts.items()}

    def speaks_about(self, task: str) -> bool:
        """Whether an answer can be expected of the passages: the two with most of the task's content words hold enough.

        Enough are two fifths of them, rare ones weighing more and those that no passage holds most (one of them may be
        the one that matters), or any five: a long task has words that no passage needs. Words that only say what to do
        ("explain"), and those that go with any subject ("keep"), do not count. In fewer than four passages no word is
        rare: there the words of their headings weigh double, as those do that no passage holds.

        Set by the questions of tests/debate/test_debate_offline.py: of those that this project's documents do not speak
        about the highest share is 0.37, of those that they do the lowest is 0.40. Words are not meaning: "What is the
        best programming language?" is answered from documents that have a program and a language.
        """
        asked = self._asked(task)
        if not self.statements:
            return False
        if not asked:
            return True
        held = [asked.keys() & found for found in self._passages]
        best = sorted(held, key=lambda found: -math.fsum(asked[term] for term in found))[:2]
        together = frozenset().union(*best)
        share = math.fsum(asked[term] for term in together) / math.fsum(asked.values())
        return share >= _ENOUGH or len(together) >= _MANY

    def _asked(self, task: str) -> dict[str, float]:
        """The words that say what a task is about, with the weight that each has for whether there is an answer."""
        words = sorted(set(terms(task)) - _GENERIC)
        if len(self._passages) >= _FEW:
            unknown = math.log(2 * len(self._passages) + 2)
            return {term: self._weights.get(term, unknown) for term in words}
        return {term: 1.0 if term in self._weights and term not in self._headings else _SUBJECT for term in words}

    def subject(self, words: frozenset[str]) -> dict[str, float]:
        """Of some words those that the passages hold, with their weights; generic ones only if there are no others."""
        few = len(self._passages) < _FEW
        held = {term: 1.0 if few else self._weights[term] for term in sorted(words & self._weights.keys())}
        return {term: weight for term, weight in held.items() if term not in _GENERIC} or held

    def relevance(self, asked: Mapping[str, float]) -> dict[Statement, float]:
        """How near each statement is to what is asked (terms and their weights): about 1 for the nearest, 0 for none.

        BM25 of the sentence's own terms, and at half the weight of its headings and its title; then once more with the
        terms on which the best statements agree (pseudo-relevance feedback). So an answer goes on where the task's own
        words end, and a statement that shares nothing else with the best ones, a chance hit, counts half. A part of the
        relevance is that of the passage and of the document around, each by its three best statements: so an answer
        rather goes on where it began.
        """
        first = {one: self._score(one, asked) for one in self.statements}
        best = sorted(self.statements, key=lambda one: (-first[one], one.rank, one.order))[:_TRUSTED]
        agreed = Counter(term for one in best for term in one.terms if term not in asked)
        related = frozenset(term for term, count in agreed.items() if count > 1) or frozenset(agreed)
        widened = dict(asked) | dict.fromkeys(related, _FEEDBACK)
        second = {
            one: self._score(one, widened) * (1 if related & one.terms or one in best[:1] else _CHANCE)
            for one in self.statements
        }
        passages = _around(second, lambda one: one.rank)
        documents = _around(second, lambda one: one.document)
        mixed = {
            one: (1 - _PASSAGE - _DOCUMENT) * score
            + _PASSAGE * passages[one.rank]
            + _DOCUMENT * documents[one.document]
            for one, score in second.items()
        }
        highest = max(mixed.values(), default=0.0) or 1.0
        return {one: score / highest + _TIE / (1 + one.rank) for one, score in mixed.items()}

    def _score(self, statement: Statement, asked: Mapping[str, float]) -> float:
        def weigh(found: frozenset[str]) -> float:  # sorted, for a sum of floats depends on their order
            return sum(asked[term] * self._weights[term] for term in sorted(found))

        said = weigh(statement.terms & asked.keys())
        above = weigh((statement.context & asked.keys()) - statement.terms)
        length = 1 - _B + _B * statement.words / self._mean_words
        return said * (_K1 + 1) / (1 + _K1 * length) + _ASIDE * above


def _around(scores: Mapping[Statement, float], part: Callable[[Statement], Hashable]) -> dict[Hashable, float]:
    """For each passage or document, the mean score of its best statements."""
    by_part: defaultdict[Hashable, list[float]] = defaultdict(list)
    for statement, score in scores.items():
        by_part[part(statement)].append(score)
    return {key: sum(sorted(found)[-_AROUND:]) / _AROUND for key, found in by_part.items()}
