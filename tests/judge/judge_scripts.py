"""Jurors that are models, as scripts: what a question shows, and the ballots that answer it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from djp.llm.calls import Usage
from djp.llm.provider import Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from djp.llm.models import Model
    from djp.llm.provider import Question

GOOD = (
    "Spring tides come at new moon and at full moon, twice a month [Tides]. "
    "The moon pulls the water of the sea [Tides].\n\nA harbour master closes the gate before a spring tide [Harbours]."
)
FAIR = "Ships wait until the gate opens again [Harbours]. Nobody in the village has seen a comet."
PROVIDERS = """
providers:
  red:
    api: openai
    base_url: http://localhost:1/v1
    models:
      gpt-r: {family: openai, price: {input: 3, output: 15}}
      cold: {family: cold, temperature: false, price: {input: 1, output: 2}}
  blue:
    api: openai
    base_url: http://localhost:1/v1
    models:
      claude-b: {family: anthropic, price: {input: 3, output: 15}}
      small: {family: small, tokenizer: o200k_base, price: {input: 1, output: 2}}
"""


def marks_of(text: str) -> tuple[float, float, float]:
    """The marks that a draft of the tests asks for: "worth 3 2.5 1" in its text."""
    words = text.split()
    at = words.index("worth")
    return float(words[at + 1]), float(words[at + 2]), float(words[at + 3].rstrip("."))


def drafts_in(question: Question) -> dict[str, str]:
    """What a question shows: the text of each draft by its letter, between the fences with the question's number."""
    mark = question.user.split(" ", 2)[1]
    found: dict[str, str] = {}
    for block in question.user.split(f"<<< {mark} ")[1:]:
        head, _, rest = block.partition("\n")
        if head.startswith("Draft "):
            found[head.removeprefix("Draft ")] = rest.rsplit(f"\n>>> {mark}\n", 1)[0]
    return found


def ballot_text(question: Question, marks: Callable[[str, int], tuple[float, float, float]]) -> str:
    """The ballot of a juror that gives each text, at its place, these marks."""
    shown = drafts_in(question)
    return json.dumps(
        {
            letter: dict(zip(("task_fit", "support", "clarity", "reason"), (*marks(text, place), "so"), strict=True))
            for place, (letter, text) in enumerate(shown.items())
        }
    )


def fair_ballot(_model: Model, question: Question) -> Iterator[Any]:
    """A juror that gives what each draft asks for."""
    text = ballot_text(question, lambda draft, _place: marks_of(draft))
    yield from (text[:10], text[10:])
    yield Reply(Usage(100, output_tokens=50))
