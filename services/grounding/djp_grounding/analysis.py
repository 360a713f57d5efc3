"""The one way text becomes search terms: for indexing and for queries alike."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tantivy

ANALYSER = "djp_english"
ANALYSER_VERSION = 2
"""Raise it when the same text would give other terms: it is part of a version's identity."""

QUERY_CHARS = 65_536
QUERY_TERMS = 256
"""A query counts up to these bounds: its first so many code points, and of those its first so many different terms."""

# Scripts that put no spaces between words: each of their characters is a term. Elsewhere a run of letters, marks and
# digits is one, marks included, because the vowels of Indic scripts are marks.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_TERM = rf"[{_UNSPACED}]|[\p{{Alphabetic}}\p{{M}}\p{{N}}--[{_UNSPACED}]]+"
_TERM_CHARS = 64  # longer runs of letters are not words; in bytes of UTF-8, as tantivy counts them

# English function words. They carry a question's grammar, not its subject; leaving them out gives a better nDCG@10 on
# Cranfield than keeping them or than tantivy's own list of 33 words, and question words no longer outweigh rare terms.
STOP_WORDS = """
    a about above after again against all also am an and any are as at be because been before being below between both
    but by can cannot could did do does doing down during each few for from further had has have having he her here hers
    herself him himself his how i if in into is it its itself just me might more most must my myself no nor not now of
    off on once only or other our ours ourselves out over own same shall she should so some such than that the their
    theirs them themselves then there these they this those through to too under until up us very was we were what when
    where which while who whom why will with would you your yours yourself yourselves
"""


# Text of these characters alone, Latin with the usual punctuation, is what Python's own classes split the same way.
_LATIN = re.compile(r"[\x00-\u02ff\u2000-\u206f\u20a0-\u20bf\u2190-\u23ff]*")
_BETWEEN = re.compile(r"[\W_]+")
_ASCII_BETWEEN = {code: " " for code in range(128) if not chr(code).isalnum()}


@cache
def analyser() -> tantivy.TextAnalyzer:
    """Words in lower case, without accents and stop words, cut to their English stem (Snowball); numbers are words."""
    return _filtered(_words())


@cache
def spaced_analyser() -> tantivy.TextAnalyzer:
    """Gives of `spaced(text)` the terms that `analyser` gives of the text, in less than half of the time."""
    import tantivy

    return _filtered(tantivy.Tokenizer.whitespace())


def spaced(text: str) -> str:
    """The words of a text with white space between them, as `spaced_analyser` needs it."""
    if text.isascii():
        return text.translate(_ASCII_BETWEEN)
    if _LATIN.fullmatch(text):
        return _BETWEEN.sub(" ", text)
    return " ".join(_splitter().analyze(text))


@cache
def _splitter() -> tantivy.TextAnalyzer:
    import tantivy

    return tantivy.TextAnalyzerBuilder(_words()).build()


def _words() -> tantivy.Tokenizer:
    import tantivy

    return tantivy.Tokenizer.regex(_TERM)


def _filtered(tokenizer: tantivy.Tokenizer) -> tantivy.TextAnalyzer:
    import tantivy

    return (
        tantivy.TextAnalyzerBuilder(tokenizer)
        .filter(tantivy.Filter.remove_long(_TERM_CHARS))
        .filter(tantivy.Filter.lowercase())
        .filter(tantivy.Filter.ascii_fold())
        .filter(tantivy.Filter.custom_stopword(STOP_WORDS.split()))
        .filter(tantivy.Filter.stemmer("english"))
        .build()
    )


def query_terms(query: str) -> Counter[str]:
    """The query's terms with how often each stands there, in order of first appearance; empty if nothing is left."""
    counts: Counter[str] = Counter()
    for term in analyser().analyze(query[:QUERY_CHARS]):
        if term in counts or len(counts) < QUERY_TERMS:
            counts[term] += 1
    return counts
