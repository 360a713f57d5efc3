"""A tenant's artifacts as one archive, and an archive's artifacts as a tenant's: streams in bounded memory, checked."""

from __future__ import annotations

import hashlib
import uuid
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from djp.mesh.errors import AlreadyExists, DataLoss, DjpError, InvalidInput, NotFound
from djp_storage import archive
from djp_storage.archive import ArchiveReader, BadArchive, Entry
from djp_storage.at_once import AtOnce
from djp_storage.conversion import MAX_OLDER_BYTES, convert
from djp_storage.errors import HashMismatch
from djp_storage.model import Artifact, ArtifactHeader, ArtifactKey, Filter, Tier
from djp_storage.older_artifacts import OLDER_VERSION
from djp_storage.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator

    from djp_storage.artifacts import Artifacts
    from djp_storage.mending import Mending

PROBLEMS_TOLD = 20
_ZEROS = bytes(1 << 20)
_AT_ONCE = 16
_SMALL_BYTES = 1 << 18
"""Artifacts up to this size are taken in several at once, each in memory: they wait for the disk, not for us."""
_OF_ONE_ENTRY = (InvalidInput, AlreadyExists, HashMismatch)
"""What can be wrong with one artifact of an archive; everything else stops the import."""


@dataclass
class Imported:
    """What became of an archive. `problems` tells the first of the refused."""

    imported: int = 0
    unchanged: int = 0
    converted: int = 0
    refused: int = 0
    problems: list[str] = field(default_factory=list)

    def refuse(self, entry: Entry, error: DjpError) -> None:
        """Count an artifact that cannot be taken."""
        self.refused += 1
        if len(self.problems) < PROBLEMS_TOLD:
            self.problems.append(f"{entry.workflow[:200]}/{entry.artifact[:200]}: {error.message}")


class Transfer:
    """Exports and imports. The trash is never in an archive."""

    def __init__(self, artifacts: Artifacts, mending: Mending) -> None:
        self._artifacts = artifacts
        self._mending = mending

    async def export(self, tenant: str) -> AsyncGenerator[bytes, None]:
        """The archive. Artifacts that come while it is made may be in it or not; all that were there are.

        Raises DataLoss, after the whole archive, when bytes of some artifacts could not be had: zeros stand for them,
        and an import refuses these artifacts by their hash.
        """
        yield archive.head(tenant, datetime.now(UTC))
        number = size = part = 0
        damaged: list[str] = []
        async for page in self._pages(tenant):
            part += 1
            yield archive.manifest(part, [_entry(artifact) for artifact in page])
            for artifact in page:
                number += 1
                size += artifact.size
                yield archive.object_header(number, artifact.size)
                left = artifact.size
                try:
                    async with aclosing(self._artifacts.read(artifact)) as chunks:
                        async for chunk in chunks:
                            left -= len(chunk)
                            yield chunk
                except (DataLoss, NotFound) as error:
                    damaged.append(error.message)
                while left:
                    zeros = _ZEROS[:left]
                    left -= len(zeros)
                    yield zeros
                yield archive.padding(artifact.size)
        yield archive.end(number, size)
        if damaged:
            raise DataLoss(
                f"{len(damaged)} of {number} artifacts could not be read, zeros stand for them; the archive has "
                f"all the others whole. The first: {damaged[0]}"
            )

    async def _pages(self, tenant: str) -> AsyncIterator[list[Artifact]]:
        """The artifacts, so many at a time as a manifest may have."""
        token = ""
        while True:
            page = await self._artifacts.list(
                tenant, Filter(), size=archive.ARTIFACTS_A_MANIFEST, token=token, largest_first=False
            )
            kept, size = list[Artifact](), 0
            for artifact in page.artifacts:
                if artifact.tier is Tier.TRASH:
                    continue
                kept.append(artifact)
                size += len(_entry(artifact).line())
                if size > archive.MAX_MANIFEST_BYTES // 2:  # what is left is room for any line
                    yield kept
                    kept, size = [], 0
            if kept:
                yield kept
            if not (token := page.next_page_token):
                return

    async def take_in(self, tenant: str, request_id: str, chunks: AsyncIterator[bytes]) -> Imported:
        """Import an archive: into the hot tier, with the times of creation that it has.

        What is there already and whole stays as it is, so an import that broke off goes on where it was when the same
        archive comes again. What is there and damaged gets its bytes back. An artifact that is refused (another one has
        its name, its hash is wrong, its name is none) does not stop the others.

        Raises BadArchive for what is no archive, or ends too early; what was taken in before stays.
        """
        told, at_once = Imported(), AtOnce(_AT_ONCE)
        reader = ArchiveReader(chunks)
        await reader.head()
        async with aclosing(reader.entries()) as entries, at_once:
            async for entry in entries:
                # The archive tells an artifact's hash before its bytes, so what is known already is not written again.
                request = str(uuid.uuid5(uuid.UUID(request_id), f"{entry.workflow}/{entry.artifact}"))
                if entry.size > _SMALL_BYTES:
                    await self._entry(tenant, request, entry, reader.content(), told)
                else:
                    content = _once(b"".join([chunk async for chunk in reader.content()]))
                    await at_once.start(self._entry(tenant, request, entry, content, told))
        return told

    async def _entry(
        self, tenant: str, request_id: str, entry: Entry, content: AsyncIterator[bytes], told: Imported
    ) -> None:
        try:
            if entry.from_schema:
                await self._convert(tenant, request_id, entry, content, told)
            else:
                await self._take(tenant, request_id, entry, content, told)
        except BadArchive:
            raise
        except _OF_ONE_ENTRY as error:
            told.refuse(entry, error)

    async def _take(
        self, tenant: str, request_id: str, entry: Entry, content: AsyncIterator[bytes], told: Imported
    ) -> None:
        header = _header(tenant, entry)
        if found := await self._known(header.key):
            if not _same(found, header):
                raise AlreadyExists("the tenant has another artifact of this name; it stays as it is")
            if await self._mending.whole(found):
                await _checked(content, entry)
                told.unchanged += 1
                return
            await self._mending.replace(found, content, self._artifacts.by("import of an archive that has it whole"))
            told.imported += 1
            return
        await self._artifacts.put(header, request_id, content)
        told.imported += 1

    async def _convert(
        self, tenant: str, request_id: str, entry: Entry, content: AsyncIterator[bytes], told: Imported
    ) -> None:
        if entry.from_schema != OLDER_VERSION:
            raise InvalidInput(f"from_schema: {entry.from_schema[:40]!r} is unknown; {OLDER_VERSION!r} is known")
        if entry.size > MAX_OLDER_BYTES:
            raise InvalidInput(f"has {entry.size} bytes; a run artifact of schema {OLDER_VERSION} has less")
        raw = await _checked(content, entry, keep=True)
        older = await in_thread(lambda: convert(raw, tenant=tenant, workflow=entry.workflow))
        header = ArtifactHeader(
            key=ArtifactKey(tenant, entry.workflow, f"{older.run_id}.json"),
            content_type="application/json",
            sha256=hashlib.sha256(older.content).hexdigest(),
            run_id=older.run_id,
            tags={"converted_from": OLDER_VERSION, "file": entry.artifact, "status": older.status},
            created_at=older.created_at,
        )
        if await self._known(header.key):  # the run's id is made of the file's hash, so it is this file
            told.unchanged += 1
            return
        await self._artifacts.put(header, request_id, _once(older.content))
        told.converted += 1

    async def _known(self, key: ArtifactKey) -> Artifact | None:
        try:
            found = await self._artifacts.stat(key)
        except NotFound:
            return None
        return found if found.tier is not Tier.TRASH else None


def _entry(artifact: Artifact) -> Entry:
    return Entry(
        workflow=artifact.key.workflow,
        artifact=artifact.key.artifact,
        size=artifact.size,
        sha256=artifact.sha256,
        tier=artifact.tier.value,
        content_type=artifact.content_type,
        run_id=artifact.run_id,
        tags=artifact.tags,
        created_at=artifact.created_at,
    )


def _header(tenant: str, entry: Entry) -> ArtifactHeader:
    return ArtifactHeader(
        key=ArtifactKey(tenant, entry.workflow, entry.artifact),
        content_type=entry.content_type,
        sha256=entry.sha256,
        run_id=entry.run_id,
        tags=entry.tags,
        created_at=entry.created_at,
    )


def _same(found: Artifact, header: ArtifactHeader) -> bool:
    return found.same_content(
        replace(
            found, sha256=header.sha256, content_type=header.content_type, run_id=header.run_id, tags=dict(header.tags)
        )
    )


async def _checked(content: AsyncIterable[bytes], entry: Entry, *, keep: bool = False) -> bytes:
    """The bytes, if they are to be kept. Raises HashMismatch unless they are those that the manifest announced."""
    digest, kept = hashlib.sha256(), []
    async for chunk in content:
        await in_thread(digest.update, chunk)
        if keep:
            kept.append(chunk)
    if digest.hexdigest() != entry.sha256:
        raise HashMismatch(f"its manifest says hash {entry.sha256[:64]}, its bytes have {digest.hexdigest()}")
    return b"".join(kept)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
