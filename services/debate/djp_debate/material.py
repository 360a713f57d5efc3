"""Reads passages into statements: whole sentences that can stand in an answer, and how near each is to the task."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from djp.llm.markdown import outside_code, prose
from djp.llm.text import split_sentences, terms, word_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from djp_debate.model import Passage

MAX_STATEMENTS = 2000
"""Statements considered, from the best passages on: a search gives eight passages with some ten each."""
MIN_WORDS, MAX_WORDS, MAX_CHARS = 4, 70, 600
"""Shorter sentences are labels ("Counted."), longer ones are lists or text without punctuation."""
LONGEST_WORD = 60
"""A sentence with a longer word holds a key, a hash or an address, and is no prose."""
_FRAGMENT_WORDS = 40

_NUMBERED = re.compile(r"\s*\[\^?[0-9]{1,3}\]")
_BRACKETS = re.compile(r"\[REDACTED:[A-Z_]+\]|[\[\]]")
_ROUND = {"[": "(", "]": ")"}
_BEGINS = re.compile(r"[\"'\u201c\u2018\u00ab(`*]*(.)")
_ENDS = re.compile(r"[.!\u2026\u3002\uff01]+[\"'\u201d\u2019\u00bb)`*]*$")
_DANGLING = re.compile(
    r"(?:it|its|this|that|these|those|they|their|them|he|she|his|her|such|both|neither|either|here|then|thus|therefore|"
    r"however|otherwise|but|and|or|so|also|moreover|furthermore|instead|hence|consequently|similarly|likewise|"
    r"again|"
    r"finally|meanwhile|else|yet|still|another|others|because|which|"
    r"the (?:former|latter|same|other|others|rest|first|second|third)|"
    r"there(?! (?:is|are|was|were|can)\b)|(?:in|for|after|at|of|with|from|by|on|to) (?:it|them|this|that|these|those)|"
    r"for (?:example|instance)|as a result|on the other hand|"
    r"(?:if|when|while|once|unless) (?:it|they|so|not|this|that)|"
    r"(?:one|all|most|none|some|each|any|many|few) of (?:them|these|those|it))\b",
    re.IGNORECASE,
)
_POINTING = re.compile(
    r"\b(?:(?:see|shown|listed|described|mentioned|noted) (?:above|below)|(?:the|this) (?:table|figure|example|list|"
    r"diagram|picture|section|chapter|page) (?:above|below|shows|lists)|as follows|the following|in this (?:section|"
    r"chapter|page|guide|document)|this (?:section|chapter|page|guide|document|table|figure))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, eq=False)
class Statement:
    """A sentence of a passage, free of markup and of brackets that could pass for a citation.

    `order` sorts the statements of one document as they stand in it. `before` is the statement right before it in its
    paragraph, which it needs when it is `dangling` ("It has …"). `context` are the terms of its headings and its title.
    """

    text: str
    passage: Passage
    rank: int
    order: tuple[int, int, int]
    terms: frozenset[str]
    context: frozenset[str]
    before: Statement | None
    dangling: bool
    words: int

    @property
    def document(self) -> str:
        """What tells documents apart."""
        return self.passage.document_id or self.passage.title

    @cached_property
    def with_needed(self) -> tuple[Statement, ...] | None:
        """The statement with those before it that it cannot do without; None if one of them is not at hand."""
        if not self.dangling:
            return (self,)
        before = self.before.with_needed if self.before else None
        return (*before, self) if before and len(before) < 3 else None

    def repeats(self, other: Statement) -> bool:
        """Whether both say nearly the same words."""
        shared = len(self.terms & other.terms)
        return self.terms == other.terms or shared >= 0.8 * len(self.terms | other.terms)


class Material:
    """The statements of the passages, and the weight of each term among them."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.statements = _distinct(_statements(passages)) or _distinct(_fragments(passages))
        counts = Counter(term for statement in self.statements for term in statement.terms)
        total = len(self.statements)
        self._weights = {term: math.log(1 + (total - n + 0.5) / (n + 0.5)) for term, n in counts.items()}
        self._mean_words = sum(statement.words for statement in self.statements) / (total or 1)

    def relevance(self, wanted: frozenset[str], cared_for: frozenset[str]) -> dict[Statement, float]:
        """How near each statement is to the terms of the task, 0 to 1: BM25, once for the sentence and at a third of
        its weight for the headings and the title above it. Terms of the debater's role weigh half.

        A better passage breaks what would be a tie.
        """
        raw = {statement: self._raw(statement, wanted, cared_for) for statement in self.statements}
        best = max(raw.values(), default=0.0) or 1.0
        return {statement: (score / best + 0.1 / (1 + statement.rank)) / 1.1 for statement, score in raw.items()}

    def _raw(self, statement: Statement, wanted: frozenset[str], cared_for: frozenset[str]) -> float:
        def weigh(found: frozenset[str]) -> float:  # sorted: the sum of floats depends on their order
            return sum(self._weights.get(term, 1.0) for term in sorted(found))

        said = weigh(statement.terms & wanted) + 0.5 * weigh((statement.terms & cared_for) - wanted)
        above = weigh((statement.context & wanted) - statement.terms)
        length = 0.5 + 0.5 * statement.words / (self._mean_words or 1.0)
        return said * 2.2 / (1 + 1.2 * length) + above / 3


def _statements(passages: Sequence[Passage]) -> Iterator[Statement]:
    found = 0
    for rank, passage in enumerate(passages):
        for number, block in enumerate(prose(passage.text)):
            context = frozenset(terms(f"{passage.title} {block.heading} {block.label}"))
            before: Statement | None = None
            for place, sentence in enumerate(split_sentences(block.text)):
                text = _quotable(sentence)
                before = (
                    _statement(text, passage, rank, (passage.start, number, place), context, before)
                    if _is_whole(text)
                    else None
                )
                if before is None or _POINTING.search(text):
                    continue
                yield before
                found += 1
                if found == MAX_STATEMENTS:
                    return


def _fragments(passages: Sequence[Passage]) -> Iterator[Statement]:
    """For passages without one whole sentence: the beginnings of their paragraphs, marked as unfinished."""
    found = 0
    for rank, passage in enumerate(passages):
        for number, block in enumerate(prose(passage.text)):
            words = _quotable(block.text).rstrip(" .:;,").split()
            if len(words) < 2 or any(len(word) > LONGEST_WORD for word in words[:_FRAGMENT_WORDS]):
                continue
            text = " ".join(words[:_FRAGMENT_WORDS]) + "\u2026"
            yield _statement(text, passage, rank, (passage.start, number, 0), frozenset(terms(passage.title)), None)
            found += 1
            if found == MAX_STATEMENTS:
                return


def _statement(
    text: str,
    passage: Passage,
    rank: int,
    order: tuple[int, int, int],
    context: frozenset[str],
    before: Statement | None,
) -> Statement:
    dangling = bool(_DANGLING.match(text))
    return Statement(text, passage, rank, order, frozenset(terms(text)), context, before, dangling, word_count(text))


def _distinct(statements: Iterable[Statement]) -> list[Statement]:
    seen: dict[str, Statement] = {}
    for statement in statements:
        seen.setdefault("".join(c for c in statement.text.casefold() if c.isalnum()), statement)
    return list(seen.values())


def without_brackets(text: str) -> str:
    """Square brackets made round, so that none can pass for a citation. Code and redaction labels stay as they are."""
    return outside_code(text, lambda part: _BRACKETS.sub(lambda found: _ROUND.get(found[0], found[0]), part))


def _quotable(sentence: str) -> str:
    """A sentence without its notes, such as [1], and without square brackets."""
    return without_brackets(outside_code(sentence, lambda part: _NUMBERED.sub("", part))).strip()


def _is_whole(text: str) -> bool:
    begins = _BEGINS.match(text)
    if begins is None or (begins[1].islower() and not text.startswith("`")) or not _ENDS.search(text):
        return False
    if len(text) > MAX_CHARS or not MIN_WORDS <= word_count(text) <= MAX_WORDS:
        return False
    if any(len(word) > LONGEST_WORD for word in text.split()) and text.isascii():
        return False
    return 2 * sum(char.isalpha() for char in text) > len(text)
