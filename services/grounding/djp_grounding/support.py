"""Measures whether the cited document backs the sentence that cites it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from djp_grounding.analysis import analyser, query_terms
from djp_grounding.claims import CHECKABLE_TERMS, Claim, find_claims
from djp_grounding.model import passage_id
from djp_grounding.quotes import DocumentText
from djp_grounding.resolve import CitationStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp_grounding.index import IndexReader
    from djp_grounding.model import Document
    from djp_grounding.resolve import Citation

THRESHOLD = 0.4
"""From this support on a document backs a sentence.

Calibrated on Cranfield's abstracts, all of one field (`benchmarks/grounding_quality.py`, 3,000 samples each): it
keeps 99.97 % of the cited document's sentences, 99.3 % of those with a fifth of their words replaced, 96.5 % of those
with a third replaced, and refuses 99.97 % of the sentences of another document and 99 % of sequences of the
collection's own words. It cannot tell a true sentence from a false one of the same words.
"""
MEASURED = 1_000
"""So many different citing sentences of one text are measured; a draft has a dozen."""
QUOTED_PASSAGES = 50_000
"""So many passages are read to look for quotations, for one text: some 50 MB."""

SEARCHED_CHARS = 200_000_000
"""So many code points are searched for the quotations of one text: about a second. A draft's take a millisecond."""

_QUOTED_DOCUMENTS = 16  # that one sentence cites are searched for its quotations, beside that of the citation itself
_COMPARED = 8  # passages of the document, those nearest to the sentence by BM25


class Evidence:
    """What the documents of one version say, for one text. Remembers what it has read."""

    def __init__(self, index: IndexReader) -> None:
        self._index = index
        self._texts: dict[int, DocumentText] = {}
        self._read = 0
        self._searched = 0
        self._held: dict[tuple[int, str], bool] = {}

    def support(self, document: Document, claim: str) -> tuple[float | None, str]:
        """How well the document backs the claim, 0 to 1, and the id of the passage that does it best.

        It is the share of the claim's different terms that stand together in one passage or in the title, each term
        weighted with its rarity (BM25's idf), so that what everybody writes counts little and a name or a number much.
        None for a claim of too few terms to be checked.
        """
        terms = query_terms(claim)
        if len(terms) < CHECKABLE_TERMS:
            return None, ""
        rarity = {term: self._index.rarity(term) for term in terms}
        titled = set(analyser().analyze(document.title))
        best, passage = 0.0, ""
        for found in self._index.search_document(document.key, terms, _COMPARED):
            held = titled.union(analyser().analyze(found.passage.text))
            share = sum(weight for term, weight in rarity.items() if term in held)
            if share > best:
                best, passage = share, passage_id(document, found.passage)
        return best / sum(rarity.values()), passage

    def holds(self, document: Document, quote: str) -> bool | None:
        """Whether the quotation stands in the document; None when too much was read or searched already."""
        key = (document.key, quote)
        if key not in self._held:
            text = self._text(document)
            self._searched += len(text or "") + len(quote)
            if text is None or self._searched > SEARCHED_CHARS:
                return None
            self._held[key] = text.holds(quote)
        return self._held[key]

    def _text(self, document: Document) -> DocumentText | None:
        if document.key not in self._texts:
            self._read += document.passages
            if self._read > QUOTED_PASSAGES:
                return None
            self._texts[document.key] = DocumentText(self._index.document_passages(document.key))
        return self._texts[document.key]


def check_support(text: str, citations: Sequence[Citation], index: IndexReader) -> list[Citation]:
    """The citations of `text`, those that resolved with their support, their passage and a status that heeds both.

    A citation is unsupported if its sentence says nothing that can be checked, if a quotation in the sentence stands in
    none of the documents cited there, or if its document does not back the sentence.
    """
    evidence, known = Evidence(index), dict[tuple[int, Claim], _Outcome]()
    claims = find_claims(text, [citation.mention for citation in citations])
    cited: defaultdict[Claim, list[Document]] = defaultdict(list)
    for citation, claim in zip(citations, claims, strict=True):
        if citation.document and citation.document not in cited[claim]:
            cited[claim].append(citation.document)
    checked = []
    for citation, claim in zip(citations, claims, strict=True):
        if citation.document:
            key = (citation.document.key, claim)
            if key not in known:
                known[key] = (
                    _outcome(evidence, citation.document, claim, cited[claim])
                    if len(known) < MEASURED
                    else _Outcome(None, f"not checked: more than {MEASURED} different citing sentences in one text")
                )
            citation = known[key].told_of(citation)
        checked.append(citation)
    return checked


@dataclass(frozen=True)
class _Outcome:
    support: float | None
    reason: str = ""
    passage: str = ""

    def told_of(self, citation: Citation) -> Citation:
        status = CitationStatus.UNSUPPORTED if self.reason else citation.status
        return replace(citation, status=status, reason=self.reason, support=self.support, passage_id=self.passage)


def _outcome(evidence: Evidence, document: Document, claim: Claim, cited: Sequence[Document]) -> _Outcome:
    support, passage = evidence.support(document, claim.text)
    for quote in claim.quotes:
        held = [evidence.holds(one, quote) for one in (document, *cited[:_QUOTED_DOCUMENTS])]
        if not any(held):
            unread = " (not all of them were searched: there is too much to search)" if None in held else ""
            reason = f"a quotation in the sentence does not stand in the documents it cites{unread}"
            return _Outcome(support, reason, passage)
    if support is None:
        if claim.quotes:  # it stands there, though its words are too common to be weighed
            return _Outcome(None, passage=passage)
        return _Outcome(None, "the sentence says nothing that the document could back")
    if support < THRESHOLD:
        return _Outcome(support, "the document does not say what the sentence says", passage)
    return _Outcome(support, passage=passage)
