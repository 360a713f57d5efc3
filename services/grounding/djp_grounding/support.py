"""Measures whether the cited document backs the sentence that cites it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from djp_grounding.analysis import analyser, query_terms, spaced, spaced_analyser
from djp_grounding.claims import CHECKABLE_TERMS, Claim, find_claims
from djp_grounding.model import passage_id
from djp_grounding.quotes import DocumentText
from djp_grounding.resolve import CitationStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from djp_grounding.index import Found, IndexReader
    from djp_grounding.model import Document, Passage
    from djp_grounding.resolve import Citation

THRESHOLD = 0.4
"""From this support on a document backs a sentence, unless `RIVAL` says that another one does.

Calibrated on Cranfield's abstracts, all of one field (`benchmarks/grounding_quality.py`, 3,000 samples each): it
keeps 99.97 % of the cited document's sentences, 99.6 % of those with a fifth of their words replaced, 97.1 % of those
with a third replaced, and refuses 99.97 % of the sentences of another document and 99.5 % of sequences of the
collection's own words. It cannot tell a true sentence from a false one of the same words.
"""
RIVAL = 0.7
"""A document backs a sentence only with so much of the support that the best passage of the whole corpus gives it.

Documents that repeat each other have most words of each other's sentences; what is said in one is backed by that one.
On this project's own documents it makes 98 % of another document's sentences refused that were 87 % before, and refuses
none of the cited one's.
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
        share, passage = self._best(terms, self._index.search_document(document.key, terms, _COMPARED), document.title)
        return share, passage_id(document, passage) if passage else ""

    def backs(self, support: float, claim: str) -> bool:
        """Whether a document with this support of the claim backs it: enough, and no other one far better."""
        if support < THRESHOLD:
            return False
        if support >= RIVAL:  # no other one has more than 1
            return True
        terms = query_terms(claim)
        return support >= RIVAL * self._best(terms, self._index.search_terms(terms, _COMPARED), "")[0]

    def _best(self, terms: Mapping[str, int], passages: Iterable[Found], title: str) -> tuple[float, Passage | None]:
        """The largest share of the terms, by weight, that the title and one of the passages hold; and that passage."""
        rarity = {term: self._index.rarity(term) for term in terms}
        titled = set(analyser().analyze(title))
        best, passage = 0.0, None
        for found in passages:
            held = titled.union(spaced_analyser().analyze(spaced(found.passage.text)))
            share = sum(weight for term, weight in rarity.items() if term in held)
            if share > best:
                best, passage = share, found.passage
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
    if support < THRESHOLD or not (claim.quotes or evidence.backs(support, claim.text)):
        rival = ", which another document does" if support >= THRESHOLD else ""
        return _Outcome(support, f"the document does not say what the sentence says{rival}", passage)
    return _Outcome(support, passage=passage)
