"""What debaters and jurors see in a text: its sentences and its content words."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from djp.llm.markdown import prose

if TYPE_CHECKING:
    from collections.abc import Iterator

_WIDE_STOPS = "\u3002\uff01\uff1f"  # the full stops of Chinese and Japanese: no space follows them
_CLOSERS = "\"'\u201d\u2019\u00bb\u300d\u300f)*_"
_STOP = re.compile(rf"(?:[.!?\u2026]+[{_CLOSERS}]*(?=\s|$)|[{_WIDE_STOPS}]+[{_CLOSERS}]*)")
_ATOM = re.compile(r"`[^`]*`|\[[^\[\]]{1,400}\]")  # no sentence ends inside code or inside a citation
_CITED = re.compile(r"(?:\s*\[[^\[\]]{1,400}\])+[.!?]*(?=\s|$)")
_LAST_WORD = re.compile(r"[^\s(\[]+$")
_ABBREVIATIONS = frozenset(
    """
    approx art ca cf ch dept dr ed eds eg e.g est fig ft gen gov i.e ie jr lt mr mrs ms no nr p pp prof rev sec sr st
    u.k u.s vol vs z.b bzw
    """.split()  # noqa: SIM905  a paragraph of words reads better than a list of strings
)

MAX_QUOTED_WORDS = 75
"""The guide's guardrail: no verbatim quote has more words. The jury's rules and the offline debaters keep to it."""
WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


class _WithoutMarks(dict[int, str]):
    """Characters in their compatibility form and without accents, each found once.

    One by one: to put a run of accents in order, as normalising a whole text does, takes quadratic time.
    """

    def __missing__(self, code: int) -> str:
        plain = "".join(
            char for char in unicodedata.normalize("NFKD", chr(code)) if not unicodedata.category(char).startswith("M")
        )
        self[code] = plain
        return plain


_WITHOUT_MARKS = _WithoutMarks()
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""The scripts that put no spaces between words, for a class of characters: Thai to Khmer, kana, Han."""
_RUN = re.compile(rf"[{UNSPACED}]+|[^{UNSPACED}]+")
_UNSPACED_CHAR = re.compile(rf"[{UNSPACED}]")
_LONGEST_WORD = 60  # longer ones are keys, hashes and addresses
_STOP_WORDS = frozenset(
    """
    a about above after again against all also am an and any are aren as at be because been before being below between
    both but by can cannot could couldn did didn do does doesn doing don down during each every few for from further
    get gets give given gives go goes had hadn has hasn have haven having he her here hers him his how i if in into is
    isn it its itself just let made make makes may me might more most must my no nor not now of off on once only or
    other our out over own per s same shall she should shouldn so some such t than that the their theirs them then there
    these they this those through thus to too under until up upon us very was wasn we were weren what when where whether
    which while who whom whose why will with within without won would wouldn yet you your
    """.split()  # noqa: SIM905
)


def sendable(text: str) -> str:
    """The text as UTF-8 can hold it: question marks stand for lone surrogates, which JSON has and protobuf refuses."""
    return text.encode("utf-8", "replace").decode()


def sentences(text: str) -> list[str]:
    """The sentences of the prose in a Markdown or plain text, in order, each in one line and without emphasis.

    Headings, code blocks, tables and the bold words that head a paragraph are left out. A citation in square brackets
    belongs to the sentence it stands in or right behind.
    """
    return [sentence for block in prose(text) for sentence in split_sentences(block.text)]


def split_sentences(line: str) -> list[str]:
    """The sentences of one paragraph that is one line."""
    return [sentence for sentence in _split(line) if sentence]


def terms(text: str) -> list[str]:
    """The content words of a text, in order: lower case, without accents and stop words, reduced to their stems.

    Scripts without spaces between words give every pair of neighbouring characters.
    """
    return [term for word in _words(text) for term in _terms_of(word)]


def word_count(text: str) -> int:
    """How many words a text has; in scripts without spaces, two characters count as one."""
    spaced = len(_UNSPACED_CHAR.sub(" ", text).split())
    return spaced + len(_UNSPACED_CHAR.findall(text)) // 2 if not text.isascii() else spaced


def _split(line: str) -> Iterator[str]:
    atoms = [(atom.start(), atom.end()) for atom in _ATOM.finditer(line)]
    start = at = number = 0
    while stop := _STOP.search(line, at):
        at = stop.end()
        while number < len(atoms) and atoms[number][1] <= stop.start():
            number += 1
        if number < len(atoms) and atoms[number][0] <= stop.start():
            at = atoms[number][1]
            continue
        if cited := _CITED.match(line, at):
            rest = line[cited.end() :].lstrip()
            if not rest[:1].islower():
                at = cited.end()
        if _ends(line, start, stop, at):
            yield line[start:at].strip()
            start = at
    yield line[start:].strip()


def _ends(line: str, start: int, stop: re.Match[str], end: int) -> bool:
    if stop[0][0] in _WIDE_STOPS:
        return True
    following = line[end : end + 2].lstrip()
    if following.islower():
        return False
    if stop[0] != ".":
        return True
    word = _LAST_WORD.search(line, max(start, stop.start() - 20), stop.start())
    last = word[0] if word else ""
    initial = len(last) == 1 and last.isalpha() and last.isupper() and last != "I"
    return not (last.lower() in _ABBREVIATIONS or initial or (last.isdigit() and stop.start() - len(last) == start))


def _words(text: str) -> list[str]:
    if not text.isascii():
        text = unicodedata.normalize("NFC", text.translate(_WITHOUT_MARKS))
    return WORD.findall(text.casefold())


@lru_cache(maxsize=50_000)
def _terms_of(word: str) -> tuple[str, ...]:
    if len(word) > _LONGEST_WORD and word.isascii():
        return ()
    word = re.split("['\u2019]", word, maxsplit=1)[0]
    if word.isascii():
        return () if word in _STOP_WORDS else (_stem(word),)
    found: list[str] = []
    for run in _RUN.findall(word):
        if _UNSPACED_CHAR.match(run):
            found.extend(run[at : at + 2] for at in range(max(1, len(run) - 1)))
        elif run not in _STOP_WORDS and len(run) <= _LONGEST_WORD:
            found.append(_stem(run))
    return tuple(found)


def _stem(word: str) -> str:
    """English endings cut so that "reserve", "reserved", "reserving" and "reservations" are one term."""
    if len(word) < 4 or not word.isalpha():
        return word
    if word.endswith("sses"):
        word = word[:-2]
    elif word.endswith(("ies", "ied")):
        word = word[:-1] if len(word) == 4 else f"{word[:-3]}y"
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ation", "ment", "ness", "ing", "ly", "ed"):
        rest = word.removesuffix(ending)
        if rest != word and len(rest) >= 3 and any(vowel in rest for vowel in "aeiouy"):
            doubled = ending in ("ing", "ed") and rest[-1] == rest[-2] and rest[-1] not in "lsz"
            word = rest[:-1] if doubled else rest
            break
    return word[:-1] if len(word) > 3 and word.endswith("e") else word
