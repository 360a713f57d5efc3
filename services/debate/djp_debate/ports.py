"""The port to whoever writes drafts: a model that is called, or the offline debaters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from djp.llm.asking import CallFailed, CallStarted
from djp_debate.model import Delta

if TYPE_CHECKING:
    from djp.llm.bounds import Bound
    from djp_debate.model import Debater, Draft, Failed, Finished

Tell = Callable[[CallStarted | CallFailed | Delta], None]
"""Learns of a call before it is sent, of its end when another one follows, and of the text as it comes."""


@dataclass(frozen=True)
class Work:
    """What a debater is to write in a round: its own last draft and those of the others, if there are any yet."""

    round: int
    own: Draft | None = None
    others: tuple[Draft, ...] = ()


class Writer(Protocol):
    """Writes the drafts of one debate."""

    async def write(self, debater: Debater, work: Work, tell: Tell) -> Finished | Failed:
        """The draft, or why there is none; with every call that was made."""
        ...

    async def bound(self, debater: Debater, round_: int) -> Bound:
        """The most that this debater's work in a round can cost, whatever the drafts before it."""
        ...
