"""Finds the prose of a Markdown or plain text: its paragraphs and list items, without code, tables and markup."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Every pattern here runs in linear time on any text: no repetition can match what the one after it matches.
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}#{1,6}(?P<text>[ \t].*)?$")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-{2,})[ \t]*$")
_RULE = re.compile(r"[ \t]*(?:(?:-[ \t]*){3,}|(?:\*[ \t]*){3,}|(?:_[ \t]*){3,})$")
_TABLE_RULE = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-*:?[ \t]*)+$")
_QUOTE = re.compile(r"(?: {0,3}>[ \t]?)+")
_ITEM = re.compile(r"[ \t]*(?:[-*+\u2022]|[0-9]{1,3}[.)])[ \t]+(?:\[[ xX]\][ \t]+)?(?=\S)")
_DEFINITION = re.compile(r" {0,3}\[[^\[\]]{1,400}\]:[ \t]*\S")
_HTML_LINE = re.compile(r"[ \t]*</?[A-Za-z][A-Za-z0-9-]*[ \t/>]")
_INDENTED = re.compile(r"(?: {4}|\t)")

_MARKUP = re.compile(r"[`*_\[<]")
_TICKS = re.compile(r"`+")
_CODE = re.compile(r"(`[^`]*`)")
_LABEL = re.compile(r"(?:\*\*|__)(?P<text>[^*_]{1,80})(?:(?<=[.:!?])(?:\*\*|__)|(?:\*\*|__)[.:])(?:\s|$)")
_IMAGE = re.compile(r"!\[[^\[\]]*\]\([^()]*\)")
_LINK = re.compile(r"\[([^\[\]]+)\]\([^()\[\]]*\)")
_STAR = re.compile(r"(?<![\w*])\*(?=[^\s*])([^*]+)(?<!\s)\*(?![\w*])")
_UNDERSCORE = re.compile(r"(?<!\w)(_{1,2})(?=[^\s_])([^_]+)(?<!\s)\1(?!\w)")
_TAG = re.compile(r"</?(?:a|b|br|code|em|i|img|kbd|p|small|span|strong|sub|sup|u)(?:\s[^<>]*)?/?>", re.IGNORECASE)


@dataclass(frozen=True)
class Block:
    """A paragraph or a list item in one line, without markup; code between backticks is kept as it stands.

    `heading` is the nearest heading above, `label` the bold words that head the block ("**Remedy.** Restart it.");
    either may be empty.
    """

    text: str
    heading: str = ""
    label: str = ""


def prose(text: str) -> Iterator[Block]:
    """The paragraphs and list items of a text, in order."""
    heading = ""
    for kind, content in _pieces(text):
        if kind == "heading":
            heading = plain(content)
            continue
        label = _LABEL.match(content)
        if label and (body := plain(content[label.end() :])):
            yield Block(body, heading, plain(label["text"]).rstrip(".:"))
        elif shown := plain(content):
            yield Block(shown, heading)


def plain(line: str) -> str:
    """A line without emphasis, links, images and HTML tags: only what they show is left. Code is left as it stands."""
    if not _MARKUP.search(line):  # most lines
        return " ".join(line.split())
    line = _TICKS.sub("`", line)
    if line.count("`") % 2:
        line = line.replace("`", "")
    shown = "".join(part if part.startswith("`") else _without_markup(part) for part in _CODE.split(line))
    return " ".join(shown.split())


def outside_code(line: str, change: Callable[[str], str]) -> str:
    """The line with everything but its code between backticks changed."""
    return "".join(part if part.startswith("`") else change(part) for part in _CODE.split(line))


def _without_markup(text: str) -> str:
    text = _LINK.sub(r"\1", _IMAGE.sub("", text))
    text = _STAR.sub(r"\1", text.replace("**", ""))
    return _TAG.sub(" ", _UNDERSCORE.sub(r"\2", text))


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """("heading" or "prose", its line with markup), in order."""
    block: list[str] = []
    fence = ""
    comment = table = in_list = False
    after_blank = True

    def take() -> Iterator[tuple[str, str]]:
        if block:
            yield "prose", _joined(block)
            block.clear()

    for line in text.splitlines():
        if fence:
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
            continue
        if comment or line.lstrip().startswith("<!--"):
            comment = "-->" not in line
            continue
        if not line.strip():
            yield from take()
            after_blank, table = True, False
            continue
        was_after_blank, after_blank = after_blank, False
        if opening := _FENCE.match(line):
            yield from take()
            fence = opening[1]
        elif found := _HEADING.match(line):
            yield from take()
            in_list = False
            yield "heading", (found["text"] or "").rstrip("# \t")
        elif block and not table and _TABLE_RULE.match(line) and "|" in block[-1]:
            block.pop()  # the head of the table
            yield from take()
            table = True
        elif len(block) == 1 and _UNDERLINE.match(line):
            yield "heading", block.pop()
        elif table or _is_no_prose(line):
            yield from take()
        elif item := _ITEM.match(line):
            yield from take()
            in_list = True
            block.append(line[item.end() :])
        elif was_after_blank and not in_list and _INDENTED.match(line):
            after_blank = True  # code goes on until a line that is not indented
        else:
            if was_after_blank and not line[0].isspace():
                in_list = False
            quote = _QUOTE.match(line)
            block.append(line[quote.end() :] if quote else line)
    yield from take()


def _is_no_prose(line: str) -> bool:
    """A row of a table, a rule, a link definition or a line of HTML."""
    return line.lstrip().startswith("|") or any(
        pattern.match(line) for pattern in (_TABLE_RULE, _RULE, _DEFINITION, _HTML_LINE)
    )


def _joined(lines: list[str]) -> str:
    """The lines as one; a word that was broken at a hyphen is joined, without a guess about the hyphen."""
    whole = ""
    for line in (line.strip() for line in lines):
        if whole.endswith("-") and whole[-2:-1].isalpha() and line[:1].islower():
            whole += line
        else:
            whole += f" {line}" if whole else line
    return whole
