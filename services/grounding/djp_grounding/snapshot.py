"""An open version of a corpus: its manifest, its index and its titles, each loaded at first need and then kept."""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING

from djp_grounding.errors import CorpusNotFound
from djp_grounding.index import IndexReader
from djp_grounding.model import Document, Hit
from djp_grounding.resolve import Citation, TitleIndex
from djp_grounding.support import check_support

if TYPE_CHECKING:
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

    def search(self, query: str, top_k: int, token_budget: int) -> list[Hit]:
        """The best passages, best first, stopping before they pass `token_budget` tokens together (0: no limit)."""
        hits: list[Hit] = []
        tokens = 0
        for found in self._index.search(query, top_k):
            tokens += estimated_tokens(found.passage.text)
            if token_budget and tokens > token_budget:
                break
            hits.append(Hit(self._documents[found.document], found.passage, found.score))
        return hits

    def check_citations(self, text: str) -> list[Citation]:
        """Every citation in `text`: the document of this version it resolves to, if any, and whether that backs it."""
        citations = self._titles.check(text)
        if not any(citation.document for citation in citations):
            return citations
        return check_support(text, citations, self._index)


def estimated_tokens(text: str) -> int:
    """Tokens a text takes in a prompt: one for each four bytes of UTF-8, rounded up, the usual rule for English."""
    return -(-len(text.encode()) // 4)


class SnapshotCache:
    """The versions used last, open. Safe for many threads."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, Snapshot] = OrderedDict()
        self._lock = Lock()

    def get(self, folder: CorpusFolder, version: str) -> Snapshot:
        """The version, opened if it is not. Raises CorpusNotFound if it is damaged."""
        key = folder.index_path(version)
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

    def forget(self, folder: CorpusFolder) -> None:
        """Lets go of every version of a corpus: it was deleted, or a version of it was rebuilt."""
        with self._lock:
            for key in [key for key in self._open if key.is_relative_to(folder.path)]:
                del self._open[key]
