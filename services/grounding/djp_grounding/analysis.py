"""The one way text becomes search terms: for indexing and for queries alike."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tantivy

ANALYSER = "djp_english"
ANALYSER_VERSION = 1
"""Raise it when the same text would give other terms: it is part of a version's identity."""

QUERY_CHARS = 65_536
QUERY_TERMS = 256
"""A query counts up to these bounds: its first so many code points, and of those its first so many different terms."""

_TERM_CHARS = 64  # longer runs of letters are not words; in bytes of UTF-8, as tantivy counts them

# English function words. They carry a question's grammar, not its subject; without them nDCG@10 on Cranfield rises from
# 0.391 to 0.399 (tantivy's own list of 33 words gives 0.393), and question words no longer outweigh rare terms.
STOP_WORDS = """
    a about above after again against all also am an and any are as at be because been before being below between both
    but by can cannot could did do does doing down during each few for from further had has have having he her here hers
    herself him himself his how i if in into is it its itself just me might more most must my myself no nor not now of
    off on once only or other our ours ourselves out over own same shall she should so some such than that the their
    theirs them themselves then there these they this those through to too under until up us very was we were what when
    where which while who whom why will with would you your yours yourself yourselves
"""


@cache
def analyser() -> tantivy.TextAnalyzer:
    """Words in lower case, without stop words, cut to their English stem (Snowball); digits are words too."""
    import tantivy

    return (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        .filter(tantivy.Filter.remove_long(_TERM_CHARS))
        .filter(tantivy.Filter.lowercase())
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
