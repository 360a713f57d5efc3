"""The offline provider's answer to a brief: by a strategy where there are passages, else an honest note."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.llm.offline import NO_ANSWER
from djp_debate.material import Material
from djp_debate.notes import write_note
from djp_debate.strategies import STRATEGIES, view
from djp_debate.writing import Written, write

if TYPE_CHECKING:
    from djp_debate.model import Brief, Debater


def read(brief: Brief) -> Material:
    """The statements of the brief's passages: read once, for all debaters. May take a second; blocks."""
    return Material(brief.passages)


def compose(brief: Brief, debater: Debater, material: Material) -> Written:
    """The draft of one debater: the same for the same brief and debater, byte for byte. Blocks.

    Its text is empty if `max_tokens` leaves no room for one sentence.
    """
    if not material.statements:
        return Written(write_note(debater.model, brief), safety_flags=(NO_ANSWER,))
    seen = view(material, brief.task, debater)
    return write(
        STRATEGIES[debater.model](seen),
        seen.statements,
        max_tokens=brief.max_tokens,
        required_citations=brief.required_citations,
    )
