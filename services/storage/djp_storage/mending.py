"""Mends what is wrong between catalogue and objects: takes objects in, removes left-overs, replaces what is broken."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from djp_storage.description import describe
from djp_storage.errors import HashMismatch
from djp_storage.leftovers import at_copy
from djp_storage.reading import is_whole

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from djp_storage.model import Artifact, By, ObjectName
    from djp_storage.parts import Parts
    from djp_storage.ports import Catalogue, Inventory, ObjectStore
    from djp_storage.worker import Worker


def mending(parts: Parts) -> Mending:
    """What mends a service's artifacts."""
    return Mending(parts.inventory, parts.catalogue, parts.store, parts.worker)


class Mending:
    """What can be mended. Every change is one that a crash leaves undone or done."""

    def __init__(self, inventory: Inventory, catalogue: Catalogue, store: ObjectStore, worker: Worker) -> None:
        self._catalogue = catalogue
        self._inventory = inventory
        self._store = store
        self._worker = worker

    async def whole(self, artifact: Artifact) -> bool:
        """Whether the artifact's object is there, and all of it is as the catalogue says."""
        return await is_whole(self._store, artifact)

    async def rest(self) -> None:
        """Let this process announce anew whatever it makes from now on."""
        self._worker.rest()
        await self._worker.forget()

    async def adopt(self, artifact: Artifact, by: By) -> bool:
        """Enter an artifact whose object is there already; False if its object is damaged.

        It is no stray meanwhile: those are removed when their maker dies, and this may be the only copy there is.
        """
        if not await self.whole(artifact):
            return False
        await self._inventory.adopt(artifact, by)
        return True

    async def point(self, artifact: Artifact, copy: Artifact, by: By) -> bool:
        """Let an artifact, whose object is broken, be at another object of the same content; False if that is, too."""
        if not await self.whole(copy):
            return False
        await self._inventory.point(artifact, at_copy(artifact, copy, by.at), by)
        await self._worker.discard([artifact.object_name])
        return True

    async def forget(self, artifact: Artifact, by: By) -> None:
        """Take an artifact whose bytes are lost out of the catalogue. Raises LegalHold."""
        await self._inventory.forget(artifact, by)
        await self._worker.discard([artifact.object_name])

    async def replace(self, artifact: Artifact, content: AsyncIterable[bytes], by: By) -> None:
        """Give an artifact, whose object is broken, a new one. Raises HashMismatch for other bytes than its own."""
        async with self._worker.making(artifact.tier, artifact.key) as making:
            now = replace(artifact, object_id=making.name.object_id, encoding="")
            async with self._store.upload(now.object_name) as upload:
                async for chunk in content:
                    if upload.size + len(chunk) > artifact.size:
                        raise HashMismatch(f"there are more than the {artifact.size} bytes of the artifact")
                    await upload.write(chunk)
                if upload.sha256 != artifact.sha256:
                    raise HashMismatch(f"the bytes have hash {upload.sha256}, the artifact has {artifact.sha256}")
                await upload.place(describe(now))
            making.kept = None
            moved = await self._catalogue.move(artifact, now, "mended", by, None)
            making.kept = moved.object_name == now.object_name
        await self._worker.discard([artifact.object_name])

    async def remove(self, name: ObjectName) -> None:
        """Remove an object of which another, whole one is known."""
        await self._catalogue.turn_out(name, self._worker.now())
        await self._worker.discard([name])
