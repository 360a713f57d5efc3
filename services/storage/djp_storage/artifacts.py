"""Putting artifacts in, durable and checked, and getting them out, checked again."""

from __future__ import annotations

import hashlib
import json
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from djp.mesh.errors import InvalidInput, Unavailable
from djp.mesh.identity import current_identity
from djp_storage.description import describe
from djp_storage.errors import HashMismatch, ObjectMissing
from djp_storage.model import Artifact, By, RequestKey, Tier
from djp_storage.names import label_violations, name_violations, refuse
from djp_storage.reading import content

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Sequence

    from djp_storage.model import ArtifactHeader, ArtifactKey, Filter, ObjectName, Page, Total
    from djp_storage.ports import Catalogue, ObjectStore
    from djp_storage.worker import Worker


class Artifacts:
    """Every tenant's artifacts: the catalogue says which there are, the store has their bytes."""

    def __init__(self, catalogue: Catalogue, store: ObjectStore, worker: Worker, *, max_bytes: int) -> None:
        """`max_bytes` is the most that one artifact may have."""
        self._catalogue = catalogue
        self._store = store
        self._worker = worker
        self._max_bytes = max_bytes

    async def put(self, header: ArtifactHeader, request_id: str, chunks: AsyncIterable[bytes]) -> Artifact:
        """Take an artifact in; when this returns it survives a power cut. The same artifact again changes nothing.

        The order: the object's batch announced; its bytes durable and their hash checked; then the catalogue's row. A
        crash before that leaves a stray, which is removed; one after it a whole artifact.

        Raises:
            InvalidInput: a name or a label is bad, or there are too many bytes.
            HashMismatch: the bytes are not those the header announced.
            AlreadyExists: the key has another artifact.
            RequestIdReused: the request_id came with another artifact.
            DiskFull: there is no room.
        """
        check_header(header)
        now = self._worker.now()
        async with self._worker.making(Tier.HOT, header.key) as making:
            artifact = Artifact(
                key=header.key,
                tier=Tier.HOT,
                size=0,
                sha256="",
                content_type=header.content_type,
                run_id=header.run_id,
                tags=header.tags,
                created_at=min(header.created_at or now, now),
                modified_at=now,
                tier_since=now,
                object_id=making.name.object_id,
            )
            artifact = await self._upload(artifact, header.sha256, chunks)
            making.kept = None
            entered = await self._catalogue.add(artifact, request_key(header, artifact, request_id), self.by(""))
            making.kept = entered.object_name == artifact.object_name
        return entered

    async def _upload(self, artifact: Artifact, sha256: str, chunks: AsyncIterable[bytes]) -> Artifact:
        async with self._store.upload(artifact.object_name) as upload:
            async for chunk in chunks:
                if upload.size + len(chunk) > self._max_bytes:
                    raise InvalidInput(
                        f"chunk: the artifact has more than {self._max_bytes} bytes; split it, or raise "
                        "DJP_STORAGE_MAX_ARTIFACT_MIB",
                        field="chunk",
                    )
                await upload.write(chunk)
            if sha256 and upload.sha256 != sha256:
                raise HashMismatch(
                    f"header.sha256: says {sha256}, but what arrived has {upload.sha256}; nothing was kept, send it "
                    "again",
                    field="header.sha256",
                )
            whole = replace(artifact, size=upload.size, sha256=upload.sha256)
            await upload.place(describe(whole))
        return whole

    async def stat(self, key: ArtifactKey) -> Artifact:
        """What the catalogue knows. Raises NotFound."""
        check_key(key)
        return await self._catalogue.get(key)

    async def read(self, artifact: Artifact) -> AsyncGenerator[bytes, None]:
        """The bytes. The last chunk comes only after all of them have proved to have the artifact's hash.

        An artifact that is moved while it is read is read on from where it is then. Raises HashMismatch, ObjectMissing.
        """
        sent = 0
        while True:
            skip = sent
            try:
                async with aclosing(content(self._store, artifact)) as chunks:
                    async for chunk in chunks:
                        part = chunk[skip:]
                        skip -= len(chunk) - len(part)
                        sent += len(part)
                        if part:
                            yield part
            except (ObjectMissing, Unavailable):
                moved = await self._catalogue.get(artifact.key)
                if moved.object_name == artifact.object_name or moved.sha256 != artifact.sha256:
                    raise
                artifact = moved
            else:
                return

    async def list(self, tenant: str, wanted: Filter, *, size: int, token: str, largest_first: bool) -> Page:
        """A page of the artifacts that fit. Raises InvalidInput for a bad token or an empty span of time."""
        if wanted.since and wanted.until and wanted.since >= wanted.until:
            raise InvalidInput("created: since is not before until, so that nothing can fit", field="created")
        return await self._catalogue.list(tenant, wanted, size=size, token=token, largest_first=largest_first)

    async def totals(self, tenant: str | None, *, by_workflow: bool) -> Sequence[Total]:
        """How much each tier holds of a tenant, or for None of each tenant."""
        return await self._catalogue.totals(tenant, by_workflow=by_workflow)

    def location(self, name: ObjectName) -> str:
        """Where the bytes are, for people."""
        return self._store.location(name)

    def by(self, reason: str) -> By:
        """The caller, now."""
        who = current_identity()
        return By(f"{who.role} of {who.tenant}", reason, self._worker.now())


def request_key(header: ArtifactHeader, artifact: Artifact, request_id: str) -> RequestKey:
    """What makes a put itself: all that its header says, and the bytes."""
    told = [
        "put",
        header.key.workflow,
        header.key.artifact,
        header.content_type,
        header.run_id,
        sorted(header.tags.items()),
        artifact.sha256,
    ]
    return RequestKey(header.key.tenant, request_id, hashlib.sha256(json.dumps(told).encode()).hexdigest())


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
