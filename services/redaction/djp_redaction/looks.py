"""Looks at a piece of text again and again, until nothing is found in what is left beside the replacements."""

from __future__ import annotations

from bisect import bisect_right
from functools import partial
from string import ascii_letters, digits
from typing import TYPE_CHECKING, NamedTuple

from djp.mesh.errors import Internal, ResourceExhausted
from djp_redaction.model import Finding, Redacted
from djp_redaction.searcher import TooManyMatches
from djp_redaction.spans import in_code_points, joined, moves, undivided
from djp_redaction.text import gaps, place_of_seen, places_of, prepared, seen, united, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from djp_redaction.matcher import Matcher
    from djp_redaction.model import Rule
    from djp_redaction.replacements import Replacements
    from djp_redaction.searcher import Searcher
    from djp_redaction.spans import Span

    _Place = tuple[int, int]  # start, end

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
_ONLY_IF_NEXT = ".:-"  # behind a finding these are touchy only if what follows them is
# The same of a byte of UTF-8: 0 calm, 1 touchy, 2 touchy only if the next one is. What is not ASCII may be one with
# what it stands beside.
_BESIDE = bytes(2 if chr(byte) in _ONLY_IF_NEXT else byte >= 0x80 or chr(byte) in _TOUCHY for byte in range(256))
# What Finding(...) and Redacted(...) do, in half the time.
_finding, _redacted = partial(tuple.__new__, Finding), partial(tuple.__new__, Redacted)


class _Piece(NamedTuple):
    """What is redacted, the same as it is searched, where it stands, and what must be thought of."""

    text: str
    searched: str
    before: str
    offset: int  # where it stands in the whole text
    unseen: bool  # there is something that nobody sees
    plain: bool  # rules without a trigger may match


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
        titles: Sequence[str],
        least: int,
    ) -> None:
        """`least`: how many characters the shortest finding has."""
        self._rules = rules
        self._matcher = matcher
        self._searcher = searcher
        self._replacements = replacements
        self._plain_found = 0
        self._least = least
        self.titles = sorted({f"[{title}]" for title in titles}) if titles else []

    def redact(self, text: str, before: str = "", offset: int = 0) -> Redacted:
        """The piece redacted; `before` stands in front of it, and `offset` is where it stands in the whole text.

        Raises:
            Internal: the rules free one finding after the other without an end in sight.
        """
        searched, data, unseen = prepared(text)
        walls = self.walls(text)
        plain = self._searcher is not None and (unseen or self._searcher.may_match(data))
        if walls or unseen or plain or before:
            piece = _Piece(text, searched, before, offset, unseen, plain)
            found = self._in_gaps(piece, gaps(0, len(text), walls), count=True)
            return self._settled(piece, found, walls) if found else Redacted(text, ())
        matches = self._matcher.matches(data)
        if not matches:
            return Redacted(text, ())
        matches.sort()
        if redacted := self._at_once(text, data, matches, offset):
            return redacted
        found = joined(matches)
        if len(data) != len(text):
            found = undivided(text, in_code_points(data, found), 0, len(text))
        return self._settled(_Piece(text, searched, before, offset, unseen, plain), found, walls)

    def _at_once(self, text: str, data: bytes, matches: Sequence[tuple[int, int, int]], offset: int) -> Redacted | None:
        """The piece redacted, if none of the matches touches anything: then there is nothing more to think of."""
        rules, fixed, beside, size = self._rules, self._replacements.fixed, _BESIDE, len(data)
        ascii_only = size == len(text)
        findings: list[Finding] = []
        parts: list[str] = []
        done = read = 0
        for start, number, end in matches:
            if end <= read:  # it is inside of what is found
                continue
            if start < read or (start and beside[data[start - 1]]):
                return None
            behind = beside[data[end]] if end < size else 0
            if behind == 1 or (behind and data[end + 1 : end + 2].translate(beside) > b"\0"):
                return None
            before, read = read, end
            if not ascii_only:
                if data[start] >= 0x80 or data[end - 1] >= 0x80:
                    return None
                first = done + len(data[before:start].decode())
                start, end = first, first + len(data[start:end].decode())
            replacement = fixed[number] or self._replacements.of(rules[number].type, text[start:end])
            findings.append(_finding((rules[number], start + offset, end + offset, replacement)))
            parts.append(text[done:start])
            parts.append(replacement)
            done = end
        parts.append(text[done:])
        return _redacted(("".join(parts), tuple(findings)))

    def _settled(self, piece: _Piece, found: list[Span], walls: Sequence[_Place]) -> Redacted:
        """The piece redacted when all is found that these findings set free."""
        spans, looked = found, False
        for _ in range(MAX_LOOKS - 1):
            beside = _beside(piece, found, spans, walls)
            looked = looked or bool(beside)
            found = self._in_gaps(piece, beside)
            if not found:
                redacted = self._replaced(piece.text, spans, piece.offset)
                if looked and (self._replacements.joining or self.titles):
                    found = self._joined(piece, redacted, spans, walls)
                if not found:
                    return redacted
            spans = sorted(spans + found)
        raise Internal(_ENDLESS, reason="REDACTION_FAILED")

    def _joined(self, piece: _Piece, redacted: Redacted, spans: Sequence[Span], walls: Sequence[_Place]) -> list[Span]:
        """What is found beside replacements and titles that became one with what stood beside them."""
        text, current = piece.text, redacted.text
        taken = sorted([*walls, *((start, end) for start, end, _rule in spans)])
        places = [*gaps(0, len(current), self.walls(current))]
        if [current[slice(*place)] for place in places] == [text[slice(*place)] for place in gaps(0, len(text), taken)]:
            return []
        ends, shifts = moves(redacted.findings, piece.offset)
        moved = []
        for start, end, rule in self._in_gaps(piece._replace(text=current, searched=prepared(current)[0]), places):
            shift = shifts[bisect_right(ends, start) - 1]
            moved.append((start + shift, end + shift, rule))
        return moved

    def _replaced(self, text: str, spans: Sequence[Span], offset: int) -> Redacted:
        """The text with its replacements, and the findings."""
        rules, fixed, replacement_of = self._rules, self._replacements.fixed, self._replacements.of
        findings: list[Finding] = []
        parts: list[str] = []
        done = 0
        for start, end, number in spans:
            replacement = fixed[number] or replacement_of(rules[number].type, text[start:end])
            findings.append(_finding((rules[number], start + offset, end + offset, replacement)))
            parts.append(text[done:start])
            parts.append(replacement)
            done = end
        parts.append(text[done:])
        return Redacted("".join(parts), tuple(findings))

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
            if mark[0] in text and mark in text:
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

    def _in_gaps(self, piece: _Piece, places: Iterable[_Place], *, count: bool = False) -> list[Span]:
        """What is found in each of these stretches of the piece, as if the text began and ended there."""
        found: list[Span] = []
        ascii_only = piece.text.isascii()
        for start, end in places:
            before = piece.before if start == 0 else ""
            if end - start < self._least and not before:
                continue
            data = piece.searched[start:end].encode()
            spans = self._search(data, before, plain=piece.plain, count=count)
            if not ascii_only:
                spans = in_code_points(data, spans)
            if start:
                spans = [(first + start, last + start, rule) for first, last, rule in spans]
            if not ascii_only:
                if piece.unseen:
                    # What nobody sees may hide what it stands in, or part words where no spaces are written.
                    shown, at = seen(piece.searched, start, end)
                    data = shown.encode()
                    shown_spans = in_code_points(data, self._search(data, before, plain=piece.plain, count=False))
                    spans += [(at[first], at[last - 1] + 1, rule) for first, last, rule in shown_spans]
                    spans.sort()
                spans = undivided(piece.text, spans, start, end)
            found += spans
        return found

    def _search(self, data: bytes, before: str, *, plain: bool, count: bool) -> list[Span]:
        """What is found in a stretch, with offsets in its UTF-8; `before` stands in front of it."""
        offset = 0
        if before:
            ahead = before.encode()
            data, offset = ahead + data, len(ahead)
        matches = self._matcher.matches(data)
        if plain and self._searcher is not None:
            matches += self._plain_matches(self._searcher, data, count=count)
        if offset:  # what begins in front of the stretch was given out up to there
            moved = ((max(0, start - offset), rule, end - offset) for start, rule, end in matches)
            matches = [match for match in moved if match[0] < match[2]]
        return joined(sorted(matches))

    def _plain_matches(self, searcher: Searcher, data: bytes, *, count: bool) -> list[tuple[int, int, int]]:
        try:
            matches, many = searcher.matches(data, MOST_PLAIN - self._plain_found if count else 2 * MOST_PLAIN)
        except TooManyMatches as error:
            raise ResourceExhausted(
                f"text: rules up to {error.args[0]!r} find more than {MOST_PLAIN} places in a part of it; let the "
                "patterns ask for more",
                field="text",
            ) from None
        if count:
            self._plain_found += many
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


def _touches(behind: str) -> bool:
    """Whether what stands behind a finding, its first two characters, may be found when it is gone."""
    return behind[:1] in _TOUCHY and (behind[0] not in _ONLY_IF_NEXT or behind[1:] in _TOUCHY)


def _beside(piece: _Piece, fresh: Sequence[Span], spans: Sequence[Span], walls: Sequence[_Place]) -> list[_Place]:
    """The stretches beside fresh findings in which something may be found now that these are gone.

    `spans` are all findings so far, the fresh ones too.
    """
    searched, everywhere = piece.searched, piece.unseen or piece.plain
    taken: Sequence[tuple[int, ...]] = spans
    if walls or len(fresh) < len(spans):
        taken = sorted([*spans, *walls])
    new = set(fresh)
    places: list[_Place] = []
    end, look = 0, False
    for span in taken:
        start = span[0]
        is_new = span in new
        if start > end and (look or (is_new and (everywhere or searched[start - 1] in _TOUCHY))):
            places.append((end, start))
        end = span[1]
        look = is_new and (everywhere or _touches(searched[end : end + 2]))
    if look and end < len(searched):
        places.append((end, len(searched)))
    return places
