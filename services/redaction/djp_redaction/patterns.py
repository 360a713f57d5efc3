"""Compiles patterns by RE2, and says of one that is refused which construct it was and what to write instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import re2

from djp_redaction.beginnings import Unreadable, without_assertions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp_redaction.model import Rule

_BIG = 64 * 2**20  # bytes that one compiled pattern of many may take for its program and its automata


class RuleRefused(ValueError):  # noqa: N818  named as in djp.mesh.errors
    """A rule that cannot be used: its name, the construct at fault, and what to do instead."""

    def __init__(self, rule: str, construct: str, remedy: str) -> None:
        super().__init__(f"rule {rule!r}: {construct}: {remedy}")
        self.rule = rule
        self.construct = construct
        self.remedy = remedy


_LOOK_AROUND = "RE2 has no look-around; match what stands beside it too, and put the finding into the first group"
_REMEDIES = {
    "(?=": _LOOK_AROUND,
    "(?!": _LOOK_AROUND,
    "(?<": _LOOK_AROUND,
    "(?>": "RE2 has no atomic groups and needs none, for it never backtracks; write (?:...)",
    "(?#": "RE2 has no comments in patterns; use the rule's description",
    "(?P": "RE2 has no references to named groups; write out what may repeat",
    "(?(": "RE2 has no conditions; write both cases with |",
    "(?x": "RE2 has no verbose patterns; leave out the spaces and the flag",
    "(?": "RE2 does not know this group or flag; see https://github.com/google/re2/wiki/Syntax",
    "\\Z": "write \\z",
    "\\h": "write [ \\t]",
}
_KINDS = {
    "bad repetition operator": "RE2 has no possessive or doubled repeats and needs none; leave one of the marks out",
    "invalid repetition size": "repeat at most 1000 times, nested repeats multiplied, and the smaller number first",
    "missing argument to repetition operator": "put what is repeated before the mark, or escape the mark with \\",
    "no argument for repetition operator": "put what is repeated before the mark, or escape the mark with \\",
    "missing )": "close every bracket, or escape it with \\",
    "unexpected )": "open every bracket, or escape it with \\",
    "missing ]": "close the class with ], or escape [ with \\",
    "invalid character class range": "give a range from the lower to the higher character, or a class that exists",
    "invalid named capture group": "name the group by letters, digits and _, each name once",
    "pattern too large": "make the pattern smaller: shorter repeats, fewer alternatives",
    "trailing \\": "escape a character with \\, or write \\\\ for itself",
}


def compiled(rule: Rule, most_memory: int = 0) -> re2._Regexp:
    """The rule's pattern, for UTF-8 bytes; with `most_memory`, RE2 stops at a program that would take more bytes.

    Raises:
        RuleRefused: RE2 cannot do it, or it matches the empty text.
    """
    options = re2.Options()
    options.log_errors = False
    if most_memory:
        options.max_mem = most_memory
    try:
        pattern = re2.compile(rule.pattern.encode(), options)
        bare = re2.compile(without_assertions(rule.pattern).encode(), options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error.args[0])
        raise RuleRefused(rule.name, *_explained(reason)) from None
    except Unreadable as error:
        raise RuleRefused(rule.name, error.construct, error.remedy) from None
    if bare.fullmatch(b""):
        raise RuleRefused(rule.name, "a match of the empty text", "make the pattern ask for at least one character")
    return pattern


def _explained(reason: str) -> tuple[str, str]:
    """The construct in RE2's words, and the remedy in ours."""
    kind, _, construct = reason.partition(": ")
    for start, remedy in _REMEDIES.items():
        if construct.startswith(start):
            return construct, remedy
    if kind == "invalid escape sequence" and construct[1:].isdigit():
        return construct, "RE2 has no back-references; write out what may repeat, or use [0-7] octal as \\x{...}"
    known = (remedy for start, remedy in _KINDS.items() if kind.startswith(start))
    remedy = next(known, "RE2 does not know it; see https://github.com/google/re2/wiki/Syntax")
    return construct or kind, remedy if construct else f"{remedy} ({kind})"


def ending(patterns: Sequence[str]) -> re2._Regexp:
    """Finds where in a text the longest end begins that one of the patterns matches. Raises re2.error if too large."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _BIG
    return re2.compile(f"(?:{'|'.join(patterns)})\\z".encode(), options)
