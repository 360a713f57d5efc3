"""The words of grounding: documents, passages, hits and versions, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class Skipped:
    """A file that is not in the corpus, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Extracted:
    """The text of one file.

    `title` is what the file itself says it is called, or empty. `pages` holds the offset in code points at which each
    page starts, or nothing for a file without pages. `body` is the offset at which the text proper starts, after front
    matter.
    """

    text: str
    title: str = ""
    pages: tuple[int, ...] = ()
    body: int = 0


@dataclass(frozen=True)
class Document:
    """A file of a corpus version. The id depends on the path alone, so it is the same in every version.

    `stated` is the title that the file states, or empty; `title` is made of it, and no other document has it.
    """

    document_id: str
    title: str
    stated: str
    path: str
    sha256: str
    bytes: int
    pages: int
    passages: int

    @property
    def key(self) -> int:
        """The id as the number under which the index knows the document."""
        return int(self.document_id, 16)


class Passage(NamedTuple):
    """A piece of a document: `text` is the document's extracted text from `start` to `end`, in code points.

    `page` is 1-based for files with pages and 0 otherwise. `ordinal` counts the passages of the document from 0.
    """

    ordinal: int
    page: int
    start: int
    end: int
    text: str


def passage_id(document: Document, passage: Passage) -> str:
    """Names a passage inside its version."""
    return f"{document.document_id}:{passage.ordinal}"


class Hit(NamedTuple):
    """A passage that a search found, with its document and its BM25 score."""

    document: Document
    passage: Passage
    score: float

    @property
    def passage_id(self) -> str:
        """Names the passage inside its version."""
        return passage_id(self.document, self.passage)


@dataclass(frozen=True)
class Version:
    """An immutable snapshot of a corpus. `bytes` is the size of the files it was made from."""

    corpus: str
    version: str
    documents: int
    passages: int
    bytes: int
    created_at: datetime
    current: bool


@dataclass(frozen=True)
class Created:
    """The answer to a creation. `reused` says that the version was there already and nothing was built."""

    version: Version
    skipped: tuple[Skipped, ...] = field(default=())
    reused: bool = False
