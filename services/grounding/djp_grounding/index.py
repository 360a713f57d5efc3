"""One immutable tantivy index: building it, testing it, and searching it."""

from __future__ import annotations

import errno
import hashlib
import math
import os
import shutil
import tempfile
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from djp_grounding.analysis import ANALYSER, query_terms, spaced, spaced_analyser
from djp_grounding.texts import TextReader, TextWriter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    import tantivy

    from djp_grounding.model import Passage

INDEX_VERSION = 7
"""Raise it when the fields change: it is part of a version's identity."""
TITLE_BOOST = 0.5
"""Weight of a term in the title beside one in the text: amid those of the best nDCG@10 on Cranfield, 0.4 to 0.8."""

_HEAP_BYTES = 15_000_000  # the least tantivy takes a thread; a small corpus builds no faster with more
_HEAP_MAX_BYTES = 256_000_000
_PROBE_BYTES = 1_000_000
_DEEPER = 8  # times as many passages are looked at when they are to come from several documents
_TIE_MARGIN = 32  # further hits asked for, so that equal scores at the edge are ordered by us and not by segments


_DOCUMENT_PASSAGES = 100_000
"""Passages of one document that are read back: 32 MiB of words, the largest file, make fewer."""


class Found(NamedTuple):
    """A passage, the key of its document, and its BM25 score."""

    document: int
    passage: Passage
    score: float


class IndexBuilder:
    """Writes an index into an empty folder: a new one, or a changed copy of another, whose files are linked and stay.

    One thread: another one makes no small corpus faster. Use as a context manager.

    Every method raises OSError when the folder cannot be written.
    """

    def __init__(self, folder: Path, content_bytes: int, base: Path | None = None) -> None:
        import tantivy

        for file in base.iterdir() if base else ():  # tantivy writes new files and renames; it never changes one
            if file.suffix != ".lock":
                _link(file, folder / file.name)
        schema = (
            tantivy.SchemaBuilder()
            .add_unsigned_field("document", indexed=True, fast=True)
            .add_unsigned_field("ordinal", fast=True)
            .add_unsigned_field("place", fast=True)
            .add_text_field("title", tokenizer_name=ANALYSER, index_option="freq")
            .add_text_field("terms", tokenizer_name=ANALYSER, index_option="freq")
            .build()
        )
        index = tantivy.Index(schema, path=str(folder))
        index.register_tokenizer(ANALYSER, spaced_analyser())
        heap = min(max(_HEAP_BYTES, 2 * content_bytes), _HEAP_MAX_BYTES)
        self._writer = index.writer(heap_size=heap, num_threads=1)
        self._folder = folder
        self._heap_bytes = heap
        self._document: Any = tantivy.Document
        self._term_query: Any = tantivy.Query.term_query
        self._schema = index.schema
        self.passages = 0
        self._texts = TextWriter(folder)

    def __enter__(self) -> IndexBuilder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._texts.close()

    def add(self, document: int, title: str, passage: Passage) -> None:
        """Adds a passage of the document with this key."""
        entry = self._document()
        entry.add_unsigned("document", document)
        entry.add_unsigned("ordinal", passage.ordinal)
        entry.add_unsigned("place", self._texts.add(document, passage))
        entry.add_text("title", spaced(title))
        entry.add_text("terms", spaced(passage.text))
        try:
            self._writer.add_document(entry)
        except ValueError as error:
            raise self._cause() from error
        self.passages += 1

    def remove(self, document: int) -> None:
        """Takes the passages of a document out of the copy. Before anything is added for it."""
        self._writer.delete_documents_by_query(self._term_query(self._schema, "document", document))

    def finish(self) -> None:
        """Writes everything to disk. The builder takes nothing more."""
        self._texts.finish()
        try:
            self._writer.commit()
            self._writer.wait_merging_threads()
        except ValueError as error:
            raise self._cause() from error

    def _cause(self) -> OSError:
        """Why tantivy failed: it says no more than that its thread died, so ask the system for as much room again."""
        try:
            with tempfile.TemporaryFile(dir=self._folder, buffering=0) as file:
                for _ in range(0, self._heap_bytes, _PROBE_BYTES):
                    file.write(bytes(_PROBE_BYTES))
        except OSError as error:
            return error
        return OSError(errno.EIO, "the index could not be written")


def _link(file: Path, to: Path) -> None:
    try:
        os.link(file, to)
    except OSError:  # a file system without links
        shutil.copyfile(file, to)


def index_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of an index's files: tantivy may crash on damaged ones, or misread them."""
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix != ".lock":  # made and removed by whoever opens it
            with path.open("rb") as file:
                whole.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


class IndexReader:
    """An open index. Safe for many threads; stays usable after its folder is renamed or removed."""

    def __init__(self, folder: Path, digest: str, documents: Iterable[int] = ()) -> None:
        """`documents` are the keys of the documents, in the order in which equal scores are given.

        Raises ValueError or OSError unless `folder` holds the index of this digest and tantivy can read it.
        """
        import tantivy

        if index_digest(folder) != digest:
            raise ValueError("the index files are not what was written")
        self._tantivy = tantivy
        index = tantivy.Index.open(str(folder))
        index.register_tokenizer(ANALYSER, spaced_analyser())
        self._schema = index.schema
        self._searcher = index.searcher()
        self._ranks = {key: rank for rank, key in enumerate(documents)}
        self._texts = TextReader(folder)
        self.passages: int = self._searcher.num_docs
        self._searcher.doc_freq("terms", "")  # an index of other fields, made by an older release, is refused here

    def search(self, query: str, top_k: int, per_document: int = 0) -> list[Found]:
        """The best passages by BM25, best first, equal scores in the order of the corpus.

        The query is a set of words, each counted as often as it stands there; it has no operators. A document gives at
        most `per_document` of them (0: no limit) as long as others match too; what it gives beyond that comes last.
        """
        terms = query_terms(query)
        return self._best(self._clauses(terms), top_k, per_document) if terms and self.passages else []

    def search_terms(self, terms: Mapping[str, int], top_k: int) -> list[Found]:
        """The same for terms that are analysed already."""
        return self._best(self._clauses(terms), top_k)

    def search_document(self, document: int, terms: Mapping[str, int], top_k: int) -> list[Found]:
        """The same within one document, for terms that are analysed already."""
        within = self._tantivy.Query.const_score_query(self._of(document), 0.0)
        return self._best([(self._tantivy.Occur.Must, within), *self._clauses(terms)], top_k)

    def document_passages(self, document: int) -> list[Passage]:
        """All passages of a document, in order."""
        hits = self._searcher.search(self._of(document), _DOCUMENT_PASSAGES, count=False).hits
        found = (self._texts.read(place).passage for place in self._values("place", hits))
        return sorted(found, key=lambda passage: passage.ordinal)

    def rarity(self, term: str) -> float:
        """How much a term tells the passages apart: BM25's idf, `ln(1 + (N - n + 0.5) / (n + 0.5))`."""
        holding: int = self._searcher.doc_freq("terms", term)
        return math.log(1 + (self.passages - holding + 0.5) / (holding + 0.5))

    def _of(self, document: int) -> tantivy.Query:
        return self._tantivy.Query.term_query(self._schema, "document", document)

    def _clauses(self, terms: Mapping[str, int]) -> list[tuple[tantivy.Occur, tantivy.Query]]:
        make, should = self._tantivy.Query, self._tantivy.Occur.Should
        clauses = []
        for term, count in terms.items():
            text = make.term_query(self._schema, "terms", term, index_option="freq")
            clauses.append((should, make.boost_query(text, count) if count > 1 else text))
            if self._searcher.doc_freq("title", term):  # asking costs less than a clause that finds nothing
                title = make.term_query(self._schema, "title", term, index_option="freq")
                clauses.append((should, make.boost_query(title, TITLE_BOOST * count)))
        return clauses

    def _best(
        self, clauses: list[tuple[tantivy.Occur, tantivy.Query]], top_k: int, per_document: int = 0
    ) -> list[Found]:
        query = self._tantivy.Query.boolean_query(clauses)
        deep = _DEEPER * top_k if per_document else top_k
        hits = self._ordered(self._searcher.search(query, deep + _TIE_MARGIN, count=False).hits, deep)
        if per_document:  # told before texts are read, which cost more than the search
            hits = [hits[number] for number in _spread(self._values("document", hits), top_k, per_document)]
        places = self._values("place", hits)
        return [Found(*self._texts.read(place), score) for place, (score, _) in zip(places, hits, strict=True)]

    def _values(self, field: str, hits: list[tuple[Any, Any]]) -> list[int]:
        values: Any = self._searcher.fast_field_values(field, [address for _, address in hits])
        return list(values)

    def _ordered(self, hits: list[tuple[Any, Any]], top_k: int) -> list[tuple[Any, Any]]:
        """The best, equal scores in the order of the corpus: what is looked up for that costs as much as the search."""
        scores = [score for score, _ in hits[: top_k + 1]]
        if len(set(scores)) == len(scores):
            return hits[:top_k]
        last = scores[:top_k][-1]
        hits = [hit for hit in hits if hit[0] >= last]
        scores = [score for score, _ in hits]
        keys = zip(self._values("document", hits), self._values("ordinal", hits), strict=True)
        ranks = [(self._ranks.get(document, document), ordinal) for document, ordinal in keys]
        order = sorted(range(len(hits)), key=lambda number: (-scores[number], ranks[number]))
        return [hits[number] for number in order[:top_k]]


def _spread(documents: Sequence[int], top_k: int, per_document: int) -> list[int]:
    """Places of the best `top_k`, those beyond `per_document` of their document last: they come for want of others."""
    taken: Counter[int] = Counter()
    kept: list[int] = []
    surplus: list[int] = []
    for number, document in enumerate(documents):
        taken[document] += 1
        (surplus if taken[document] > per_document else kept).append(number)
    return [*kept, *surplus][:top_k]
