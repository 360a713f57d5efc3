"""Resolves a citation to a document of a corpus version: exactly, or as a close variant that can mean only one."""

from __future__ import annotations

import enum
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from djp_grounding.citations import Mention, find_mentions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp_grounding.model import Document

TYPO_CHARS = 5
"""A name shorter than this has no typos: one letter makes another word of it."""
CHARS_PER_TYPO = 10
MAX_TYPOS = 3
"""One typo is forgiven in every ten characters, at least one and at most three."""
_COMPARED = 500
"""So many different unknown citations of a text are compared with titles; a draft has a dozen, an attack thousands."""

# What has no typos: numbers (2023 is not 2024), words of one or two letters (Part A is not Part B), and characters that
# are words.
_FIXED = re.compile(r"\d+|\b\w{1,2}\b|[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


class CitationStatus(enum.Enum):
    """How a citation fared."""

    RESOLVED = "resolved"
    UNRESOLVED = "unresolved"
    AMBIGUOUS = "ambiguous"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True)
class Citation:
    """A citation with its document, or with the reason why it has none or why that does not count.

    `support` is how well the document backs the citing sentence, from 0 to 1, where that was measured, and
    `passage_id` the passage that does it best.
    """

    mention: Mention
    status: CitationStatus
    document: Document | None = None
    reason: str = ""
    support: float | None = None
    passage_id: str = ""


@dataclass(frozen=True)
class _Outcome:
    status: CitationStatus
    document: Document | None = None
    reason: str = ""


class TitleIndex:
    """The titles of one corpus version. Safe for many threads."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._exact = {_spaced(document.title): document for document in documents}
        folded: defaultdict[str, list[Document]] = defaultdict(list)
        for document in documents:
            folded[fold(document.title)].append(document)
        self._folded = dict(folded)
        # By what a typo leaves nearly or wholly alone, so that few titles are compared with a misspelt one.
        self._near: defaultdict[tuple[tuple[str, ...], int], list[str]] = defaultdict(list)
        for title in folded:
            self._near[_fixed(title), len(title)].append(title)

    def check(self, text: str) -> list[Citation]:
        """Every citation in `text`, in order, resolved or with the reason why not.

        Numbers such as `[1]` count only where a document is called so.
        """
        known: dict[str, _Outcome] = {}
        compared = 0
        citations = []
        for mention in find_mentions(text):
            name = _spaced(mention.text)
            if name not in known:
                outcome = self._look_up(name)
                if outcome is None and compared < _COMPARED:
                    compared += 1
                    outcome = self._nearest(name)
                known[name] = outcome or _unresolved(
                    f"not compared: more than {_COMPARED} unknown citations in one text"
                )
            outcome = known[name]
            if outcome.document is None and not any(char.isalpha() for char in name):
                continue
            citations.append(Citation(mention, outcome.status, outcome.document, outcome.reason))
        return citations

    def _look_up(self, name: str) -> _Outcome | None:
        if (document := self._exact.get(name)) is not None:
            return _Outcome(CitationStatus.RESOLVED, document)
        same = self._folded.get(fold(name), [])
        if len(same) == 1:
            return _Outcome(CitationStatus.RESOLVED, same[0])
        return _ambiguous(same) if same else None

    def _nearest(self, name: str) -> _Outcome:
        """The one title within the typos forgiven."""
        key = fold(name)
        if len(key) < TYPO_CHARS:
            return _unresolved("no document has this title")
        from rapidfuzz import distance, process  # here: most texts cite exactly, and its import takes 25 ms

        allowed = min(max(1, len(key) // CHARS_PER_TYPO), MAX_TYPOS)
        lengths = range(len(key) - allowed, len(key) + allowed + 1)
        titles = [title for length in lengths for title in self._near.get((_fixed(key), length), ())]
        close = process.extract(key, titles, scorer=distance.OSA.distance, score_cutoff=allowed, limit=None)
        if not close:
            return _unresolved("no document has this title, nor one close to it")
        nearest = [document for title, typos, _ in close if typos == close[0][1] for document in self._folded[title]]
        return _Outcome(CitationStatus.RESOLVED, nearest[0]) if len(nearest) == 1 else _ambiguous(nearest)


def fold(title: str) -> str:
    """A title as compared: compatibility forms unified, without case, punctuation and surplus spaces."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", title).casefold())
    return " ".join("".join(map(_compared, plain)).split())


def _compared(char: str) -> str:
    kind = unicodedata.category(char)  # letters, marks and numbers; the vowels of Indic scripts are marks
    return char if kind[0] in "LMN" else "" if kind == "Cf" else " "


def _fixed(title: str) -> tuple[str, ...]:
    return tuple(_FIXED.findall(title))


def _spaced(title: str) -> str:
    return " ".join(title.split())


def _unresolved(reason: str) -> _Outcome:
    return _Outcome(CitationStatus.UNRESOLVED, reason=reason)


def _ambiguous(documents: Sequence[Document]) -> _Outcome:
    titles = ", ".join(f"[{document.title}]" for document in documents[:3])
    return _Outcome(CitationStatus.AMBIGUOUS, reason=f"equally near to {len(documents)} titles: {titles}")
