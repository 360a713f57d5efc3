"""Finds `[Document Title]` citations in a text. What looks like one but is something else is left alone."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from djp.mesh.errors import InvalidInput
from djp_grounding.titles import TITLE_CHARS

if TYPE_CHECKING:
    from collections.abc import Iterator

_CANDIDATE = re.compile(rf"\[([^\[\]]{{1,{2 * TITLE_CHARS}}})\]")
_FENCE = re.compile(r"^[ ]{0,3}(`{3,}+|~{3,}+)", re.MULTILINE)
_OPENING = re.compile(r"^[ ]{0,3}(`{3,}+(?=[^`\n]*$)|~{3,}+)", re.MULTILINE)  # "```a```" on one line is inline code
_TICKS = re.compile(r"`+")
# A link definition, `[label]: https://…`: neither it nor `[label]` elsewhere is a citation.
_DEFINITION = re.compile(
    r"^[ ]{0,3}\[([^\[\]]{1,400})\]:[ \t]+(?:<|[a-z][a-z0-9+.-]*:|[/#.])", re.MULTILINE | re.IGNORECASE
)
_REDACTED = re.compile(r"REDACTED\b")
_LIST_ITEM = re.compile(r"[ \t>]*(?:[-*+]|\d{1,9}[.)])[ \t]+")
_BLANK_LINE = re.compile(r"\n[ \t]*\n")
MAX_MENTIONS = 20_000
"""A text with more is refused: with their documents they would not fit one message. Drafts have a dozen."""


@dataclass(frozen=True)
class Mention:
    """A citation as it stands in the text: what is between the brackets, and the brackets' offsets in code points."""

    text: str
    start: int
    end: int


def find_mentions(text: str) -> list[Mention]:
    """The citations in `text`, in order. Raises InvalidInput if there are more than `MAX_MENTIONS`.

    Not citations: links `[a](b)`, `[a][b]` with a defined `b`, images, footnotes `[^1]`, notes `[!NOTE]`, task boxes
    `[x]`, placeholders `[REDACTED:…]`, escaped brackets, brackets without a letter or digit, and anything inside code.
    """
    code = _code_spans(text)
    starts = [start for start, _ in code]
    labels = {_label(match[1]) for match in _DEFINITION.finditer(text)}

    def in_code(at: int) -> bool:
        before = bisect_right(starts, at) - 1
        return before >= 0 and at < code[before][1]

    mentions: list[Mention] = []
    for match in _CANDIDATE.finditer(text):
        if not in_code(match.start()) and _is_citation(text, match, labels):
            if len(mentions) == MAX_MENTIONS:
                message = f"text: more than {MAX_MENTIONS} citations; check it in parts"
                raise InvalidInput(message, field="text")
            mentions.append(Mention(match[1], match.start(), match.end()))
    return mentions


def _is_citation(text: str, match: re.Match[str], labels: set[str]) -> bool:
    inner = match[1].strip()
    before = text[match.start() - 1 : match.start()]
    after = text[match.end() : match.end() + 1]
    if after == "(" or before == "!" or _escaped(text, match.start()):
        return False
    if inner.startswith(("^", "!")) or _REDACTED.match(inner) or _BLANK_LINE.search(inner):
        return False
    if inner in ("x", "X") and _starts_list_item(text, match.start()):
        return False
    if _label(inner) in labels or (after == "[" and _next_label(text, match.end()) in labels):
        return False
    return any(char.isalnum() for char in inner)


def _starts_list_item(text: str, at: int) -> bool:
    line = text.rfind("\n", max(0, at - 200), at) + 1
    return bool(_LIST_ITEM.fullmatch(text, line or max(0, at - 200), at))


def _escaped(text: str, at: int) -> bool:
    slashes = 0
    while at - slashes > 0 and text[at - slashes - 1] == "\\" and slashes < 1000:
        slashes += 1
    return slashes % 2 == 1


def _next_label(text: str, at: int) -> str:
    following = _CANDIDATE.match(text, at)
    return _label(following[1]) if following else ""


def _label(text: str) -> str:
    return " ".join(text.split()).casefold()


def _code_spans(text: str) -> list[tuple[int, int]]:
    """Half-open spans of fenced blocks and of code between backticks, sorted, as CommonMark tells them."""
    spans: list[tuple[int, int]] = []
    at = 0
    while at < len(text):
        fence = _OPENING.search(text, at)
        block = fence.start() if fence else len(text)
        spans.extend(_inline_code(text, at, block))
        if fence is None:
            break
        end = _fence_end(text, fence)
        spans.append((block, end))
        at = end
    return spans


def _fence_end(text: str, fence: re.Match[str]) -> int:
    """A fence is closed by a line with at least as many of its marks and nothing else; otherwise it runs to the end."""
    for line in _FENCE.finditer(text, fence.end()):
        if line[1][0] == fence[1][0] and len(line[1]) >= len(fence[1]):
            newline = text.find("\n", line.end())
            end = newline if newline >= 0 else len(text)
            if not text[line.end() : end].strip():
                return end
    return len(text)


def _inline_code(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Between two runs of equally many backticks. A run without a partner before the next blank line is plain text."""
    opened: dict[int, int] = {}  # length of a run → where it opened, in this paragraph
    runs = [(run.start(), run.end()) for run in _TICKS.finditer(text, start, end)]
    partner: dict[int, int] = {}  # index of a run → index of the next run of the same length in the paragraph
    paragraph = start
    for number, (run_start, run_end) in enumerate(runs):
        if _BLANK_LINE.search(text, paragraph, run_start):
            opened.clear()
        paragraph = run_start
        length = run_end - run_start
        if length in opened:
            partner[opened[length]] = number
        opened[length] = number
    number = 0
    while number < len(runs):
        if number in partner:
            yield runs[number][0], runs[partner[number]][1]
            number = partner[number] + 1
        else:
            number += 1
