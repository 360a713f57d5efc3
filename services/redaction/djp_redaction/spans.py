"""Places of findings: from bytes to code points, never inside of a character, and where replacements move them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp_redaction import graphemes
from djp_redaction.model import Redacted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from djp_redaction.model import Finding

    Span = tuple[int, int, int]
    """Start, end, number of the rule."""


def joined(matches: Iterable[tuple[int, int, int]]) -> list[Span]:
    """The spans of matches (start, rule, end) in order: what overlaps becomes one, ruled by the first of them."""
    spans: list[Span] = []
    last = -1
    for start, rule, end in matches:
        if start >= last:
            spans.append((start, end, rule))
            last = end
        elif end > last:
            last = end
            spans[-1] = (spans[-1][0], end, spans[-1][2])
    return spans


def in_code_points(data: bytes, spans: Iterable[Span]) -> list[Span]:
    """Spans of UTF-8, in order and between characters, as spans of code points."""
    result = []
    done = characters = 0
    for start, end, rule in spans:
        first = characters + len(data[done:start].decode())
        characters = first + len(data[start:end].decode())
        done = end
        result.append((first, characters, rule))
    return result


def undivided(text: str, spans: list[Span], least: int, most: int) -> list[Span]:
    """The spans made longer until none splits a grapheme; those that touch then become one."""
    result: list[Span] = []
    for start, end, rule in spans:
        if not (text[max(0, start - 1) : start + 1].isascii() and text[end - 1 : end + 1].isascii()):
            start, end = graphemes.whole(text, start, end, least, most)
        if result and start < result[-1][1]:
            result[-1] = result[-1][0], max(end, result[-1][1]), result[-1][2]
        else:
            result.append((start, end, rule))
    return result


def moves(findings: Sequence[Finding], offset: int) -> tuple[list[int], list[int]]:
    """Where each replacement ends in the text that has them, and by how much what follows has moved."""
    ends, shifts = [0], [0]
    moved = 0
    for _rule, start, end, replacement in findings:
        ends.append(start - offset - moved + len(replacement))
        moved += end - start - len(replacement)
        shifts.append(moved)
    return ends, shifts


def redacted_up_to(end: int, text: str, findings: Sequence[Finding], offset: int) -> Redacted:
    """The beginning of a piece whose findings are known; none of them reaches over its end."""
    before = tuple(finding for finding in findings if finding.end <= end + offset)
    parts: list[str] = []
    done = 0
    for _rule, start, stop, replacement in before:
        parts += text[done : start - offset], replacement
        done = stop - offset
    return Redacted("".join([*parts, text[done:end]]), before)
