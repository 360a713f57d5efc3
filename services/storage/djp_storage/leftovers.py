"""What is left of a batch that belongs to nobody: objects that their maker did not enter, or did not hear of.

They are treated as Reconcile does, for nothing tells an object that was never entered from one whose entry was lost, as
with a catalogue that was brought back from a backup: a whole object that is an artifact's only one is kept.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from djp_storage.errors import ObjectMissing
from djp_storage.model import By, Stored, Tier
from djp_storage.reading import described, is_whole

if TYPE_CHECKING:
    from datetime import datetime

    from djp_storage.model import Artifact, ObjectName
    from djp_storage.ports import Catalogue, Inventory, ObjectStore


class Leftovers:
    """Finds and settles them. Any number of processes may do so at once."""

    def __init__(self, catalogue: Catalogue, inventory: Inventory, store: ObjectStore) -> None:
        self._catalogue = catalogue
        self._inventory = inventory
        self._store = store

    async def settle(self, batch: ObjectName, now: datetime) -> None:
        """Let every object of the batch be an artifact's, or remove it. What fails may be done again."""
        made = await self._store.made(batch)
        kept = {self._store.path(one) for one in await self._catalogue.kept(made)}
        for name in made:
            if self._store.path(name) not in kept:
                await self._settle(name, now)

    async def _settle(self, name: ObjectName, now: datetime) -> None:
        await self._store.abandon(name)
        try:
            object_ = await described(self._store, Stored(name.tier, self._store.path(name), 0, now))
        except ObjectMissing:  # there is a part of it only
            await self._store.remove(name)
        else:
            if object_ and not await self._became_an_artifacts(object_, now):
                await self._store.remove(name)

    async def _became_an_artifacts(self, object_: Artifact, now: datetime) -> bool:
        """False if it can be removed."""
        row = (await self._inventory.find([object_.key])).get(object_.key)
        by = By("storage", "its maker did not enter it", now)
        if row is None:
            if await self._inventory.erased(object_.key):
                return False
            if not await is_whole(self._store, object_):
                return True  # what is damaged is not to be lost before somebody has looked at it
            await self._inventory.adopt(object_, by)
            return await self._became_an_artifacts(object_, now)  # unless another one was entered meanwhile
        if row.object_name == object_.object_name:
            return True
        if row.sha256 != object_.sha256 or await is_whole(self._store, row):
            return False
        if await is_whole(self._store, object_):
            await self._inventory.point(row, at_copy(row, object_, now), by)
        return True


def at_copy(artifact: Artifact, copy: Artifact, now: datetime) -> Artifact:
    """The artifact, whose object is broken, at another object of the same content."""
    in_trash = copy.tier is Tier.TRASH
    return replace(
        artifact,
        tier=copy.tier,
        object_id=copy.object_id,
        encoding=copy.encoding,
        tier_since=now,
        came_from=(artifact.came_from or Tier.HOT) if in_trash else None,
    )
