"""A draft's text while it is written: taken out of an answer that is not whole yet, and told a few times a second."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from djp_debate.model import Delta
from djp_debate.reading import answer_so_far

if TYPE_CHECKING:
    from collections.abc import Callable

    from djp.llm.asking import Piece

_EVERY_S = 0.1
"""Between two deltas: reading a long answer from its beginning for each token would take quadratic time."""
_READ_BYTES = 1 << 16
"""So much of an answer is shown while it is written: the same for its length."""


class Deltas:
    """Tells the beginnings of one draft. What was told is never taken back, but a new attempt begins anew."""

    def __init__(self, debater_id: str, round_: int, tell: Callable[[Delta], None]) -> None:
        self._debater_id = debater_id
        self._round = round_
        self._tell = tell
        self._attempt = 0
        self._pieces: list[str] = []
        self._size = 0
        self._told = ""
        self._next = 0.0

    def add(self, piece: Piece) -> None:
        """A further piece of the answer."""
        if piece.attempt != self._attempt:
            self._attempt, self._pieces, self._size, self._told = piece.attempt, [], 0, ""
        if self._size > _READ_BYTES:
            return
        self._pieces.append(piece.text)
        self._size += len(piece.text)
        if (now := time.monotonic()) >= self._next:
            self._next = now + _EVERY_S
            self._show(answer_so_far("".join(self._pieces)).strip())

    def end(self, text: str) -> None:
        """The draft is whole: what is missing of it is told."""
        self._show(text)

    def _show(self, text: str) -> None:
        if len(text) > len(self._told) and text.startswith(self._told):
            self._tell(Delta(self._debater_id, self._round, text[len(self._told) :], max(1, self._attempt)))
            self._told = text
