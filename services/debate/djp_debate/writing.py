"""Writes a draft: takes statements in turn while they fit, orders them, and cites where each is from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from djp.llm.text import MAX_QUOTED_WORDS
from djp.llm.tokens import count_tokens, utf8_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from djp_debate.statements import Statement

_END = re.compile(r"[.!?\u2026\u3002\uff01\uff1f]*$")
_PARAGRAPH = 4  # sentences; longer ones are hard to read

Paragraph = list["Statement"]


@dataclass(frozen=True)
class Plan:
    """What a debater wants to say: statements, the most important first, and their arrangement.

    `words` is the length it aims at. The first `opening` statements stay in front whatever their documents; `bullets`
    makes a list of the paragraphs.
    """

    statements: Sequence[Statement]
    arrange: Callable[[Sequence[Statement]], list[Paragraph]]
    words: int
    opening: int = 0
    bullets: bool = False


@dataclass(frozen=True)
class Written:
    """A draft's text, the ids of the passages in it in the order in which they come, and what is wrong with it."""

    text: str
    evidence: tuple[str, ...] = ()
    safety_flags: tuple[str, ...] = ()


def write(plan: Plan, spare: Sequence[Statement], *, max_tokens: int, required_citations: int) -> Written:
    """The draft of a plan within `max_tokens`; empty if not even one statement fits.

    If the plan gives fewer citations than required, statements of `spare` are added; if they do not fit, short
    statements are taken before important ones.
    """
    chosen = _take(plan, [], plan.statements, max_tokens, required_citations)
    if len(chosen) < required_citations:
        chosen = _take(plan, chosen, spare, max_tokens, required_citations)
    if len(chosen) < required_citations:
        shortest = sorted(spare, key=lambda one: utf8_bytes(one.text) + utf8_bytes(one.passage.title))
        shorter = _take(plan, [], shortest, max_tokens, required_citations)
        chosen = shorter if len(shorter) > len(chosen) else chosen
    paragraphs = _arranged(plan, chosen)
    evidence = dict.fromkeys(one.passage.passage_id for paragraph in paragraphs for one in paragraph)
    return Written(_render(paragraphs, plan, required_citations), tuple(evidence))


def by_document(statements: Sequence[Statement]) -> list[Paragraph]:
    """A paragraph for each document, in the order of their most important statements, each told in its own order."""
    documents: dict[str, Paragraph] = {}
    for statement in statements:
        documents.setdefault(statement.document, []).append(statement)
    return [part for ones in documents.values() for part in _short(sorted(ones, key=lambda one: one.order))]


def by_passage(statements: Sequence[Statement]) -> list[Paragraph]:
    """A paragraph for each passage, in the order of their most important statements."""
    passages: dict[int, Paragraph] = {}
    for statement in statements:
        passages.setdefault(statement.rank, []).append(statement)
    return [sorted(ones, key=lambda one: one.order) for ones in passages.values()]


def one_paragraph(statements: Sequence[Statement]) -> list[Paragraph]:
    """All in one paragraph."""
    return [[one for paragraph in by_document(statements) for one in paragraph]] if statements else []


def cite(sentence: str, title: str) -> str:
    """The sentence with its `[Title]` before the full stop. Brackets in a title, which would end it, become round."""
    name = " ".join(title.replace("[", "(").replace("]", ")").split())
    end = _END.search(sentence)
    at = end.start() if end else len(sentence)
    return f"{sentence[:at]} [{name}]{sentence[at:]}" if name else sentence


def _take(
    plan: Plan, begun: Sequence[Statement], statements: Iterable[Statement], max_tokens: int, required: int
) -> list[Statement]:
    """What is begun and, in turn, whatever fits the tokens and the length aimed at and says something new."""
    chosen = list(begun)
    for statement in statements:
        words = sum(one.words for one in chosen)
        if chosen and len(chosen) >= required and words >= plan.words:
            break
        added = [one for one in statement.with_needed or (statement,) if one not in chosen]
        if not added or any(new.repeats(old) for new in added for old in chosen):
            continue
        if len(chosen) >= max(required, 1) and words + sum(one.words for one in added) > 1.2 * plan.words:
            continue
        trial = [*chosen, *added]
        arranged = _arranged(plan, trial)
        if _longest_run(arranged) <= MAX_QUOTED_WORDS and count_tokens(_render(arranged, plan, required)) <= max_tokens:
            chosen = trial
    return chosen


def _arranged(plan: Plan, chosen: Sequence[Statement]) -> list[Paragraph]:
    opening, rest = chosen[: plan.opening], chosen[plan.opening :]
    return plan.arrange(opening) + plan.arrange(rest)


def _render(paragraphs: Sequence[Paragraph], plan: Plan, required: int) -> str:
    """Cited at the end of what one document says in a paragraph, or after every sentence where more are required."""
    by_part = sum(len(_ends_of_parts(paragraph)) for paragraph in paragraphs)
    texts = []
    for paragraph in paragraphs:
        cited = set(range(len(paragraph))) if by_part < required else _ends_of_parts(paragraph)
        sentences = (cite(one.text, one.passage.title) if at in cited else one.text for at, one in enumerate(paragraph))
        texts.append(" ".join(sentences))
    listed = plan.bullets and len(texts) > 1
    return "\n".join(f"- {text}" for text in texts) if listed else "\n\n".join(texts)


def _longest_run(paragraphs: Sequence[Paragraph]) -> int:
    """The most words that may stand in a row in one passage as they do here: of what follows in order in a document."""
    longest = run = 0
    before: Statement | None = None
    for one in (one for paragraph in paragraphs for one in paragraph):
        follows = before is not None and one.document == before.document and one.order > before.order
        run = run + one.words if follows else one.words
        longest, before = max(longest, run), one
    return longest


def _ends_of_parts(paragraph: Paragraph) -> set[int]:
    last = len(paragraph) - 1
    return {at for at, one in enumerate(paragraph) if at == last or paragraph[at + 1].document != one.document}


def _short(statements: Paragraph) -> list[Paragraph]:
    """Cut into even paragraphs of at most four sentences or so, never before one that needs the sentence before it."""
    length = -(-len(statements) // -(-len(statements) // _PARAGRAPH))
    parts: list[Paragraph] = []
    for one in statements:
        if parts and (len(parts[-1]) < length or one.dangling):
            parts[-1].append(one)
        else:
            parts.append([one])
    return parts
