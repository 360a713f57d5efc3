"""Putting artifacts in, durable and checked, and getting them out, checked again."""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from djp.mesh.errors import InvalidInput
from djp_storage.errors import HashMismatch
from djp_storage.model import Artifact, Tier
from djp_storage.names import label_violations, name_violations, refuse
from djp_storage.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Sequence

    from djp_storage.model import ArtifactHeader, ArtifactKey, Filter, Page, Total
    from djp_storage.ports import Catalogue, ObjectStore


class Artifacts:
    """Every tenant's artifacts: the catalogue says which there are, the store has their bytes."""

    def __init__(self, catalogue: Catalogue, store: ObjectStore, *, max_bytes: int) -> None:
        """`max_bytes` is the most that one artifact may have."""
        self._catalogue = catalogue
        self._store = store
        self._max_bytes = max_bytes

    async def put(self, header: ArtifactHeader, request_id: str, chunks: AsyncIterable[bytes]) -> Artifact:
        """Take an artifact in; when this returns it survives a power cut. The same artifact again changes nothing.

        The order: bytes durable in a temporary file; hash checked; then, in one transaction, the key claimed and the
        file renamed into place; commit. A crash before the commit leaves nothing to be seen, one after it a whole
        artifact.

        Raises:
            InvalidInput: a name or a label is bad, or there are too many bytes.
            HashMismatch: the bytes are not those the header announced.
            AlreadyExists: the key has another artifact.
            RequestIdReused: the request_id came with another artifact.
            DiskFull: there is no room.
        """
        check_header(header)
        async with self._store.upload() as upload:
            async for chunk in chunks:
                if upload.size + len(chunk) > self._max_bytes:
                    raise InvalidInput(
                        f"chunk: the artifact has more than {self._max_bytes} bytes; split it, or raise "
                        "DJP_STORAGE_MAX_ARTIFACT_MIB",
                        field="chunk",
                    )
                await upload.write(chunk)
            if header.sha256 and upload.sha256 != header.sha256:
                raise HashMismatch(
                    f"header.sha256: says {header.sha256}, but what arrived has {upload.sha256}; nothing was kept, "
                    "send it again",
                    field="header.sha256",
                )
            await upload.flush()
            now = datetime.now(UTC)
            artifact = Artifact(
                key=header.key,
                tier=Tier.HOT,
                size=upload.size,
                sha256=upload.sha256,
                content_type=header.content_type,
                run_id=header.run_id,
                tags=header.tags,
                created_at=min(header.created_at or now, now),
                modified_at=now,
                tier_since=now,
            )
            return await self._catalogue.add(artifact, request_id, lambda: upload.place(artifact.object_name))

    async def stat(self, key: ArtifactKey) -> Artifact:
        """What the catalogue knows. Raises NotFound."""
        check_key(key)
        return await self._catalogue.get(key)

    async def read(self, artifact: Artifact) -> AsyncGenerator[bytes, None]:
        """The bytes. The last chunk comes only after all of them have proved to have the artifact's hash.

        Raises HashMismatch, ObjectMissing.
        """
        digest, size = hashlib.sha256(), 0
        held = b""
        async with aclosing(self._store.read(artifact.object_name)) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                if size > artifact.size:
                    break
                if held:
                    yield held
                held = chunk
                await in_thread(digest.update, chunk)
        if size != artifact.size or digest.hexdigest() != artifact.sha256:
            raise HashMismatch(
                f"{self.location(artifact)} was changed since it was stored: its hash is not that of the catalogue; "
                "bring the file back from a backup"
            )
        if held:
            yield held

    async def list(self, tenant: str, wanted: Filter, *, size: int, token: str, largest_first: bool) -> Page:
        """A page of the artifacts that fit. Raises InvalidInput for a bad token or an empty span of time."""
        if wanted.since and wanted.until and wanted.since >= wanted.until:
            raise InvalidInput("created: since is not before until, so that nothing can fit", field="created")
        return await self._catalogue.list(tenant, wanted, size=size, token=token, largest_first=largest_first)

    async def totals(self, tenant: str, *, by_workflow: bool) -> Sequence[Total]:
        """How much each tier holds."""
        return await self._catalogue.totals(tenant, by_workflow=by_workflow)

    def location(self, artifact: Artifact) -> str:
        """Where the bytes are, for people."""
        return self._store.location(artifact.object_name)


def check_key(key: ArtifactKey, prefix: str = "key") -> None:
    """Raises InvalidInput for names that no artifact can have."""
    refuse([*name_violations(key.workflow, f"{prefix}.workflow"), *name_violations(key.artifact, f"{prefix}.artifact")])


def check_header(header: ArtifactHeader) -> None:
    """Raises InvalidInput for names and labels that no artifact can have."""
    check_key(header.key, "header.key")
    labels = [("header.content_type", header.content_type), ("header.run_id", header.run_id)]
    for name, value in header.tags.items():
        labels += [("header.tags", name), ("header.tags", value)]
    refuse(label_violations(labels))
