"""Reads objects, checked: their content, whether they are whole, and what artifact they say they are of."""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from typing import TYPE_CHECKING

from djp_storage.compression import decoded
from djp_storage.description import read_description
from djp_storage.errors import HashMismatch, ObjectMissing
from djp_storage.model import Artifact
from djp_storage.object_names import id_of, names_of
from djp_storage.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from djp_storage.model import ObjectName, Stored
    from djp_storage.ports import ObjectStore

_INLINE = 1 << 16  # hashing so little takes less than going to a thread
_AT_ONCE = 4 << 20  # a thread that hashes more at a time gets less in the way of the loop


async def content(store: ObjectStore, artifact: Artifact) -> AsyncGenerator[bytes, None]:
    """An artifact's content, the last chunk only after all has proved to have the artifact's hash.

    Raises HashMismatch, ObjectMissing.
    """
    digest, size, held = hashlib.sha256(), 0, b""
    unhashed: list[bytes] = []
    hashed = 0
    async with aclosing(decoded(store.read(artifact.object_name), artifact.encoding)) as chunks:
        async for chunk in chunks:
            size += len(chunk)
            if size > artifact.size:
                break
            if held:
                yield held
            held = chunk
            unhashed.append(chunk)
            if size - hashed >= _AT_ONCE:
                await in_thread(_hash, digest, unhashed)
                unhashed, hashed = [], size
    if size - hashed < _INLINE:
        _hash(digest, unhashed)
    else:
        await in_thread(_hash, digest, unhashed)
    if size != artifact.size or digest.hexdigest() != artifact.sha256:
        raise HashMismatch(
            f"{store.location(artifact.object_name)} was changed since it was stored: its hash is not that "
            "of the catalogue; bring it back from a backup"
        )
    if held:
        yield held


def _hash(digest: hashlib._Hash, chunks: Sequence[bytes]) -> None:
    for chunk in chunks:
        digest.update(chunk)


async def verify(store: ObjectStore, artifact: Artifact) -> None:
    """Read an artifact's object. Raises HashMismatch, ObjectMissing."""
    async with aclosing(content(store, artifact)) as chunks:
        async for _ in chunks:
            pass


async def is_whole(store: ObjectStore, artifact: Artifact) -> bool:
    """Whether the artifact's object is there, and all of it is as the artifact says."""
    try:
        await verify(store, artifact)
    except (HashMismatch, ObjectMissing):
        return False
    return True


async def described(store: ObjectStore, stored: Stored) -> Artifact | None:
    """The artifact of an object: as its description says, else, of the first release, as its path and bytes do.

    None for an object that is none of ours. Raises ObjectMissing.
    """
    text = await store.description(stored.tier, stored.path)
    artifact = read_description(text, stored.tier, id_of(stored.path), stored.modified_at) if text else None
    if artifact is None:
        if not (names := names_of(stored.tier, stored.path)):
            return None
        size, sha256 = await _digest(store, names[0])
        artifact = Artifact(
            key=names[0].key,
            tier=stored.tier,
            size=size,
            sha256=sha256,
            content_type="",
            run_id="",
            tags={},
            created_at=stored.modified_at,
            modified_at=stored.modified_at,
            tier_since=stored.modified_at,
            object_id=names[0].object_id,
        )
    return artifact if store.path(artifact.object_name) == stored.path else None


async def _digest(store: ObjectStore, name: ObjectName) -> tuple[int, str]:
    """Size and SHA-256 of an object of which nothing is known."""
    digest, size = hashlib.sha256(), 0
    async with aclosing(store.read(name)) as chunks:
        async for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()
