"""Cuts a text into passages along its structure: headings, then paragraphs, then sentences, then words."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from djp.llm.tokens import BYTES_PER_TOKEN, utf8_bytes
from djp_grounding.model import Extracted, Passage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PASSAGE_TOKENS = 320
"""A passage holds at most so many: long enough to answer, short enough that eight of them fit a prompt.

A token is four bytes of UTF-8, as everywhere in the mesh where no vocabulary is asked (`djp.llm.tokens`): counting so
costs nothing, o200k_base would take as long as all else that a build does. English prose has fewer tokens than that.
"""
OVERLAP_TOKENS = 48
"""Where a section is cut for its length, the next passage begins again with the last sentence or paragraph of the one
before if that has no more, so that what stands on both sides of a cut is found together."""
SECTION_TOKENS = 96
"""A heading starts a new passage once the one before holds so many; shorter sections share a passage."""

PASSAGE_BYTES = PASSAGE_TOKENS * BYTES_PER_TOKEN
_OVERLAP, _SECTION = OVERLAP_TOKENS * BYTES_PER_TOKEN, SECTION_TOKENS * BYTES_PER_TOKEN
_WORD = re.compile(r"\S+")
_HEADING = re.compile(r"#{1,6}[ \t]")
_FENCE = re.compile(r"[ ]{0,3}(```|~~~)")
_WIDE_STOPS = "\u3002\uff01\uff1f"  # full-width . ! ? of Chinese and Japanese, which no space follows
_STOPS = ".!?…" + _WIDE_STOPS
_CLOSERS = "\"'\u201d\u2019)]*_"
_GAP = re.compile(rf"\s+|(?<=[{_WIDE_STOPS}])")  # where a sentence may end


class _Piece(NamedTuple):
    start: int
    end: int
    bytes: int
    section: bool = False  # starts with a heading
    whole: bool = True  # a sentence at least, not a part of one


def cut(document: Extracted) -> Iterator[Passage]:
    """The passages of a document, in order. They leave out nothing but white space.

    A passage never crosses a page, so that its page number is exact.
    """
    text, pages = document.text, document.pages
    starts = list(pages) or [document.body]
    ordinal = 0
    for at, start in enumerate(starts):
        end = starts[at + 1] if at + 1 < len(starts) else len(text)
        for piece in _pack(text, _small_pieces(text, start, end)):
            page = bisect_right(pages, piece.start) if pages else 0
            yield Passage(ordinal, page, piece.start, piece.end, text[piece.start : piece.end])
            ordinal += 1


def _pack(text: str, pieces: Iterable[_Piece]) -> Iterator[_Piece]:
    """Joins neighbours as long as they fit one passage and belong to one section."""
    held: _Piece | None = None
    last: _Piece | None = None  # the piece joined last, unless it is all that is held
    for piece in pieces:
        if held is None:
            held = piece
            continue
        joined = _joined(text, held, piece)
        if joined.bytes <= PASSAGE_BYTES and not (piece.section and held.bytes >= _SECTION):
            held, last = joined, piece
            continue
        yield held
        held, overlap, last = piece, last, None
        if overlap and overlap.whole and overlap.bytes <= _OVERLAP and not piece.section:
            joined = _joined(text, overlap, piece)
            if joined.bytes <= PASSAGE_BYTES:
                held, last = joined, piece
    if held is not None:
        yield held


def _joined(text: str, first: _Piece, then: _Piece) -> _Piece:
    between = _bytes(text, first.end, then.start)
    return first._replace(end=then.end, bytes=first.bytes + between + then.bytes)


def _bytes(text: str, start: int, end: int) -> int:
    return end - start if text.isascii() else utf8_bytes(text[start:end])


def _small_pieces(text: str, start: int, end: int) -> Iterator[_Piece]:
    for block_start, block_end, section in _blocks(text, start, end):
        for piece in _sentences_if_long(text, block_start, block_end):
            yield piece._replace(section=section)
            section = False


def _blocks(text: str, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """Paragraphs, each with the headings right above it, so that no passage ends with a heading of the next text.

    A fenced block of code is one paragraph, blank lines and `#` comments in it included. Spans carry no outer white
    space.
    """
    block = -1  # where the open block starts
    block_end = start
    section = only_headings = False
    fence = ""
    for line_start, line_end in _lines(text, start, end):
        line = text[line_start : min(line_end, line_start + 80)]  # enough to tell what the line is
        blank = not line.strip() and not text[line_start:line_end].strip()
        heading = not fence and bool(_HEADING.match(line))
        if block >= 0 and not fence and not only_headings and (blank or heading):
            yield *_trimmed(text, block, block_end), section
            block = -1
        if blank:
            continue
        if block < 0:
            block, section, only_headings = line_start, heading, heading
        only_headings = only_headings and heading
        block_end = line_end
        if mark := _FENCE.match(line):
            fence = mark[1] if not fence else "" if mark[1] == fence else fence
    if block >= 0:
        yield *_trimmed(text, block, block_end), section


def _lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    while start < end:
        newline = text.find("\n", start, end)
        stop = newline if newline >= 0 else end
        yield start, stop
        start = stop + 1


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while text[start].isspace():
        start += 1
    while text[end - 1].isspace():
        end -= 1
    return start, end


def _sentences_if_long(text: str, start: int, end: int) -> Iterator[_Piece]:
    size = _bytes(text, start, end)
    if size <= PASSAGE_BYTES:
        yield _Piece(start, end, size)
        return
    at = start
    for gap in _GAP.finditer(text, start, end):
        if _ends_sentence(text, at, gap.start()):
            yield from _words_if_long(text, at, gap.start())
            at = gap.end()
    if at < end:
        yield from _words_if_long(text, at, end)


def _ends_sentence(text: str, start: int, end: int) -> bool:
    for _ in range(3):  # closing quotes and brackets after the stop
        if end > start and text[end - 1] in _CLOSERS:
            end -= 1
    return end > start and text[end - 1] in _STOPS


def _words_if_long(text: str, start: int, end: int) -> Iterator[_Piece]:
    size = _bytes(text, start, end)
    if size <= PASSAGE_BYTES:
        yield _Piece(start, end, size)
        return
    longest = PASSAGE_BYTES if text.isascii() else PASSAGE_BYTES // 4  # a code point has at most four bytes
    for word in _WORD.finditer(text, start, end):
        for at in range(word.start(), word.end(), longest):
            stop = min(at + longest, word.end())
            yield _Piece(at, stop, _bytes(text, at, stop), whole=False)
