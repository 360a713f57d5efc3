"""What happens to a text before and after the search: look-alike characters, stretches left alone, offsets."""

from __future__ import annotations

import re
from string import ascii_letters, digits
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# A look-alike becomes the ASCII character it stands for, so that offsets in code points stay: the spaces and hyphens
# that typesetting puts into numbers (no-break, figure, thin and narrow space; hyphens, en dash, minus), digits and
# letters of full width, and the marks of full width that numbers and addresses need.
_LOOK_ALIKES = (
    dict.fromkeys("\u00a0\u2007\u2009\u202f\u3000", " ")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-")
    | {chr(ord(plain) + 0xFEE0): plain for plain in f"{digits}{ascii_letters}()+-.@_"}
)
# What nobody sees, Unicode's default ignorable code points as far as texts hold them: soft hyphen, zero-width space and
# joiners, marks of direction, fillers, variation selectors, tags. PDFs are full of them.
_UNSEEN_RANGES = (
    *((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
    *((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF)),
    *((0xFFA0, 0xFFA0), (0xE0000, 0xE0FFF)),
)
_UNSEEN_CLASS = "".join(f"{chr(first)}-{chr(last)}" for first, last in _UNSEEN_RANGES)
_UNSEEN = re.compile(f"[{_UNSEEN_CLASS}]")
_SPECIAL = re.compile(f"[{''.join(_LOOK_ALIKES)}{_UNSEEN_CLASS}]")
_ASCII = bytes(range(128))


def prepared(text: str) -> tuple[str, bytes, bool]:
    """The text as it is searched, code point by code point and in UTF-8, and whether nobody sees something in it."""
    data = text.encode()
    if len(data) == len(text):
        return text, data, False
    special = set(_SPECIAL.findall(data.translate(None, _ASCII).decode()))
    if not special:
        return text, data, False
    folded = special & _LOOK_ALIKES.keys()
    for look_alike in folded:
        text = text.replace(look_alike, _LOOK_ALIKES[look_alike])
    return text, text.encode() if folded else data, len(folded) < len(special)


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
    searched, _, unseen = prepared(text)
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
