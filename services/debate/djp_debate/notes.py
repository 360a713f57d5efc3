"""What an offline debater writes when it has nothing to quote: why, what was asked, and what to do about it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from djp.llm.tokens import count_tokens, cut_to_tokens
from djp_debate.statements import without_brackets

if TYPE_CHECKING:
    from djp_debate.model import Brief

RESTATED_CHARS = 600
"""So much of a task is restated: enough to know it again."""

# Around the restated task; "{why}" is one of `_NO_PASSAGES` and `_NOTHING_TO_QUOTE`.
_NOTES = {
    "offline/lead": (
        "This is not an answer: {why}, and no model was called.",
        "The task was:",
        "Give a folder of documents with `--grounded-corpus`, and the offline debaters will answer from them, with "
        "citations.",
    ),
    "offline/focus": (
        "The task could not be answered, because {why} and the offline debaters call no model.",
        "What was asked:",
        "An answer needs documents that speak about it. Name their folder with `--grounded-corpus` and run the task "
        "again.",
    ),
    "offline/survey": (
        "No answer could be composed. Two things were missing: documents, for {why}, and a model, for the offline "
        "debaters call none.",
        "The task as it was given:",
        "To get an answer, run it again with `--grounded-corpus` and a folder of `.md`, `.txt` or `.pdf` files. Every "
        "sentence of the answer will then come from those documents and say from which.",
    ),
    "offline/brief": ("No answer: {why}, and no model was called.", "Task:", "Remedy: give `--grounded-corpus`."),
    "offline/contrast": (
        "An offline debater can quote documents, but it cannot know anything by itself. Here {why}, so this note only "
        "repeats the task.",
        "Asked was:",
        "With documents (`--grounded-corpus`) there would be an answer; without them there is none.",
    ),
}
_NO_PASSAGES = "no documents were at hand"
_NOTHING_TO_QUOTE = "the passages that were found hold nothing about it to quote"
_KEY_BEGINS = "-----BEGIN"


def write_note(model: str, brief: Brief) -> str:
    """The note of a debater, within the brief's `max_tokens`; empty if not even its first sentence fits."""
    before, intro, after = _NOTES[model]
    why = _NOTHING_TO_QUOTE if brief.passages else _NO_PASSAGES
    opening = before.format(why=why)
    for text in (
        f"{opening}\n\n{intro} {restated(brief.task, brief.max_tokens)}\n\n{after}",
        f"{opening}\n\n{after}",
        opening,
        "No answer: no model was called.",
    ):
        if count_tokens(text) <= brief.max_tokens:
            return text
    return ""


def restated(task: str, max_tokens: int) -> str:
    """The task between quotation marks, cut at a space so that no address or key is left in halves."""
    whole = without_brackets(task.strip())
    room = cut_to_tokens(whole, max(0, max_tokens // 2))[:RESTATED_CHARS]
    if len(room) < len(whole):
        begun = room.rfind(_KEY_BEGINS)
        if begun >= 0:
            room = room[:begun]
        at = max((gap.start() for gap in re.finditer(r"\s", room)), default=0)
        room = f"{room[:at].rstrip()} \u2026".strip()
    if room.count("`") % 2:  # it would make code of what follows
        room = room.replace("`", "")
    return f"\u201c{room}\u201d"
