"""Finds verbatim quotes that are too long: marked as quotes, or copied from a passage without a mark."""

from __future__ import annotations

import re
import secrets
from functools import cached_property
from typing import TYPE_CHECKING

from djp.llm.text import MAX_QUOTED_WORDS, UNSPACED, word_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# Each repetition stops at what comes after it, so every search takes linear time.
_PARAGRAPH_END = re.compile(r"\n[ \t]*\n")
_BLOCKQUOTE = re.compile(r"[ ]{0,3}>[ \t]?")
_MARK = re.compile('["\u201c\u201d\u201e\u00ab\u00bb]')
_CLOSING = {"\u201c": "\u201d", "\u201e": "\u201c\u201d", "\u00ab": "\u00bb", "\u00bb": "\u00ab", "\u201d": "\u201d"}
_WORD = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+(?:['\u2019][^\W_{UNSPACED}]+)*")
_IS_UNSPACED = re.compile(f"[{UNSPACED}]")
_MODULUS = 2**61 - 1


def longest_quote(text: str) -> int:
    """The words of the longest quote that is marked as one: between quotation marks, or in a block quote."""
    return max((word_count(quote) for quote in _marked(text)), default=0)


class Copies:
    """Finds runs of more than 75 consecutive words that a text shares with a passage. Indexes the passages once."""

    def __init__(self, passages: Iterable[str]) -> None:
        self._base = secrets.randbelow(_MODULUS - 2) + 2
        self._passages = list(passages)
        self._runs: dict[int, set[int]] = {}

    @cached_property
    def _words(self) -> list[list[str]]:
        return [_words(passage) for passage in self._passages]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate({word for words in self._words for word in words}, 1)}

    def copied(self, text: str) -> bool:
        """Whether the text holds such a run, whatever its case, punctuation and spacing. Takes linear time.

        In scripts without spaces two characters count as a word.
        """
        words = _words(text)
        # Hashed by a polynomial with a random base (Karp and Rabin 1987): two runs that differ are taken for one with a
        # chance of 1e-12 at the very most, even if a million runs on either side are compared.
        unspaced = sum(1 for word in words if _IS_UNSPACED.match(word)) * 2 > len(words)
        size = (2 * MAX_QUOTED_WORDS if unspaced else MAX_QUOTED_WORDS) + 1
        if len(words) < size:
            return False
        if size not in self._runs:
            self._runs[size] = {run for passage in self._words for run in self._hashes(passage, size)}
        runs = self._runs[size]
        return any(run in runs for run in self._hashes(words, size))

    def _hashes(self, words: Sequence[str], size: int) -> Iterator[int]:
        """Of every run of so many words that the passages know, the hash."""
        highest = pow(self._base, size - 1, _MODULUS)
        numbers: list[int] = []
        run = 0
        for word in words:
            number = self._numbers.get(word, 0)
            if not number:
                numbers, run = [], 0
                continue
            if len(numbers) >= size:
                run = (run - numbers[-size] * highest) % _MODULUS
            run = (run * self._base + number) % _MODULUS
            numbers.append(number)
            if len(numbers) >= size:
                yield run


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _marked(text: str) -> Iterator[str]:
    quoted: list[str] = []
    for line in text.splitlines():
        mark = _BLOCKQUOTE.match(line)
        if mark:
            quoted.append(line[mark.end() :].lstrip("> \t"))
        elif quoted and not line.strip():
            yield "\n".join(quoted)
            quoted = []
        elif quoted:
            quoted.append(line)  # a paragraph goes on without the mark
    yield "\n".join(quoted)
    for paragraph in _PARAGRAPH_END.split(text):
        yield from _between_marks(paragraph)


def _between_marks(paragraph: str) -> Iterator[str]:
    start, closing = -1, ""
    for found in _MARK.finditer(paragraph):
        mark, at = found[0], found.start()
        if start >= 0 and mark in closing and (mark != '"' or _may_close(paragraph, at)):
            yield paragraph[start:at]
            start = -1
        elif start < 0 and (mark != '"' or _may_open(paragraph, at)):
            start, closing = at + 1, _CLOSING.get(mark, mark)


def _may_open(text: str, at: int) -> bool:
    return not text[at + 1 : at + 2].isspace() and (at == 0 or not text[at - 1].isalnum())


def _may_close(text: str, at: int) -> bool:
    return not text[at - 1].isspace() and not text[at + 1 : at + 2].isalnum()
