"""Moving artifacts from tier to tier: copy, verify, change the catalogue, remove; a crash in between loses nothing."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from djp.mesh.errors import FailedPrecondition, InvalidInput, NotFound, Unavailable
from djp_storage.compression import ZSTD, encoded
from djp_storage.description import describe
from djp_storage.errors import LegalHold, Moved, ObjectMissing
from djp_storage.model import Tier
from djp_storage.reading import content, verify

if TYPE_CHECKING:
    from collections.abc import Callable

    from djp_storage.model import Artifact, ArtifactKey, By, RequestKey
    from djp_storage.ports import Catalogue, ObjectStore
    from djp_storage.worker import Worker

_TRIES = 5  # of a request, while others move the same artifact


class Moves:
    """What moves artifacts, by request or by the lifecycle. With `compress`, warm and cold objects are zstd."""

    def __init__(self, catalogue: Catalogue, store: ObjectStore, worker: Worker, *, compress: bool) -> None:
        self._catalogue = catalogue
        self._store = store
        self._worker = worker
        self._compress = compress

    async def restore(
        self, key: ArtifactKey, from_tier: Tier | None, to_tier: Tier | None, by: By, request: RequestKey
    ) -> Artifact:
        """Move an artifact to a tier, the hot one unless told; `from_tier` is where it must be, if told.

        Raises NotFound, InvalidInput, FailedPrecondition (it is in the trash, or in another tier).
        """
        to_tier = to_tier or Tier.HOT
        if to_tier is Tier.TRASH:
            raise InvalidInput("to_tier: the trash is for PurgeArtifact; name hot, warm or cold", field="to_tier")

        def target(artifact: Artifact) -> tuple[Tier, str]:
            if artifact.tier is Tier.TRASH:
                raise FailedPrecondition("the artifact is in the trash; bring it back with UndeleteArtifact")
            if from_tier not in (None, artifact.tier) and artifact.tier is not to_tier:
                raise FailedPrecondition(
                    f"from_tier: the artifact is not in {from_tier} but in {artifact.tier}; name that, or none"
                )
            tiers = list(Tier)
            colder = tiers.index(to_tier) > tiers.index(artifact.tier)
            return to_tier, f"promoted_to_{to_tier}" if colder else f"restored_from_{artifact.tier}"

        return await self._asked(key, target, by, request)

    async def purge(self, key: ArtifactKey, by: By, request: RequestKey) -> Artifact:
        """Move an artifact to the trash. Raises NotFound, LegalHold."""
        return await self._asked(key, lambda artifact: (Tier.TRASH, f"purged_from_{artifact.tier}"), by, request)

    async def undelete(self, key: ArtifactKey, by: By, request: RequestKey) -> Artifact:
        """Bring an artifact back to the tier from which it went to the trash; elsewhere it stays. Raises NotFound."""

        def target(artifact: Artifact) -> tuple[Tier, str]:
            in_trash = artifact.tier is Tier.TRASH
            return (artifact.came_from or Tier.HOT) if in_trash else artifact.tier, "undeleted"

        return await self._asked(key, target, by, request)

    async def _asked(
        self, key: ArtifactKey, target: Callable[[Artifact], tuple[Tier, str]], by: By, request: RequestKey
    ) -> Artifact:
        known, artifact = await self._catalogue.answered(request, key)
        if known is not None:
            return known
        tries = 0
        while True:
            tier, action = target(artifact)
            if tier is artifact.tier:
                return await self._catalogue.answer(request, artifact, by)
            try:
                return await self.move(artifact, tier, action, by, request)
            except Moved:  # by somebody else, since the catalogue was asked
                tries += 1
                before, artifact = artifact, await self._catalogue.get(key)
                if tries == _TRIES or artifact.object_name == before.object_name:
                    raise

    async def move(
        self, artifact: Artifact, tier: Tier, action: str, by: By, request: RequestKey | None = None
    ) -> Artifact:
        """Move an artifact from where the catalogue last had it.

        Raises Moved when it is elsewhere, LegalHold, HashMismatch and ObjectMissing when its object is damaged or gone
        (it stays as it is), and what the store and the database raise.
        """
        if tier is Tier.TRASH and (artifact.hold or artifact.key.tenant in await self._catalogue.held_tenants()):
            raise LegalHold.of(artifact.key, whole_tenant=not artifact.hold)
        async with self._worker.making(tier, artifact.key) as making:
            now = replace(
                artifact,
                tier=tier,
                object_id=making.name.object_id,
                encoding=self._encoding(artifact, tier),
                tier_since=by.at,
                came_from=artifact.tier if tier is Tier.TRASH else None,
            )
            try:
                await self._copy(artifact, now)
            except ObjectMissing:
                if await self._was_moved(artifact):
                    raise Moved(artifact) from None
                raise
            try:
                await verify(self._store, now)
            except ObjectMissing:  # the copy, not the artifact
                raise Unavailable(
                    "it took so long that the copy was taken for left over and removed; try again"
                ) from None
            making.kept = None
            moved = await self._catalogue.move(artifact, now, action, by, request)
            making.kept = moved.object_name == now.object_name
        if making.kept:
            await self._worker.discard([artifact.object_name])
        return moved

    async def erase(self, artifact: Artifact, by: By) -> None:
        """Leave nothing of an artifact but a tombstone. Raises Moved, LegalHold."""
        await self._catalogue.erase(artifact, by)
        await self._worker.discard([artifact.object_name])

    async def _was_moved(self, artifact: Artifact) -> bool:
        try:
            return (await self._catalogue.get(artifact.key)).object_name != artifact.object_name
        except NotFound:
            return True  # erased meanwhile

    def _encoding(self, artifact: Artifact, tier: Tier) -> str:
        if tier is Tier.TRASH:
            return artifact.encoding
        return ZSTD if self._compress and tier in (Tier.WARM, Tier.COLD) else ""

    async def _copy(self, artifact: Artifact, now: Artifact) -> None:
        if artifact.encoding == now.encoding:
            await self._store.copy(artifact.object_name, now.object_name, describe(now))
            return
        async with self._store.upload(now.object_name) as upload:
            async with aclosing(encoded(content(self._store, artifact), now.encoding)) as chunks:
                async for chunk in chunks:
                    await upload.write(chunk)
            await upload.place(describe(now))
