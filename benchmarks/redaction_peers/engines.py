"""The peers in this process: Python `re`, google-re2 and Hyperscan, each with the eleven kinds in its own best form.

The patterns are the short ones that users of these engines write, with word boundaries, not the careful ones of
`config/redaction_rules.json`, which cost more: the peers' work is less than ours. Cards and social security numbers
go through our own checks, so that the same values count. Every finder takes a text and gives the redacted text and the
spans it found, as ours does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

import hyperscan
import re2

from djp_redaction.validators import luhn, ssn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Span = tuple[str, int, int]
"""A kind, and where it stands: in code points, or in bytes inside the engines that work on bytes."""

PATTERNS = {
    "PRIVATE_KEY": r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[0-9A-Za-z+/=\s]*-----END [A-Z ]{0,30}PRIVATE KEY-----",
    "JWT": r"\beyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+",
    "API_KEY": r"\bsk-[0-9A-Za-z_-]{20,}",
    "AWS_ACCESS_KEY": r"\bA[KS]IA[0-9A-Z]{16}\b",
    "AWS_SECRET_KEY": r"[Ss]ecret_?(?:[Aa]ccess_?)?[Kk]ey[ :=]{1,4}[0-9A-Za-z+/]{40}",
    "URL": r"https?://[^\s<>\"'()\[\]{}]+",
    "EMAIL": r"\b[0-9A-Za-z._%+-]+@[0-9A-Za-z.-]+\.[A-Za-z]{2,}\b",
    "CREDIT_CARD": r"\b(?:(?:4[0-9]{3}|5[1-5][0-9]{2}|6011)(?:[ -]?[0-9]{4}){3}"
    r"|3[47][0-9]{2}[ -]?[0-9]{6}[ -]?[0-9]{5})\b",
    "SSN": r"\b[0-9]{3}-[0-9]{2}-[0-9]{4}\b",
    "PHONE": r"(?:\+1[ .-]?)?(?:\([0-9]{3}\) ?|\b[0-9]{3}[ .-])[0-9]{3}[ .-][0-9]{4}\b",
    "IP": r"\b(?:(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\b",
}
OF_PRESIDIO = frozenset({"URL", "EMAIL", "CREDIT_CARD", "SSN", "PHONE", "IP"})
"""The kinds for which Presidio brings a recogniser."""
_CHECKS: dict[str, Callable[[bytes], int]] = {"CREDIT_CARD": luhn, "SSN": ssn}


class Finder(Protocol):
    """Redacts a text and says what it found."""

    def __call__(self, text: str) -> tuple[str, list[Span]]: ...


def with_re() -> Finder:
    """Python's `re`, one pattern after another, on `str`: 'the usual loop over finditer'."""
    patterns = [(kind, re.compile(pattern, re.ASCII).finditer) for kind, pattern in PATTERNS.items()]

    def find(text: str) -> tuple[str, list[Span]]:
        spans = [
            (kind, *match.span())
            for kind, finditer in patterns
            for match in finditer(text)
            if kind not in _CHECKS or _CHECKS[kind](match[0].encode())
        ]
        return _replaced(text, spans)

    return find


def with_re2_alone() -> Finder:
    """google-re2, one pattern after another, on bytes."""
    patterns = [(kind, _re2(pattern).finditer) for kind, pattern in PATTERNS.items()]

    def find(text: str) -> tuple[str, list[Span]]:
        data = text.encode()
        return _from_bytes(text, data, _checked(data, ((kind, each(data)) for kind, each in patterns)))

    return find


def with_re2_set() -> Finder:
    """google-re2's Set says in one pass which patterns match at all; only those are then searched, on bytes."""
    kinds = list(PATTERNS)
    patterns = [_re2(pattern).finditer for pattern in PATTERNS.values()]
    which = re2.Set.SearchSet(_re2_options())
    for pattern in PATTERNS.values():
        which.Add(pattern.encode())
    which.Compile()

    def find(text: str) -> tuple[str, list[Span]]:
        data = text.encode()
        present = sorted(which.Match(data) or ())
        if not present:
            return text, []
        return _from_bytes(text, data, _checked(data, ((kinds[at], patterns[at](data)) for at in present)))

    return find


def with_re2_union() -> Finder:
    """google-re2, one alternation of all patterns, on bytes; a second look says which kind a match is: no groups."""
    union = _re2("|".join(f"(?:{pattern})" for pattern in PATTERNS.values())).finditer
    patterns = [(kind, _re2(pattern).fullmatch) for kind, pattern in PATTERNS.items()]

    def find(text: str) -> tuple[str, list[Span]]:
        data = text.encode()
        spans: list[Span] = []
        for match in union(data):
            start, end = match.span()
            value = data[start:end]
            kind = next((kind for kind, fullmatch in patterns if fullmatch(value)), "")
            if kind and (kind not in _CHECKS or _CHECKS[kind](value)):
                spans.append((kind, start, end))
        return _from_bytes(text, data, spans)

    return find


RE2_VARIANTS: dict[str, Callable[[], Finder]] = {
    "re2_alone": with_re2_alone,
    "re2_set": with_re2_set,
    "re2_union": with_re2_union,
}


def hyperscan_scan() -> Callable[[bytes], None]:
    """Hyperscan's bare scan for the same patterns on bytes, told to nobody: no matches, no checks, no redacted text.

    The limit that nothing built on it can pass.
    """
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[pattern.encode() for pattern in PATTERNS.values()],
        ids=list(range(len(PATTERNS))),
        elements=len(PATTERNS),
        flags=0,
    )
    scratch = hyperscan.Scratch(database)

    def scan(data: bytes) -> None:
        database.scan(data, match_event_handler=None, scratch=scratch)

    return scan


def _re2_options() -> Any:
    options = re2.Options()
    options.log_errors = False
    return options


def _re2(pattern: str) -> Any:
    return re2.compile(pattern.encode(), _re2_options())


def _checked(data: bytes, found: Iterable[tuple[str, Iterable[Any]]]) -> list[Span]:
    spans: list[Span] = []
    for kind, matches in found:
        check = _CHECKS.get(kind)
        for match in matches:
            start, end = match.span()
            if check is None or check(data[start:end]):
                spans.append((kind, start, end))
    return spans


def _from_bytes(text: str, data: bytes, spans: list[Span]) -> tuple[str, list[Span]]:
    if not spans:
        return text, []
    if len(data) != len(text):
        spans = [(kind, len(data[:start].decode()), len(data[:end].decode())) for kind, start, end in spans]
    return _replaced(text, spans)


def _replaced(text: str, spans: Sequence[Span]) -> tuple[str, list[Span]]:
    kept: list[Span] = []
    parts, end = [], 0
    for kind, start, stop in sorted(spans, key=lambda span: (span[1], -span[2])):
        if start >= end:
            parts += text[end:start], f"[REDACTED:{kind}]"
            kept.append((kind, start, stop))
            end = stop
    return "".join([*parts, text[end:]]), kept
