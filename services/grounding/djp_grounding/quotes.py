"""Checks that a quotation stands in a document, whatever typesetting has done to either of them."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from djp.llm.text import word_count
from djp_grounding.claims import QUOTE_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from djp_grounding.model import Passage

# One spelling for what typesetters, keyboards and models write differently.
_SAME = {
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u2032\u02bc"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb"), '"'),
    **dict.fromkeys(map(ord, "\u00ad\u2010\u2011\u2012\u2013\u2014\u2015\u2212"), "-"),
    **dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff"), ""),
    **dict.fromkeys(map(ord, "*`_"), ""),  # emphasis and code of Markdown
}
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_LINE_MARKS = re.compile(r"^[ \t]*(?:>[ \t]?|#{1,6}[ \t]|[-*+][ \t])+", re.MULTILINE)
_HYPHEN = re.compile(r"(?<=[^\W\d_])-\s*(?=[^\W\d_])")  # a word's own hyphen and that of a line's end look alike
_ELLIPSIS = re.compile(r"\s*(?:\[?\.\.\.\]?|\(\.\.\.\))\s*")
_OUTER = " .,;:!?\"'-()"  # a sentence's own marks often stand inside its quotation marks


class DocumentText:
    """A document as quotations are looked for in it."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        """`passages` are all of the document, in order."""
        self._text = ""
        parts: list[str] = []
        end = 0
        for passage in passages:
            part = _unlined(passage.text[max(0, end - passage.start) :])
            joined = parts and parts[-1].endswith("-") and part[:1].isalpha()  # a word broken between two pages
            parts.append(part if joined else f" {part}")
            end = passage.end
        self._text = _folded("".join(parts))

    def __len__(self) -> int:
        return len(self._text)

    def holds(self, quote: str) -> bool:
        """Whether the quotation stands here, word by word.

        Compared are the texts in their compatibility form (NFKC: ligatures become letters), without case, Markdown's
        marks and line breaks, with hyphens between letters taken out on both sides. An ellipsis stands for what was
        left out: the parts around it must each have three words and stand in that order.
        """
        parts = [part.strip(_OUTER) for part in _ELLIPSIS.split(_folded(_unlined(quote)))]
        parts = [part for part in parts if part]
        if len(parts) > 1 and any(word_count(part) < QUOTE_WORDS for part in parts):
            return False
        at = 0
        for part in parts:
            at = self._find(part, at)
            if at < 0:
                return False
            at += len(part)
        return bool(parts)

    def _find(self, part: str, at: int) -> int:
        """Where the part stands as whole words, from `at` on; -1 if nowhere."""
        while (at := self._text.find(part, at)) >= 0:
            before, after = self._text[at - 1 : at], self._text[at + len(part) : at + len(part) + 1]
            if not (_in_word(before, part[0]) or _in_word(after, part[-1])):
                return at
            at += 1
            while self._text[at : at + 1].isalnum():  # a match cannot start inside a word, and trying costs its length
                at += 1
        return -1


def _in_word(outside: str, inside: str) -> bool:
    return outside.isalnum() and inside.isalnum() and not (_is_word(outside) or _is_word(inside))


def _is_word(char: str) -> bool:
    """Whether the character is a word by itself, as in scripts without spaces."""
    return (
        "\u0e00" <= char <= "\u0eff"
        or "\u1000" <= char <= "\u109f"
        or "\u1780" <= char <= "\u17ff"
        or ("\u3040" <= char <= "\u9fff" or char >= "\uf900")
    )


def _unlined(text: str) -> str:
    return _LINE_MARKS.sub("", _LINK.sub(r"\1", text))


def _folded(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).translate(_SAME).casefold()
    return " ".join(_HYPHEN.sub("", plain).split())
