"""Redacts a text that comes piece by piece, to the same result for every way of cutting it."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING

from djp_redaction._engine import continues, prepared
from djp_redaction.looks import Meter
from djp_redaction.model import Redacted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djp_redaction.looks import Looks

BLOCK = 16384
"""A text is redacted in blocks of at most this many characters, see `RedactionStream`."""
AHEAD = 4096
"""How many characters behind a block are read, where it could otherwise end inside of a finding."""

_TRIES = 3
_SHORT = 1024  # characters that may be held before a calm place is looked for less often
_INTRODUCTION = 256  # characters in front of a forced cut that the next block's findings may begin with
# The last place where a text may be cut, if nothing is unfinished there: behind white space, or behind a letter of a
# script without spaces. No rule with a trigger minds whether one of them stands beside its finding, or nothing at all.
_LAST_CUT = re.compile(
    "(?s:.*)[\t\n\r \u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f"
    "\u3040-\u3096\u30a1-\u30fa\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3]"
)


class RedactionStream:
    """One text, given in pieces.

    What has come is given out, redacted, up to the last *calm* place: one where nothing begins that may still become
    a finding, a replacement or a kept title. As nothing reaches over a calm place, it does not matter which of them
    is used, and the result is that of the whole text.

    A text without calm places cannot be held back for ever. So every text, whole or in pieces, falls into blocks of at
    most `BLOCK` characters. A block ends at its last calm place. If there is none, `AHEAD` characters more are read,
    and it ends behind the last finding or wall in it; if it has none, where it is full, outside of everything that is
    found in all of that. At most `BLOCK + AHEAD` characters are held back.
    """

    def __init__(self, looks: Looks) -> None:
        self._looks = looks
        self._held = ""
        self._searched = ""  # the same, folded
        self._unseen = False  # whether something in it may be such that nobody sees it
        self._patience = 0  # so much must be held before it is worth while to look for a calm place again
        self._before = ""  # what stands in front of what is held
        self._given = 0  # how much of the text was given out
        self._block = 0  # where in the text the block begins
        self._meter = Meter()  # of the block
        self._restless = False  # whether the rest of a block, all of which is held, is known to have no calm place

    def warm_up(self) -> None:
        """Compile what tells calm places: a tenth of a second for the first stream with the same rules."""
        self._looks.unfinished(" ", " ", 1, unseen=False)

    @property
    def held(self) -> int:
        """How many characters wait for more of the text."""
        return len(self._held)

    def feed(self, text: str, *, last: bool = False) -> Iterator[Redacted]:
        """The next piece of the text, and what can be given out with it. Raises as `Looks.redact` does."""
        for start in range(0, len(text), BLOCK):
            self._held += text[start : start + BLOCK]
            searched, unseen = prepared(text[start : start + BLOCK])
            self._searched += searched
            self._unseen = self._unseen or unseen
            yield from self._blocks()
        if last:
            yield from self._give(len(self._held))
        elif len(self._held) >= self._patience:
            yield from self._give(self._calm(self._block + BLOCK - self._given) or 0)
            self._patience = len(self._held) + len(self._held) // (4 if len(self._held) < _SHORT else 1)

    def finish(self) -> Iterator[Redacted]:
        """What is left when the text has ended."""
        return self.feed("", last=True)

    def _blocks(self) -> Iterator[Redacted]:
        """The blocks that have ended."""
        while len(self._held) > (room := self._block + BLOCK - self._given):
            cut = None if self._restless else self._calm(room)
            self._restless = cut is None
            if cut is not None:
                yield from self._give(cut)
            elif len(self._held) >= room + AHEAD:
                yield from self._give_forced(room)
            else:
                return
            self._block = self._given
            self._meter = Meter()

    def _give(self, length: int) -> Iterator[Redacted]:
        """So much of what is held, redacted."""
        if length:
            redacted = self._looks.redact(self._held[:length], self._before, self._given, self._meter)
            self._before = self._held[length - self._looks.surroundings : length]
            self._move_on(length)
            yield redacted

    def _move_on(self, length: int) -> None:
        """So much of what is held is given out."""
        self._given += length
        self._held, self._searched, self._patience = self._held[length:], self._searched[length:], 0
        self._unseen, self._restless = self._unseen and bool(self._held), False

    def _calm(self, most: int) -> int | None:
        """The last calm place among the first of what is held."""
        # What is unfinished may have begun in front of a forced cut.
        before, unseen = prepared(self._before)
        text, searched, ahead = self._before + self._held, before + self._searched, len(before)
        unseen = unseen or self._unseen
        for _ in range(_TRIES):
            match = _LAST_CUT.match(self._held, 0, most) if most > 0 else None
            if match is None:
                return 0 if self._given > self._block else None  # there the last piece was cut off
            cut = match.end()
            begun = cut - 1
            if self._whole(cut):
                begun = self._looks.unfinished(text, searched, ahead + cut, unseen=unseen) - ahead
            if begun == cut:
                return cut
            most = begun
        return None

    def _whole(self, cut: int) -> bool:
        """Whether no character before a place goes on behind it; what is behind white space stands for itself."""
        if self._held[cut - 1].isspace():
            return True
        return cut < len(self._held) and not continues(self._held[cut])

    def _give_forced(self, room: int) -> Iterator[Redacted]:
        """The rest of a block without a calm place, up to where nothing is cut that is found a little further on."""
        near = self._held[: room + AHEAD]
        match = _LAST_CUT.match(near, max(0, room - AHEAD), room)
        nothing_near = 0 if self._given > self._block and room < AHEAD else room
        given = self._given
        redacted = self._looks.redact(near, self._before, meter=self._meter)
        # What is disjoint begins in the order in which it ends.
        walls = self._looks.walls(near)
        starts = sorted([*(start for start, _ in walls), *redacted.starts]) if walls else redacted.starts
        ends = sorted([*(end for _, end in walls), *redacted.ends]) if walls else redacted.ends

        def outside(cut: int) -> int:
            over = bisect_right(ends, cut)
            if over == len(ends) or starts[over] >= cut:
                return cut
            start, end = starts[over], ends[over]  # what begins long before goes out whole: every block is long
            return start if start > room - AHEAD or given > self._block else end

        cut = outside(room if match else nothing_near)
        if match and not bisect_right(ends, cut):
            cut = outside(match.end())
        # Behind a finding, which a second redaction sees as a replacement, so that its blocks end at the same places.
        before = bisect_right(ends, cut)
        if before:
            # The first one behind a block that would be short goes out with it, so that less is read again.
            beyond = ends[before] if before < len(ends) and cut == room else len(near)
            cut = beyond if ends[before - 1] < room - AHEAD and beyond <= room + AHEAD // 2 else ends[before - 1]
        if redacted.ends and redacted.ends[-1] == cut == len(near):  # it goes on, and so does its search
            start = redacted.starts[-1]
            if start or not self._before:
                self._before = near[max(0, start - _INTRODUCTION) : start + _INTRODUCTION]
        else:  # What says what a finding is may stand in front of the cut: `secret key: ...`.
            self._before = "" if before else near[max(0, cut - _INTRODUCTION) : cut]
        if cut:
            self._move_on(cut)
            yield _up_to(cut, redacted, given)


def _up_to(cut: int, redacted: Redacted, offset: int) -> Redacted:
    """The beginning of a redacted piece, which stands at `offset`; no finding reaches over its end."""
    known = bisect_right(redacted.ends, cut)
    starts, ends, replacements = redacted.starts[:known], redacted.ends[:known], redacted.replacements[:known]
    longer = sum(map(len, replacements)) - (sum(ends) - sum(starts))
    starts, ends = [offset + start for start in starts], [offset + end for end in ends]
    return Redacted(redacted.text[: cut + longer], redacted.rules[:known], starts, ends, replacements)
