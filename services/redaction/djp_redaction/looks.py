"""Looks at a piece of text again and again, until nothing is found in what is left beside the replacements."""

from __future__ import annotations

from bisect import bisect_right
from string import ascii_letters, digits
from typing import TYPE_CHECKING

from djp.mesh.errors import Internal, ResourceExhausted
from djp_redaction import graphemes
from djp_redaction.model import Finding, Redacted
from djp_redaction.searcher import TooManyMatches
from djp_redaction.text import gaps, place_of_seen, places_of, prepared, seen, to_code_points, united, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from djp_redaction.matcher import Matcher
    from djp_redaction.model import Rule
    from djp_redaction.replacements import Replacements
    from djp_redaction.searcher import Searcher

    _Span = tuple[int, int, int]  # start, end, number of the rule

# The built-in rules never need a fifth look. Rules that free one finding after the other would take quadratic time.
MAX_LOOKS = 8
_ENDLESS = (
    f"text: after {MAX_LOOKS} looks there is still more to find, because findings of these rules touch each other; "
    "nothing is returned; let the rules accept what stands directly beside another finding"
)
MOST_PLAIN = 1024
"""Matches of rules without a trigger in one block: a rule that finds more would find nearly everything."""
# What may be the end of something beside a finding, or may not stand beside it depending on what comes next. No rule
# with a trigger minds whether any other character stands beside its finding, or nothing at all. So what stands between
# two of those was searched when the text around it was.
_TOUCHY = frozenset(f"{ascii_letters}{digits}_.:-+/=@%'")


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
        self._plain_found = 0
        self.titles = sorted({f"[{title}]" for title in titles})

    def redact(self, text: str, before: str = "", offset: int = 0) -> Redacted:
        """The piece redacted; `before` stands in front of it, and `offset` is where it stands in the whole text.

        Raises:
            Internal: the rules free one finding after the other without an end in sight.
        """
        searched, unseen = prepared(text)
        plain = self._searcher is not None and (unseen or self._searcher.may_match(searched.encode()))
        spans = self._look(text, searched, before, again=False, unseen=unseen, plain=plain)
        if not spans:
            return Redacted(text, ())
        findings, current = self._replaced(text, spans, offset)
        if unseen or plain or _touched(searched, spans):
            for _ in range(MAX_LOOKS - 1):
                found = self._look(current, prepared(current)[0], before, again=True, unseen=unseen, plain=plain)
                if not found:
                    return Redacted(current, tuple(findings))
                ends, shifts = _moves(findings, offset)
                for start, end, rule in found:
                    shift = shifts[bisect_right(ends, start) - 1]
                    spans.append((start + shift, end + shift, rule))
                spans.sort()
                findings, current = self._replaced(text, spans, offset)
            raise Internal(_ENDLESS, reason="REDACTION_FAILED")
        return Redacted(current, tuple(findings))

    def _replaced(self, text: str, spans: Sequence[_Span], offset: int) -> tuple[list[Finding], str]:
        """The findings, and the text with their replacements."""
        rules, replacement_of = self._rules, self._replacements.of
        findings: list[Finding] = []
        parts: list[str] = []
        done = 0
        for start, end, number in spans:
            rule = rules[number]
            replacement = replacement_of(rule.type, text[start:end])
            findings.append(Finding(rule, start + offset, end + offset, replacement))
            parts += text[done:start], replacement
            done = end
        parts.append(text[done:])
        return findings, "".join(parts)

    @property
    def surroundings(self) -> int:
        """How many characters in front of a calm place a rule may ask about: those with a trigger mind none."""
        return 1 if self._searcher else 0

    def begin_block(self) -> None:
        """From here on the matches of rules without a trigger are counted anew."""
        self._plain_found = 0

    def walls(self, text: str) -> list[tuple[int, int]]:
        """Where replacements and kept titles stand, as disjoint spans in order."""
        walls: list[tuple[int, int]] = []
        for mark in self._replacements.marks:
            if mark in text:
                walls = [match.span() for match in self._replacements.known.finditer(text)]
                break
        return united([*walls, *places_of(text, self.titles)]) if self.titles else walls

    def unfinished(self, text: str, searched: str, end: int, *, unseen: bool) -> int:
        """Where before `end` something begins that may be found, or be a wall, once more text comes; or `end`.

        `searched` is the text prepared, `unseen` whether there may be something in it that nobody sees.
        """
        least = self._begun(searched[:end])
        if unseen:
            seen_text = visible(searched[:end])
            begun = self._begun(seen_text)
            if begun < len(seen_text):
                least = min(least, place_of_seen(searched, begun))
        return min(least, self._open_title(text, end))

    def _begun(self, text: str) -> int:
        """Where in this text the first thing begins that its end does not finish; or its length."""
        data = text.encode()
        endings = [one.unfinished for one in (self._matcher, self._searcher, self._replacements) if one]
        begun = min(ending.search(data).start() for ending in endings)
        return begun if len(data) == len(text) else len(data[:begun].decode())

    def _look(self, text: str, searched: str, before: str, *, again: bool, unseen: bool, plain: bool) -> list[_Span]:
        """What is found; `again`: in a text in which what a look found was replaced."""
        found: list[_Span] = []
        walls = self.walls(text)
        if not (walls or again or unseen):
            found = self._search(searched, range(len(text)), before, plain=plain, count=True)
            return found if not found or text.isascii() else _undivided(text, found, 0, len(text))
        for start, end in gaps(0, len(text), walls):
            if again and not (unseen or plain) and searched[start] not in _TOUCHY and searched[end - 1] not in _TOUCHY:
                continue
            ahead = before if start == 0 else ""
            spans = self._search(searched[start:end], range(start, end), ahead, plain=plain, count=not again)
            if unseen and not text.isascii():
                # What nobody sees may hide what it stands in, or part words where no spaces are written.
                spans += self._search(*seen(searched, start, end), ahead, plain=plain, count=False)
                spans.sort()
            found += spans if text.isascii() else _undivided(text, spans, start, end)
        return found

    def _search(self, stretch: str, places: Sequence[int], before: str, *, plain: bool, count: bool) -> list[_Span]:
        """What is found in a stretch whose characters stand at these places of the text."""
        data, offset = stretch.encode(), 0
        if before:
            ahead = before.encode()
            data, offset = ahead + data, len(ahead)
        matches = self._matcher.matches(data)
        if plain and self._searcher is not None:
            matches += self._plain_matches(self._searcher, data, count=count)
        if not matches:
            return []
        if offset:  # what begins in front of the stretch was given out up to there
            data = data[offset:]
            moved = ((max(0, start - offset), rule, end - offset) for start, rule, end in matches)
            matches = [match for match in moved if match[0] < match[2]]
        matches.sort()
        spans: list[_Span] = []
        last = -1
        for start, rule, end in matches:  # what overlaps becomes one, ruled by the first of them
            if start >= last:
                spans.append((start, end, rule))
                last = end
            elif end > last:
                last = end
                spans[-1] = (spans[-1][0], end, spans[-1][2])
        if len(data) == len(stretch) and places == range(len(stretch)):
            return spans
        if len(data) != len(stretch):
            points = list(to_code_points(data, (edge for span in spans for edge in span[:2])))
            spans = [(points[2 * at], points[2 * at + 1], span[2]) for at, span in enumerate(spans)]
        return [(places[start], places[end - 1] + 1, rule) for start, end, rule in spans]

    def _plain_matches(self, searcher: Searcher, data: bytes, *, count: bool) -> list[tuple[int, int, int]]:
        try:
            matches = searcher.matches(data, MOST_PLAIN - self._plain_found if count else 2 * MOST_PLAIN)
        except TooManyMatches as error:
            raise ResourceExhausted(
                f"text: rules up to {error.args[0]!r} find more than {MOST_PLAIN} places in a part of it; let the "
                "patterns ask for more",
                field="text",
            ) from None
        if count:
            self._plain_found += len(matches)
        return matches

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


def _touched(text: str, spans: Sequence[_Span]) -> bool:
    """Whether something beside these findings may be found when they are gone."""
    for start, end, _rule in spans:
        if start > 0 and text[start - 1] in _TOUCHY:
            return True
        behind = text[end : end + 2]
        if behind[:1] in _TOUCHY and (behind[0] not in ".:-" or behind[1:] in _TOUCHY):
            return True
    return False


def _undivided(text: str, spans: list[_Span], least: int, most: int) -> list[_Span]:
    """The spans made longer until none splits a grapheme; those that touch then become one."""
    result: list[_Span] = []
    for start, end, rule in spans:
        start, end = graphemes.whole(text, start, end, least, most)
        if result and start < result[-1][1]:
            result[-1] = result[-1][0], max(end, result[-1][1]), result[-1][2]
        else:
            result.append((start, end, rule))
    return result


def _moves(findings: Sequence[Finding], offset: int) -> tuple[list[int], list[int]]:
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
