"""Looks at a piece of text again and again, until nothing is found in what is left beside the replacements."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from djp.mesh.errors import Internal
from djp_redaction import graphemes
from djp_redaction.model import Finding, Redacted
from djp_redaction.text import fold, gaps, has_unseen, places_of, seen, to_code_points, united

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from djp_redaction.matcher import Matcher
    from djp_redaction.model import Rule
    from djp_redaction.replacements import Replacements
    from djp_redaction.searcher import Searcher

# The built-in rules never need a fifth look. Rules that free one finding after the other would take quadratic time.
MAX_LOOKS = 8
_ENDLESS = (
    f"text: after {MAX_LOOKS} looks there is still more to find, because findings of these rules touch each other; "
    "nothing is returned; let the rules accept what stands directly beside another finding"
)
SURROUNDINGS = 4
"""Characters beside a piece that a rule may ask about."""
# No rule with a trigger minds whether one of these stands beside its finding, or nothing at all. So what stands between
# two of them was searched when the text around it was.
_CALM = frozenset(" \t\n\r,;!?()<>\"'|")


class _Span(NamedTuple):
    start: int
    end: int
    rule: int


class Looks:
    """Redacts pieces of one text.

    Replacements and kept titles are walls: they come through as they are, and what stands on either side is searched
    as if the text ended there. What a finding stood beside is looked at again without it: a number that a word touched
    is free once the word is gone. So nothing is left for a second redaction to find.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        matcher: Matcher,
        searcher: Searcher | None,
        replacements: Replacements,
        titles: Iterable[str],
    ) -> None:
        self._rules = rules
        self._matcher = matcher
        self._searcher = searcher
        self._replacements = replacements
        self.titles = sorted({f"[{title}]" for title in titles})

    def redact(self, text: str, before: str = "", after: str = "") -> Redacted:
        """The piece redacted. `before` and `after` are what stands beside it, `SURROUNDINGS` characters or fewer.

        Raises:
            Internal: the rules free one finding after the other without an end in sight.
        """
        findings: list[Finding] = []
        current, ends, shifts = text, [0], [0]
        for look in range(MAX_LOOKS):
            spans = self._look(current, before, after, again=look > 0)
            if not spans:
                return Redacted(current, tuple(findings))
            for start, end, number in spans:
                shift = shifts[bisect_right(ends, start) - 1]
                rule, start, end = self._rules[number], start + shift, end + shift
                findings.append(Finding(rule, start, end, self._replacements.of(rule.type, text[start:end])))
            findings.sort(key=lambda finding: finding.start)
            current, ends, shifts = _replaced(text, findings)
        raise Internal(_ENDLESS, reason="REDACTION_FAILED")

    def walls(self, text: str) -> list[tuple[int, int]]:
        """Where replacements and kept titles stand, as disjoint spans in order."""
        if not any(mark in text for mark in self._replacements.marks):
            return []
        known = [match.span() for match in self._replacements.known.finditer(text)]
        return united([*known, *places_of(text, self.titles)]) if self.titles else known

    def unfinished(self, text: str, end: int) -> int:
        """Where before `end` something begins that may be found, or be a wall, once more text comes; or `end`."""
        searched = fold(text[:end])
        endings = [one.unfinished for one in (self._matcher, self._searcher, self._replacements) if one]
        least = end
        visible, places = seen(searched, 0, end)
        for view, offsets in [(visible, places), *([(searched, range(end))] if len(visible) < end else [])]:
            data = view.encode()
            for ending in endings:
                at = ending.search(data).start()
                if at < len(data):
                    least = min(least, offsets[len(data[:at].decode())])
        return min(least, self._open_title(text, end))

    def _look(self, text: str, before: str, after: str, *, again: bool) -> list[_Span]:
        searched = fold(text)
        ascii_only = searched.isascii()
        plain = self._searcher is not None and (
            self._searcher.may_match(searched.encode()) or (not ascii_only and has_unseen(searched))
        )
        found: list[_Span] = []
        for start, end in gaps(0, len(text), self.walls(text)):
            if again and not plain and self._calm(searched, start, end, ascii_only):
                continue
            beside = before if start == 0 else "", after if end == len(text) else ""
            visible, places = seen(searched, start, end)
            spans = self._search(visible, places, *beside, plain=plain)
            if not spans and len(visible) < end - start:
                # What nobody sees may also part words where no spaces are written.
                spans = self._search(searched[start:end], range(start, end), *beside, plain=plain)
            if not ascii_only:
                spans = _undivided(text, spans, start, end)
            found += spans
        return found

    def _search(self, stretch: str, places: Sequence[int], before: str, after: str, *, plain: bool) -> list[_Span]:
        """What is found in a stretch whose characters stand at these places of the text."""
        data = stretch.encode()
        ahead = before.encode()
        text = ahead + data + after.encode() if before or after else data
        matches = self._matcher.matches(text)
        if plain and self._searcher is not None:
            matches += self._searcher.matches(text)
        if not matches:
            return []
        if text is not data:
            offset, end = len(ahead), len(data)
            moved = ((max(0, at - offset), max(less_to + offset, -end), rule) for at, less_to, rule in matches)
            matches = [match for match in moved if match[0] < -match[1]]
        matches.sort()
        edges: list[int] = []
        rules: list[int] = []
        for start, less_end, rule in matches:  # what overlaps becomes one, ruled by the first of them
            if not edges or start >= edges[-1]:
                edges += start, -less_end
                rules.append(rule)
            elif -less_end > edges[-1]:
                edges[-1] = -less_end
        if len(data) != len(stretch):
            edges = list(to_code_points(data, edges))
        return [
            _Span(places[start], places[end - 1] + 1, rule)
            for start, end, rule in zip(edges[::2], edges[1::2], rules, strict=True)
        ]

    def _open_title(self, text: str, end: int) -> int:
        """Where before `end` the first title begins that the text up to `end` does not finish; or `end`."""
        if not self.titles:
            return end
        at = text.find("[", max(0, end - max(map(len, self.titles))), end)
        while at >= 0:
            begun = text[at:end]
            index = bisect_right(self.titles, begun)
            if index < len(self.titles) and self.titles[index].startswith(begun):
                return at
            at = text.find("[", at + 1, end)
        return end

    @staticmethod
    def _calm(text: str, start: int, end: int, ascii_only: bool) -> bool:
        """Whether this stretch between replacements can hold nothing that a look at all the text has not found."""
        edges_are_calm = (start == 0 or text[start] in _CALM) and (end == len(text) or text[end - 1] in _CALM)
        return edges_are_calm and (ascii_only or not has_unseen(text[start:end]))


def _undivided(text: str, spans: list[_Span], least: int, most: int) -> list[_Span]:
    """The spans made longer until none splits a grapheme; those that touch then become one."""
    result: list[_Span] = []
    for span in spans:
        start, end = graphemes.whole(text, span.start, span.end, least, most)
        if result and start < result[-1].end:
            result[-1] = result[-1]._replace(end=max(end, result[-1].end))
        else:
            result.append(_Span(start, end, span.rule))
    return result


def _replaced(text: str, findings: Sequence[Finding]) -> tuple[str, list[int], list[int]]:
    """The text with its replacements, where each of them ends in it, and by how much what follows has moved."""
    parts: list[str] = []
    ends, shifts = [0], [0]
    end = length = 0
    for finding in findings:
        parts += text[end : finding.start], finding.replacement
        length += finding.start - end + len(finding.replacement)
        end = finding.end
        ends.append(length)
        shifts.append(end - length)
    return "".join([*parts, text[end:]]), ends, shifts
