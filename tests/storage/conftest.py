"""The storage service on a real socket, over a folder of the test's own."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from djp.mesh.identity import Identity, identity_scope
from djp.v1 import storage_pb2, storage_pb2_grpc
from djp_storage.server import open_service
from djp_storage.settings import StorageSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path


@dataclass
class Client:
    """Calls the service as one tenant."""

    stub: Any
    tenant: str = "acme"

    def of(self, tenant: str) -> Client:
        return Client(self.stub, tenant)

    async def put(
        self, *parts: bytes, artifact: str = "a.json", workflow: str = "w", request_id: str = "", **header: Any
    ) -> storage_pb2.ArtifactInfo:
        first = storage_pb2.ArtifactHeader(
            request_id=request_id or str(uuid.uuid4()),
            key=storage_pb2.ArtifactKey(workflow=workflow, artifact=artifact),
            **header,
        )
        messages = [storage_pb2.PutArtifactRequest(header=first)]
        messages += [storage_pb2.PutArtifactRequest(chunk=part) for part in parts]
        return await self.put_messages(messages)

    async def put_messages(self, messages: Iterable[storage_pb2.PutArtifactRequest]) -> storage_pb2.ArtifactInfo:
        with identity_scope(Identity(self.tenant)):
            return (await self.stub.PutArtifact(iter(messages))).artifact

    async def get(self, artifact: str = "a.json", workflow: str = "w") -> tuple[storage_pb2.ArtifactInfo, bytes]:
        key = storage_pb2.ArtifactKey(workflow=workflow, artifact=artifact)
        with identity_scope(Identity(self.tenant)):
            messages = [one async for one in self.stub.GetArtifact(storage_pb2.GetArtifactRequest(key=key))]
        assert messages[0].WhichOneof("part") == "info"
        return messages[0].info, b"".join(one.chunk for one in messages[1:])

    async def stat(self, artifact: str = "a.json", workflow: str = "w") -> storage_pb2.ArtifactInfo:
        key = storage_pb2.ArtifactKey(workflow=workflow, artifact=artifact)
        with identity_scope(Identity(self.tenant)):
            return (await self.stub.StatArtifact(storage_pb2.StatArtifactRequest(key=key))).artifact

    async def list(self, **request: Any) -> storage_pb2.ListArtifactsResponse:
        with identity_scope(Identity(self.tenant)):
            return await self.stub.ListArtifacts(storage_pb2.ListArtifactsRequest(**request))

    async def names(self, **request: Any) -> list[str]:
        return [one.key.artifact for one in (await self.list(**request)).artifacts]

    async def stats(self, **request: Any) -> list[storage_pb2.StorageStat]:
        with identity_scope(Identity(self.tenant)):
            return list((await self.stub.GetStorageStats(storage_pb2.GetStorageStatsRequest(**request))).stats)


@pytest.fixture
def home(short_folder: Path) -> Path:
    """Where the service keeps all it has."""
    return short_folder


@pytest.fixture
def serve(home: Path, serving: Any) -> Any:
    """Starts the service, with other settings if need be: `async with serve(idle_s=1) as client`."""

    @asynccontextmanager
    async def start(**more: Any) -> AsyncIterator[Client]:
        settings = StorageSettings(
            database_url=f"sqlite+aiosqlite:///{home}/storage.db", data_dir=home / "artifacts", **more
        )
        async with serving(open_service(settings)) as channel:
            yield Client(storage_pb2_grpc.StorageServiceStub(channel))

    return start


@pytest.fixture
def client_of() -> Any:
    """Makes a client of a stub."""
    return Client


@pytest.fixture
async def client(serve: Any) -> AsyncIterator[Client]:
    async with serve() as client:
        yield client


@pytest.fixture
def files(home: Path) -> Any:
    """The files that the store holds, by path in it."""

    def listed() -> dict[str, bytes]:
        root = home / "artifacts"
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    return listed
