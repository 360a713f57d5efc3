"""Mends what is wrong between catalogue and objects: takes objects in, removes left-overs, replaces what is broken."""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from djp_storage.description import describe
from djp_storage.errors import HashMismatch, ObjectMissing
from djp_storage.model import Tier
from djp_storage.worker import new_object_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from djp_storage.model import Artifact, By, ObjectName
    from djp_storage.moves import Moves
    from djp_storage.parts import Parts
    from djp_storage.ports import Catalogue, Inventory, ObjectStore
    from djp_storage.worker import Worker


def mending(parts: Parts) -> Mending:
    """What mends a service's artifacts."""
    return Mending(parts.inventory, parts.catalogue, parts.store, parts.worker, parts.moves)


class Mending:
    """What can be mended. Every change is one that a crash leaves undone or done."""

    def __init__(
        self, inventory: Inventory, catalogue: Catalogue, store: ObjectStore, worker: Worker, moves: Moves
    ) -> None:
        self._catalogue = catalogue
        self._inventory = inventory
        self._store = store
        self._worker = worker
        self._moves = moves

    async def whole(self, artifact: Artifact) -> bool:
        """Whether the artifact's object is there, and all of it is as the catalogue says."""
        try:
            await self._moves.verify(artifact)
        except (HashMismatch, ObjectMissing):
            return False
        return True

    async def adopt(self, artifact: Artifact, by: By) -> bool:
        """Enter an artifact whose object is there already; False if its object is damaged.

        Nothing is announced first: a stray is removed when its maker dies, and this may be the only copy there is.
        """
        if not await self.whole(artifact):
            return False
        await self._inventory.adopt(artifact, by)
        return True

    async def point(self, artifact: Artifact, copy: Artifact, by: By) -> bool:
        """Let an artifact, whose object is broken, be at another object of the same content; False if that is, too."""
        if not await self.whole(copy):
            return False
        in_trash = copy.tier is Tier.TRASH
        now = replace(
            artifact,
            tier=copy.tier,
            object_id=copy.object_id,
            encoding=copy.encoding,
            tier_since=by.at,
            came_from=(artifact.came_from or Tier.HOT) if in_trash else None,
        )
        await self._inventory.point(artifact, now, by)
        await self._worker.discard([artifact.object_name])
        return True

    async def forget(self, artifact: Artifact, by: By) -> None:
        """Take an artifact whose bytes are lost out of the catalogue. Raises LegalHold."""
        await self._inventory.forget(artifact, by)
        await self._worker.discard([artifact.object_name])

    async def replace(self, artifact: Artifact, content: AsyncIterable[bytes], by: By) -> None:
        """Give an artifact, whose object is broken, a new one. Raises HashMismatch for other bytes than its own."""
        now = replace(artifact, object_id=new_object_id(), encoding="")
        async with self._worker.making(now.object_name) as making:
            await self._worker.announce(now.object_name)
            async with self._store.upload(now.object_name) as upload:
                async for chunk in content:
                    if upload.size + len(chunk) > artifact.size:
                        raise HashMismatch(f"there are more than the {artifact.size} bytes of the artifact")
                    await upload.write(chunk)
                if upload.sha256 != artifact.sha256:
                    raise HashMismatch(f"the bytes have hash {upload.sha256}, the artifact has {artifact.sha256}")
                await upload.place(describe(now))
            moved = await self._catalogue.move(artifact, now, "mended", by, None)
            making.kept = moved.object_name == now.object_name
        await self._worker.discard([artifact.object_name])

    async def remove(self, name: ObjectName) -> None:
        """Remove an object of which another, whole one is known."""
        await self._worker.announce(name)
        await self._worker.discard([name])

    async def digest(self, name: ObjectName) -> tuple[int, str]:
        """Size and SHA-256 of an object of which nothing is known."""
        digest, size = hashlib.sha256(), 0
        async with aclosing(self._store.read(name)) as chunks:
            async for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
        return size, digest.hexdigest()
