"""The offline debaters' answer to a brief: by a strategy where the passages speak about it, else an honest note."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.llm.offline import NO_ANSWER
from djp.llm.text import terms
from djp_debate.notes import write_note
from djp_debate.strategies import STRATEGIES, view
from djp_debate.writing import Written, write

if TYPE_CHECKING:
    from djp_debate.material import Material
    from djp_debate.model import Brief, Debater
    from djp_debate.ports import Work


def compose(brief: Brief, debater: Debater, material: Material, work: Work) -> Written:
    """The draft of one debater in one round. Blocks.

    Its text is empty if `max_tokens` leaves no room for one sentence.
    """
    if not material.speaks_about(brief.task):
        return Written(write_note(debater.model, brief), safety_flags=(NO_ANSWER,))
    seen = view(material, brief.task, debater, others=[frozenset(terms(draft.text)) for draft in work.others])
    return write(
        STRATEGIES[debater.model](seen),
        seen.statements,
        max_tokens=brief.max_tokens,
        required_citations=brief.required_citations,
    )
