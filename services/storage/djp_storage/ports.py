"""What storage needs: a place that keeps bytes, and a catalogue of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from djp_storage.model import Artifact, ArtifactKey, Filter, ObjectName, Page, Total


class Upload(Protocol):
    """Bytes on their way in, under no name yet."""

    @property
    def size(self) -> int:
        """Bytes written so far."""

    @property
    def sha256(self) -> str:
        """Hex, of the bytes written so far."""

    async def write(self, chunk: bytes) -> None:
        """Append bytes. Raises DiskFull."""

    async def flush(self) -> None:
        """Return when the bytes survive a power cut. Raises DiskFull."""

    async def place(self, name: ObjectName) -> None:
        """Give the flushed bytes their name, all at once; return when that survives a power cut.

        Whatever else lies under that name is set aside, never overwritten. Two places of one name at the same time
        are for the caller to keep apart. Raises DiskFull.
        """


class ObjectStore(Protocol):
    """Objects by name, written once and whole. Memory is bounded both ways, whatever the size.

    Every adapter passes tests/storage/test_storage_store.py.
    """

    def upload(self) -> AbstractAsyncContextManager[Upload]:
        """Take bytes in; those that were not placed when the block ends are gone."""

    def read(self, name: ObjectName) -> AsyncGenerator[bytes, None]:
        """The object in chunks; an empty object has none. Raises ObjectMissing."""

    def location(self, name: ObjectName) -> str:
        """Where the object is, for people: a file path or an address."""

    async def clean(self) -> int:
        """Remove what uploads of dead processes left behind; returns how many there were."""


class Catalogue(Protocol):
    """Which artifacts there are. What it says exists has its object; an object that it does not know is nobody's."""

    async def add(self, artifact: Artifact, request_id: str, place: Callable[[], Awaitable[None]]) -> Artifact:
        """Enter a new artifact, or find the same one entered before; returns what the catalogue now has.

        `place` puts the object where it belongs. It is called only when the key is free, and while nobody else can
        take it: so the object of an artifact is never replaced. The artifact is in the catalogue once `place` has
        returned and this has; before that nobody sees it.

        Raises:
            AlreadyExists: the key has another artifact.
            RequestIdReused: the request_id came with another artifact.
        """

    async def get(self, key: ArtifactKey) -> Artifact:
        """Raises NotFound."""

    async def list(self, tenant: str, wanted: Filter, *, size: int, token: str, largest_first: bool) -> Page:
        """A page of at most `size` artifacts, newest or largest first. Raises InvalidInput for a bad token."""

    async def totals(self, tenant: str, *, by_workflow: bool) -> Sequence[Total]:
        """What each tier holds, or each workflow in it; nothing for what is empty."""
