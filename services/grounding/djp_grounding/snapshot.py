"""An open version of a corpus: its manifest, its index and its titles, each loaded at first need and then kept."""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING

from djp.llm.tokens import count_tokens
from djp_grounding.errors import CorpusNotFound
from djp_grounding.index import IndexReader
from djp_grounding.model import Document, Hit, Passage
from djp_grounding.resolve import Citation, TitleIndex
from djp_grounding.support import check_support

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from djp_grounding.folder import CorpusFolder
    from djp_grounding.manifest import Manifest

_KEPT = 64
"""So many open versions are kept: each holds its titles in memory, a few file mappings and no copy of the index."""


class Snapshot:
    """One version, immutable. Safe for many threads; usable even after its corpus was deleted."""

    def __init__(self, folder: CorpusFolder, version: str) -> None:
        """Raises CorpusNotFound if the version is damaged."""
        self.version = version
        self.manifest: Manifest = folder.manifest(version)
        self._corpus = folder.corpus
        self._index_path = folder.index_path(version)

    @cached_property
    def _index(self) -> IndexReader:
        try:
            return IndexReader(self._index_path, self.manifest.index, self._documents)
        except (OSError, ValueError):
            message = (
                f"corpus {self._corpus!r}: the index of version {self.version} cannot be opened (damaged, or of another"
                " version of the search library); add the folder again to rebuild it"
            )
            raise CorpusNotFound(message, field="corpus") from None

    @cached_property
    def _documents(self) -> dict[int, Document]:
        return {document.key: document for document in self.manifest.documents}

    @cached_property
    def _titles(self) -> TitleIndex:
        return TitleIndex(self.manifest.documents)

    @property
    def open(self) -> bool:
        """Whether its index is open, so that a search reads nothing else first."""
        return "_index" in self.__dict__

    def search(self, query: str, top_k: int, token_budget: int = 0, per_document: int = 0) -> list[Hit]:
        """The best passages, best first, stopping before they pass `token_budget` tokens together (0: no limit).

        A document gives at most `per_document` of them (0: no limit) as long as others match too. Words that two of
        them share, because they are neighbours, stand in the better one only.
        """
        hits: list[Hit] = []
        tokens = 0
        for one in self._index.search(query, top_k, per_document):
            document = self._documents[one.document]
            passage, given = one.passage, [hit.passage for hit in hits if hit.document is document]
            if given:
                passage = _without_shared(passage, given)
            if token_budget:
                tokens += count_tokens(passage.text)
                if tokens > token_budget:
                    break
            hits.append(Hit(document, passage, one.score))
        return sorted(hits, key=lambda hit: -hit.score) if per_document else hits

    def check_citations(self, text: str) -> list[Citation]:
        """Every citation in `text`: the document of this version it resolves to, if any, and whether that backs it."""
        citations = self._titles.check(text)
        if not any(citation.document for citation in citations):
            return citations
        return check_support(text, citations, self._index)


def _without_shared(passage: Passage, given: Sequence[Passage]) -> Passage:
    """The passage without the words at its edges that its neighbours among those given have."""
    before = max((one.end for one in given if one.ordinal == passage.ordinal - 1), default=0)
    after = min((one.start for one in given if one.ordinal == passage.ordinal + 1), default=passage.end)
    start, end = max(passage.start, before), min(passage.end, after)
    if (start, end) == (passage.start, passage.end):
        return passage
    text = passage.text[start - passage.start : end - passage.start]
    start += len(text) - len(text.lstrip())
    text = text.strip()
    return passage._replace(start=start, end=start + len(text), text=text)


class SnapshotCache:
    """The versions used last, open. Safe for many threads."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[Path, str], Snapshot] = OrderedDict()
        self._lock = Lock()

    def get(self, folder: CorpusFolder, version: str) -> Snapshot:
        """The version, opened if it is not. Raises CorpusNotFound if it is damaged."""
        key = (folder.path, version)
        with self._lock:
            if (found := self._open.get(key)) is not None:
                self._open.move_to_end(key)
                return found
        opened = Snapshot(folder, version)
        with self._lock:
            self._open[key] = opened
            while len(self._open) > _KEPT:
                self._open.popitem(last=False)
        return opened

    def opened(self, folder: CorpusFolder, version: str) -> Snapshot | None:
        """The version if it is open."""
        with self._lock:
            return self._open.get((folder.path, version))

    def forget(self, folder: CorpusFolder) -> None:
        """Lets go of every version of a corpus: it was deleted, or a version of it was rebuilt."""
        with self._lock:
            for key in [key for key in self._open if key[0] == folder.path]:
                del self._open[key]
