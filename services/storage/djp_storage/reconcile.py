"""Compares the catalogue with the objects and mends what differs: the objects are the truth, the catalogue an index."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from djp.mesh.errors import DjpError
from djp_storage.errors import LegalHold, ObjectMissing
from djp_storage.model import Artifact, Tier
from djp_storage.object_names import names_of
from djp_storage.reading import described

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from djp_storage.mending import Mending
    from djp_storage.model import ArtifactKey, By, ObjectName, Stored
    from djp_storage.ports import Catalogue, Inventory, ObjectStore

_BATCH = 500
_AT_ONCE = 16
_SUSPECTS = 10_000
"""So many objects of wrong sizes are remembered until all copies are known; `verify` finds the others."""

NO_ROW = "object without an artifact"
TWO_COPIES = "second copy"
ERASED = "object of an erased artifact"
MOVED = "artifact at another object"
NO_OBJECT = "artifact without its object"
WRONG = "wrong hash"
FOREIGN = "object of another kind"
OTHER = "other content under an artifact's name"

_FROM_BACKUP = "no whole copy was found; `djp storage import` of an archive that has it brings it back"


@dataclass(frozen=True)
class Difference:
    """Something that is not as it should be, where, whether it is now, and why not."""

    location: str
    what: str
    mended: bool = False
    error: str = ""


@dataclass
class Compared:
    """How far it is."""

    objects: int = 0
    artifacts: int = 0
    differences: int = 0
    mended: int = 0


class Reconciliation:
    """One comparison. Memory is bounded; everything else may go on meanwhile, other reconciliations too.

    What moves while it is compared is looked at again before it is called a difference.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        inventory: Inventory,
        store: ObjectStore,
        mending: Mending,
        by: Callable[[str], By],
        *,
        mend: bool,
        verify: bool,
        forget_lost: bool,
    ) -> None:
        """With `verify` every object is read and its hash compared. `by` makes who did it of a reason.

        With `mend` and `forget_lost` nothing is kept of artifacts whose bytes are lost.
        """
        self._catalogue = catalogue
        self._inventory = inventory
        self._store = store
        self._mending = mending
        self._by = by
        self._mend = mend
        self._verify = verify
        self._forget = mend and forget_lost
        self._suspects: set[ArtifactKey] = set()
        self.compared = Compared()

    async def run(self) -> AsyncGenerator[Difference | None, None]:
        """The differences as they are found; None now and then, so that it can be told how far it is.

        First every object is looked for in the catalogue, then every artifact among the objects. What the first pass
        has mended is no difference in the second, and nothing is given up before all copies of it were looked at.
        Batches of which nothing is being made end before: what is in them is not on its way.
        """
        await self._mending.rest()
        for tier in Tier:
            async with aclosing(self._store.objects(tier)) as objects:
                batch: list[Stored] = []
                async for stored in objects:
                    batch.append(stored)
                    if len(batch) == _BATCH:
                        for found in await self._objects(batch):
                            yield self._counted(found)
                        yield None
                        batch = []
            for found in await self._objects(batch):
                yield self._counted(found)
        last = None
        while page := await self._inventory.after(last, _BATCH):
            for found in await self._artifacts(page):
                yield self._counted(found)
            last = page[-1].key
            yield None
        yield None

    def _counted(self, found: Difference) -> Difference:
        self.compared.differences += 1
        self.compared.mended += found.mended
        return found

    async def _objects(self, batch: Sequence[Stored]) -> list[Difference]:
        self.compared.objects += len(batch)
        names = {stored: names_of(stored.tier, stored.path) for stored in batch}
        rows = await self._inventory.find([name.key for of_one in names.values() for name in of_one])
        strange = []
        for stored in batch:
            row = next((rows[name.key] for name in names[stored] if self._is_at(rows.get(name.key), stored)), None)
            if row is None:
                strange.append(stored)
            else:
                self._suspect(row, stored)
        return [found for stored in strange if (found := await self._told(self._strange, stored)) is not None]

    def _suspect(self, row: Artifact, stored: Stored) -> None:
        """Remember an artifact whose object has a wrong size: what it is to become depends on its other copies."""
        if not row.encoding and stored.size != row.size and len(self._suspects) < _SUSPECTS:
            self._suspects.add(row.key)

    def _is_at(self, row: Artifact | None, stored: Stored) -> bool:
        return row is not None and row.tier is stored.tier and self._store.path(row.object_name) == stored.path

    async def _told(self, look: Callable[..., object], one: Stored | Artifact) -> Difference | None:
        """What looking found; an error of one thing does not stop the others."""
        try:
            return await look(one)  # type: ignore[misc,no-any-return]
        except DjpError as error:
            where = f"{one.tier}/{one.path}" if not isinstance(one, Artifact) else self._place(one.object_name)
            return Difference(where, "cannot be compared", error=error.message)

    async def _strange(self, stored: Stored) -> Difference | None:
        """An object that is not where an artifact was a moment ago."""
        try:
            artifact = await described(self._store, stored)
            if artifact is None:
                return Difference(
                    f"{stored.tier}/{stored.path}", FOREIGN, error="it is none of ours; take it away by hand"
                )
            name, where = artifact.object_name, self._place(artifact.object_name)
            if await self._catalogue.known([name]):
                return None  # on its way in or out
            row = (await self._inventory.find([artifact.key])).get(artifact.key)
            if row is not None and row.object_name == name:
                self._suspect(row, stored)
                return None
            # What was on its way may have arrived between the two questions.
            await self._store.description(stored.tier, stored.path)
            if await self._catalogue.known([name]):
                return None
        except ObjectMissing:
            return None
        if row is None:
            return await self._without_row(artifact, where)
        if row.sha256 != artifact.sha256:
            return Difference(where, OTHER, error="the artifact stays as it is; take the object away by hand")
        return await self._second(row, artifact, where)

    async def _without_row(self, artifact: Artifact, where: str) -> Difference:
        erased = await self._inventory.erased(artifact.key)
        if erased and erased != artifact.sha256:
            return Difference(where, OTHER, error="that artifact was erased; take the object away by hand")
        what = ERASED if erased else NO_ROW
        if not self._mend:
            return Difference(where, what)
        if erased:
            await self._mending.remove(artifact.object_name)
            return Difference(where, what, mended=True)
        mended = await self._mending.adopt(artifact, self._by(f"reconcile: {what}"))
        if not mended and self._forget:
            await self._mending.remove(artifact.object_name)
            mended = True
        return Difference(where, what, mended, "" if mended else "its bytes are damaged")

    async def _second(self, row: Artifact, copy: Artifact, where: str) -> Difference:
        if await self._mending.whole(row):
            if self._mend:
                await self._mending.remove(copy.object_name)
            return Difference(where, TWO_COPIES, mended=self._mend)
        mended = self._mend and await self._mending.point(row, copy, self._by(f"reconcile: {MOVED}"))
        return Difference(where, MOVED, mended, "" if mended or not self._mend else _FROM_BACKUP)

    async def _artifacts(self, page: Sequence[Artifact]) -> list[Difference]:
        self.compared.artifacts += len(page)
        room = asyncio.Semaphore(_AT_ONCE)

        async def look(artifact: Artifact) -> Difference | None:
            async with room:
                return await self._told(self._missing, artifact)

        return [found for found in await asyncio.gather(*map(look, page)) if found is not None]

    async def _missing(self, artifact: Artifact) -> Difference | None:
        """An artifact whose object is not there, or, if that is doubtful, is not whole."""
        try:
            await self._store.description(artifact.tier, self._store.path(artifact.object_name))
        except ObjectMissing:
            pass
        else:
            suspect = self._verify or artifact.key in self._suspects
            return await self._damaged(artifact) if suspect else None
        now = (await self._inventory.find([artifact.key])).get(artifact.key)
        if now is None or now.object_name != artifact.object_name:
            return None  # it has moved
        return await self._lost(artifact, NO_OBJECT)

    async def _damaged(self, artifact: Artifact) -> Difference | None:
        if await self._mending.whole(artifact):
            return None
        now = (await self._inventory.find([artifact.key])).get(artifact.key)
        if now is None or now.object_name != artifact.object_name:
            return None
        return await self._lost(artifact, WRONG)

    async def _lost(self, artifact: Artifact, what: str) -> Difference:
        where = self._place(artifact.object_name)
        if not self._forget:
            return Difference(where, what, error=_FROM_BACKUP)
        try:
            await self._mending.forget(artifact, self._by(f"reconcile: {what}"))
        except LegalHold as error:
            return Difference(where, what, error=error.message)
        return Difference(where, what, mended=True)

    def _place(self, name: ObjectName) -> str:
        key = name.key
        return f"{key.tenant} {key.workflow}/{key.artifact} at {self._store.location(name)}"
