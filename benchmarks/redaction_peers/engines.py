"""The peers in this process: Python `re`, google-re2 and Hyperscan, each with the eleven kinds in its own best form.

The patterns are the short ones that users of these engines write, with word boundaries, not the careful ones of
`config/redaction_rules.json`, which cost more: the peers' work is less than ours. Cards and social security numbers
go through our own checks, so that the same values count. RE2 also runs with our own rules, which is the same work.
Every finder takes a text and gives the redacted text and the spans it found, as ours does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import hyperscan
import re2

from djp_redaction.rule_file import load_rules
from djp_redaction.settings import RedactionSettings
from djp_redaction.validators import VALIDATORS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

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
_CHECKS: dict[str, Callable[[bytes], int]] = {"CREDIT_CARD": VALIDATORS["luhn"], "SSN": VALIDATORS["ssn"]}


class Look(NamedTuple):
    """What RE2 looks for: a kind, its pattern, the group that is the finding, and a check of what it holds."""

    kind: str
    pattern: str
    group: int
    check: Callable[[bytes], int] | None


def short_looks() -> list[Look]:
    """The short patterns."""
    return [Look(kind, pattern, 0, _CHECKS.get(kind)) for kind, pattern in PATTERNS.items()]


def our_looks() -> list[Look]:
    """Our own rules of the eleven kinds, with their validations."""
    looks = []
    for rule in load_rules(RedactionSettings().rules).rules:
        if rule.type in PATTERNS:
            group = min(re2.compile(rule.pattern.encode(), _re2_options()).groups, 1)
            looks.append(Look(rule.type, rule.pattern, group, VALIDATORS.get(rule.validation)))
    return looks


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


def with_re2_alone(looks: Sequence[Look]) -> Finder:
    """google-re2, one pattern after another, on bytes."""
    searches = [(look, _re2(look.pattern).finditer) for look in looks]

    def find(text: str) -> tuple[str, list[Span]]:
        data = text.encode()
        return _from_bytes(text, data, [span for look, search in searches for span in _spans(look, search(data))])

    return find


def with_re2_set(looks: Sequence[Look]) -> Finder:
    """google-re2's Set says in one pass which patterns match at all; only those are then searched, on bytes."""
    searches = [(look, _re2(look.pattern).finditer) for look in looks]
    which = re2.Set.SearchSet(_re2_options())
    for look in looks:
        which.Add(look.pattern.encode())
    which.Compile()

    def find(text: str) -> tuple[str, list[Span]]:
        data = text.encode()
        present = which.Match(data)
        if not present:
            return text, []
        spans = [span for at in present for span in _spans(searches[at][0], searches[at][1](data))]
        return _from_bytes(text, data, spans)

    return find


def with_re2_union(looks: Sequence[Look]) -> Finder:
    """google-re2, one alternation of all patterns, on bytes; a second look says which kind a match is: no groups."""
    union = _re2("|".join(f"(?:{look.pattern})" for look in looks)).finditer
    seconds = [(look, _re2(look.pattern).fullmatch) for look in looks]

    def find(text: str) -> tuple[str, list[Span]]:
        data = text.encode()
        spans: list[Span] = []
        for match in union(data):
            start, end = match.span()
            value = data[start:end]
            for look, fullmatch in seconds:
                if fullmatch(value):
                    if look.check is None or look.check(value):
                        spans.append((look.kind, start, end))
                    break
        return _from_bytes(text, data, spans)

    return find


def re2_variants() -> dict[str, Finder]:
    """All of them. One alternation of our own rules is none: what stands before one match is part of the one before."""
    short, own = short_looks(), our_looks()
    return {
        "re2_alone": with_re2_alone(short),
        "re2_union": with_re2_union(short),
        "re2_set": with_re2_set(short),
        "re2_alone_our_rules": with_re2_alone(own),
        "re2_set_our_rules": with_re2_set(own),
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
    options.max_mem = 2**28  # with the default of 8 MiB a Set of our rules falls out of its automaton
    return options


def _re2(pattern: str) -> Any:
    return re2.compile(pattern.encode(), _re2_options())


def _spans(look: Look, matches: Iterable[Any]) -> Iterator[Span]:
    for match in matches:
        start, end = match.span(look.group)
        if look.check is not None:
            end = start + look.check(match[look.group])
        if end > start:
            yield look.kind, start, end


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
