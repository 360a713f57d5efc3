"""What happens to a text before and after the search: look-alike characters, stretches left alone, offsets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import re2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# A look-alike becomes the ASCII character it stands for, so that offsets in code points stay. The spaces and hyphens
# are those that typesetting puts into numbers: no-break, figure, thin and narrow space; hyphens, en dash, minus.
_LOOK_ALIKES = dict.fromkeys("\u00a0\u2007\u2009\u202f\u3000", " ") | dict.fromkeys(
    "\u2010\u2011\u2012\u2013\u2212", "-"
)
# Digits and letters of full width, and the marks that numbers and addresses need: ( ) + - . @ _
_FULL_WIDTH = re.compile("[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff08\uff09\uff0b\uff0d\uff0e\uff20\uff3f]")
# What nobody sees, Unicode's default ignorable code points as far as texts hold them: soft hyphen, zero-width space and
# joiners, marks of direction, fillers, variation selectors, tags. PDFs are full of them.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)
# RE2 tells in a tenth of the time whether there is any of all these in a text.
_ANY_FULL_WIDTH, _ANY_UNSEEN = (re2.compile(one.pattern.encode()) for one in (_FULL_WIDTH, _UNSEEN))
_ANY_SPECIAL = re2.compile(f"[{''.join(_LOOK_ALIKES)}]|{_FULL_WIDTH.pattern}|{_UNSEEN.pattern}".encode())


def prepared(text: str) -> tuple[str, bool]:
    """The text as it is searched, code point by code point, and whether there is something in it that nobody sees."""
    if text.isascii() or not _ANY_SPECIAL.search(data := text.encode()):
        return text, False
    for look_alike, plain in _LOOK_ALIKES.items():
        if look_alike in text:
            text = text.replace(look_alike, plain)
    if _ANY_FULL_WIDTH.search(data):
        text = _FULL_WIDTH.sub(lambda match: chr(ord(match[0]) - 0xFEE0), text)
    return text, _ANY_UNSEEN.search(data) is not None


def seen(text: str, start: int, end: int) -> tuple[str, Sequence[int]]:
    """What a reader sees of a stretch of a text, and where in the text each character of it stands."""
    stretch = text[start:end]
    hidden = [match.span() for match in _UNSEEN.finditer(text, start, end)]
    if not hidden:
        return stretch, range(start, end)
    return _UNSEEN.sub("", stretch), [at for gap in gaps(start, end, hidden) for at in range(*gap)]


def place_of_seen(text: str, at: int) -> int:
    """Where in a text the character stands that is number `at` of what a reader sees."""
    for match in _UNSEEN.finditer(text):
        if match.start() > at:
            break
        at += 1
    return at


def visible(text: str) -> str:
    """The text folded, and without what nobody sees."""
    searched, unseen = prepared(text)
    return _UNSEEN.sub("", searched) if unseen else searched


def places_of(text: str, literals: Iterable[str]) -> list[tuple[int, int]]:
    """Where any of these bracketed literals stands."""
    if "[" not in text:
        return []
    spans = []
    for literal in literals:
        at = text.find(literal)
        while at >= 0:
            spans.append((at, at + len(literal)))
            at = text.find(literal, at + 1)
    return spans


def united(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same places as disjoint spans in order."""
    result: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if result and start < result[-1][1]:
            result[-1] = result[-1][0], max(end, result[-1][1])
        else:
            result.append((start, end))
    return result


def gaps(start: int, end: int, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What is left of a stretch when spans, disjoint and in order, are taken out of it."""
    for taken_from, taken_to in spans:
        if taken_from > start:
            yield start, taken_from
        start = taken_to
    if end > start:
        yield start, end


def to_code_points(data: bytes, offsets: Iterable[int]) -> Iterator[int]:
    """Offsets in UTF-8 as offsets in code points; they come in order and lie between characters."""
    before = characters = 0
    for offset in offsets:
        characters += len(data[before:offset].decode())
        before = offset
        yield characters
