"""Where grounding keeps what its replicas share, and where it finds the files of a corpus that nobody sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from djp.mesh.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from djp_grounding.model import Skipped


class Stored(NamedTuple):
    """A small object's content, and the tag that changes whenever it is written."""

    content: bytes
    tag: str


class StoreAway(Unavailable):
    """The object store does not answer, or refuses."""


class ChangedError(Exception):
    """Somebody else has written the object meanwhile."""


class ObjectStore(Protocol):
    """Objects by name, such as `acme/docs/CURRENT`. All calls block; all raise StoreAway.

    Every adapter passes tests/grounding/test_grounding_store.py.
    """

    def read(self, name: str) -> Stored | None:
        """A small object; None if there is none."""

    def write(self, name: str, content: bytes, expected: str | None) -> str:
        """Write a small object if its tag is still `expected`, or if there is none for None; gives its new tag.

        Of several writers with the same expectation one succeeds. Raises ChangedError for the others.
        """

    def upload(self, name: str, file: Path) -> None:
        """Store a file. The object is whole or not there."""

    def download(self, name: str, file: Path) -> bool:
        """Fetch an object into a new file; False if there is none. What lies in `file` then may be cut or wrong."""

    def names(self, prefix: str) -> Sequence[str]:
        """The names that begin so, sorted."""

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""


class SourceFile(NamedTuple):
    """A file of a source, not read yet: its path below the prefix and its size in bytes.

    `read` gives its content, at most `MAX_FILE_BYTES + 1` bytes; it raises OSError or StoreAway.
    """

    path: str
    size: int
    read: Callable[[], bytes]


class CorpusSource(Protocol):
    """Files that tenants may make corpora from: each has a part of its own. All calls block; all raise StoreAway.

    Both adapters pass tests/grounding/test_grounding_import.py.
    """

    def files(self, tenant: str, prefix: str) -> Iterator[SourceFile | Skipped]:
        """What lies below the folder `prefix` of the tenant's part, with what is left out and why.

        `prefix` has no outer slash and no `..`; empty, it stands for the whole part. Nothing outside of that part is
        ever given, whatever links there are. Raises InvalidInput if there is no such folder, or too much in it.
        """
