"""Finds what each citation is there to back: the sentence that carries it, and the quotations in that sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from djp.llm.markdown import outside_code, prose
from djp.llm.text import split_sentences, terms, word_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp_grounding.citations import Mention

CHECKABLE_TERMS = 3
"""A sentence of fewer different content words says too little to be checked: its neighbours count with it."""
QUOTE_WORDS = 3
"""Fewer words between quotation marks are a name or an emphasis; from here on they claim to be the document's own."""
CLAIM_CHARS = 4_000
"""So much of a sentence is read. A longer one is no sentence."""

_MARK = "\ue000"  # of a private use area: stands where a citation or a quotation stood while sentences are split
_MENTION = re.compile(rf"\[{_MARK}(\d+)\]")
_NUMBERS = re.compile(r"\[[\d ,;\u2013-]{1,40}\]")  # of references that no document is called by
_QUOTED = re.compile(rf"`{_MARK}(\d+)`")
# An opening straight mark follows no letter and a closing one precedes none, so that 5" is no quotation.
_QUOTE = re.compile(
    r'(?<!\w)"(?=\S)([^"]{1,4000})"(?!\w)|[\u201c\u201e]([^\u201c\u201d\u201e]{1,4000})[\u201d\u201c]'
    r"|\u00ab([^\u00ab\u00bb]{1,4000})\u00bb|\u300c([^\u300c\u300d]{1,4000})\u300d"
)


@dataclass(frozen=True)
class Claim:
    """What a citation is there to back: a text without citations, and the quotations in it; both may be empty."""

    text: str
    quotes: tuple[str, ...] = ()


def find_claims(text: str, mentions: Sequence[Mention]) -> list[Claim]:
    """The claim of each mention of `find_mentions(text)`.

    It is the sentence that carries the mention. A sentence of fewer than `CHECKABLE_TERMS` content words, such as "See
    [Budgets].", stands for those before it in the paragraph that cite nothing. A mention outside prose, as in a row of
    a table, stands for its line.
    """
    claims: dict[int, Claim] = {}
    for block in prose(_marked(text, mentions)):
        quotes: list[str] = []

        def keep(match: re.Match[str], quotes: list[str] = quotes) -> str:
            inner = next(group for group in match.groups() if group is not None)
            quotes.append(_MENTION.sub("", inner).strip())
            return f"`{_MARK}{len(quotes) - 1}`" + "".join(found[0] for found in _MENTION.finditer(inner))

        before: list[str] = []
        for sentence in split_sentences(outside_code(block.text, lambda part: _QUOTE.sub(keep, part))):
            cited = [int(number) for number in _MENTION.findall(sentence)]
            said = _NUMBERS.sub("", _MENTION.sub("", sentence))
            if cited:
                if len(set(terms(_restored(said, quotes)))) < CHECKABLE_TERMS:
                    said = " ".join([*before, said])
                claim = _claim(said, quotes)
                claims.update(dict.fromkeys(cited, claim))
                before = []
            else:
                before.append(said)
    return [claims.get(number) or Claim(_line(text, mention)) for number, mention in enumerate(mentions)]


def _marked(text: str, mentions: Sequence[Mention]) -> str:
    parts, at = list[str](), 0
    unmarked = text.replace(_MARK, " ")
    for number, mention in enumerate(mentions):
        parts += [unmarked[at : mention.start], f"[{_MARK}{number}]"]
        at = mention.end
    return "".join([*parts, unmarked[at:]])


def _claim(said: str, quotes: Sequence[str]) -> Claim:
    inside = [quotes[int(number)] for number in _QUOTED.findall(said)]
    long_ones = tuple(quote for quote in inside if word_count(quote) >= QUOTE_WORDS)
    return Claim(_restored(said, quotes)[:CLAIM_CHARS].strip(), long_ones)


def _restored(said: str, quotes: Sequence[str]) -> str:
    return _QUOTED.sub(lambda match: quotes[int(match[1])], said)


def _line(text: str, mention: Mention) -> str:
    start = max(text.rfind("\n", 0, mention.start) + 1, mention.start - CLAIM_CHARS // 2)
    newline = text.find("\n", mention.end)
    end = min(newline if newline >= 0 else len(text), mention.end + CLAIM_CHARS // 2)
    return re.sub(r"\[[^\[\]]*\]", " ", text[start:end]).strip()
