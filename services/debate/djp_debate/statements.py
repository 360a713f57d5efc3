"""Reads passages into statements: whole sentences that can stand in an answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from djp.llm.markdown import outside_code, prose
from djp.llm.text import WORD, split_sentences, terms, word_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from djp.llm.markdown import Block
    from djp_debate.model import Passage

MAX_STATEMENTS = 2000
"""Statements considered, from the best passages on: a search gives eight passages with some ten each."""
READ_CHARS, FAIR_CHARS = 160_000, 1600
"""Code points read of all passages together, and of each at least: a passage that grounding cuts has at most 1600."""
MIN_WORDS, MAX_WORDS, MAX_CHARS = 4, 70, 600
"""Shorter sentences are labels ("Counted."), longer ones are lists or text without punctuation."""
LONGEST_WORD = 60
"""A sentence with a longer word holds a key, a hash or an address, and is no prose."""
FEW = 8
"""With fewer whole sentences than these, list items without a full stop are taken too."""
_FRAGMENT_WORDS = 40
_MOST_NEEDED = 3
_MIN_CHARS = 4  # of a paragraph: four words of one Chinese character

_NUMBERED = re.compile(r"\s*\[\^?[0-9]{1,3}\]")
_CODE = re.compile(r"`[^`]*`")
_BRACKETS = re.compile(r"\[REDACTED:[A-Z_]+\]|[\[\]]")
_ROUND = {"[": "(", "]": ")"}
_BEGINS = re.compile(r"[\"'\u201c\u2018\u00ab(`*]*(.)")
_ENDS = re.compile(r"[.!\u2026\u3002\uff01]+[\"'\u201d\u2019\u00bb)`*]*$")
_DANGLING = re.compile(
    r"(?:it|its|this|that|these|those|they|their|them|he|she|his|her|such|both|neither|either|here|then|thus|therefore|"
    r"however|otherwise|but|and|or|so|also|moreover|furthermore|instead|hence|consequently|similarly|likewise|again|"
    r"finally|meanwhile|else|yet|still|another|others|because|which|"
    r"the (?:former|latter|same|other|others|rest|first|second|third)|"
    r"there(?! (?:is|are|was|were|can)\b)|(?:in|for|after|at|of|with|from|by|on|to) (?:it|them|this|that|these|those)|"
    r"for (?:example|instance)|as a result|on the other hand|"
    r"(?:if|when|while|once|unless) (?:it|they|so|not|this|that)|"
    r"(?:one|all|most|none|some|each|any|many|few) of (?:them|these|those|it))\b",
    re.IGNORECASE,
)
_POINTING = re.compile(
    r"^(?:how|what|where|when|why|who) to\b|^(?:see|compare|cf)\b|"
    r"\b(?:all|most|much|some|any|none|each) of (?:this|that|these|those)\b|"
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
        """The statement with those before it that it cannot do without, at most two; None if they are not at hand."""
        needed, first = [self], self
        while first.dangling:
            if first.before is None or len(needed) == _MOST_NEEDED:
                return None
            first = first.before
            needed.insert(0, first)
        return tuple(needed)

    def repeats(self, other: Statement) -> bool:
        """Whether both say nearly the same words."""
        shared = len(self.terms & other.terms)
        return self.terms == other.terms or shared >= 0.8 * len(self.terms | other.terms)


def statements_of(passages: Sequence[Passage]) -> list[Statement]:
    """The whole sentences of the passages, none twice; where there are few, whole list items too.

    Only if there is neither, the beginnings of paragraphs, marked as unfinished; nothing from passages without prose.
    Of very long passages only the beginnings are read, see `READ_CHARS`.
    """
    share = max(FAIR_CHARS, READ_CHARS // max(1, len(passages)))
    read = [list(prose(passage.text[:share])) for passage in passages]
    found = _distinct(_statements(passages, read, items=False))
    if len(found) < FEW:
        found = _distinct(_statements(passages, read, items=True))
    return found or _distinct(_fragments(passages, read))


def without_brackets(text: str) -> str:
    """Square brackets made round, so that none can pass for a citation. Redaction labels stay as they are."""
    return _BRACKETS.sub(lambda found: _ROUND.get(found[0], found[0]), text)


def _statements(passages: Sequence[Passage], read: Sequence[list[Block]], *, items: bool) -> Iterator[Statement]:
    found = 0
    for rank, (passage, blocks) in enumerate(zip(passages, read, strict=True)):
        for number, block in enumerate(blocks):
            if len(block.text) < _MIN_CHARS:
                continue
            context = frozenset(terms(f"{passage.title} {block.heading} {block.label}"))
            before: Statement | None = None
            for place, sentence in enumerate(split_sentences(block.text)):
                text = _quotable(sentence)
                if items and number + 1 < len(blocks) and text[-1:].isalnum():  # the last block may be cut
                    text = f"{block.label}: {text}." if block.label else f"{text}."
                if not _is_whole(text) or _POINTING.search(text):
                    before = None
                    continue
                before = _statement(text, passage, rank, (passage.start, number, place), context, before)
                yield before
                found += 1
                if found == MAX_STATEMENTS:
                    return


def _fragments(passages: Sequence[Passage], read: Sequence[list[Block]]) -> Iterator[Statement]:
    found = 0
    for rank, (passage, blocks) in enumerate(zip(passages, read, strict=True)):
        for number, block in enumerate(blocks):
            words = _quotable(block.text).rstrip(" .:;,").split()[:_FRAGMENT_WORDS]
            if len(words) < 2 or any(len(word) > LONGEST_WORD for word in words):
                continue
            text = f"{' '.join(words)}\u2026"
            if _words(text) > MAX_WORDS:
                continue
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
    """Its terms are those of its words; of code between backticks only if there are few words besides."""
    words = frozenset(terms(_CODE.sub(" ", text)))
    dangling = bool(_DANGLING.match(text))
    return Statement(
        text,
        passage,
        rank,
        order,
        words if len(words) > 2 else frozenset(terms(text)),
        context,
        before,
        dangling,
        _words(text),
    )


def _distinct(statements: Iterable[Statement]) -> list[Statement]:
    seen: dict[str, Statement] = {}
    for statement in statements:
        seen.setdefault("".join(c for c in statement.text.casefold() if c.isalnum()), statement)
    return list(seen.values())


def _words(text: str) -> int:
    """How many words a text has, each part of "half-way" and `run_id` one: so the jury's rule on long quotes counts."""
    return max(word_count(text), len(WORD.findall(text)))


def _quotable(sentence: str) -> str:
    """A sentence without its notes, such as [1], and without square brackets; code stays as it is."""
    return outside_code(sentence, lambda part: without_brackets(_NUMBERED.sub("", part))).strip()


def _is_whole(text: str) -> bool:
    begins = _BEGINS.match(text)
    if begins is None or (begins[1].islower() and not text.startswith("`")) or not _ENDS.search(_CODE.sub("`", text)):
        return False
    if len(text) > MAX_CHARS or not MIN_WORDS <= _words(text) <= MAX_WORDS:
        return False
    if any(len(word) > LONGEST_WORD and word.isascii() for word in text.split()):
        return False
    return 2 * sum(char.isalpha() for char in text) > len(text)
