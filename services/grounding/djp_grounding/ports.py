"""What several replicas of grounding share: a store of objects whose small ones can be written on a condition."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from djp.mesh.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


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
