"""Drafts while they are written, for `djp run --stream`: whole lines, each with who writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.cli.terminal import PIPE_WIDTH, clean, err, one_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from djp.v1 import debate_pb2

_LEAST_WIDTH = 20


class Drafts:
    """Takes pieces of several drafts in any order, and gives lines to `tell`; a long line is broken between words."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._open: dict[str, str] = {}  # the debater's line that is not whole yet
        self._texts: dict[str, tuple[int, int]] = {}

    def piece(self, delta: debate_pb2.DraftDelta) -> None:
        """A piece of a draft. A higher attempt replaces the text of those before it, and is said to."""
        who, text = delta.debater_id, (delta.round, delta.attempt)
        known = self._texts.get(who)
        if text != known:
            self.flush(who)
            self._texts[who] = text
            if known and known[0] == delta.round:
                self._say(who, f"(attempt {delta.attempt} begins anew)")
        *whole, last = (self._open.pop(who, "") + delta.text).split("\n")
        for line in whole:
            self._say(who, self._broken(who, line))
        if rest := self._broken(who, last):
            self._open[who] = rest

    def flush(self, who: str | None = None) -> None:
        """Tell the line that is not whole, of one debater or of all: nothing more is coming."""
        for one in [who] if who is not None else list(self._open):
            if rest := self._open.pop(one, ""):
                self._say(one, rest)

    def _broken(self, who: str, line: str) -> str:
        """Tell of the line what fills lines; what is left fits into one."""
        room = max(_LEAST_WIDTH, min(err().width, PIPE_WIDTH) - 6 - len(who))
        while len(line) > room:
            at = line.rfind(" ", 0, room + 1)
            at = at if at > 0 else room
            self._say(who, line[:at])
            line = line[at:].lstrip(" ")
        return line

    def _say(self, who: str, line: str) -> None:
        if line.strip():
            self._tell(f"  {one_line(who, 20)} │ {clean(line.rstrip())}")
