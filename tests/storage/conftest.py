"""The storage service on a real socket, over a folder of the test's own."""

from __future__ import annotations

import re
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from djp.mesh.identity import Identity, identity_scope
from djp.v1 import storage_pb2, storage_pb2_grpc
from djp_storage.adapters.s3_store import S3Store
from djp_storage.model import Tier
from djp_storage.server import open_service
from djp_storage.settings import StorageSettings
from tests.governance.ledger_postgres import new_database, new_postgres
from tests.grounding.minio_server import MinioServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator
    from pathlib import Path


@dataclass
class Client:
    """Calls the service as one tenant."""

    stub: Any
    tenant: str = "acme"

    role: str = "tenant"

    def of(self, tenant: str, role: str = "tenant") -> Client:
        return Client(self.stub, tenant, role)

    async def call(self, method: str, **fields: Any) -> Any:
        """Any unary RPC, with a fresh request_id where it takes one and `artifact` and `workflow` as its key."""
        request_class = getattr(storage_pb2, f"{method}Request")
        names = request_class.DESCRIPTOR.fields_by_name
        if "request_id" in names:
            fields.setdefault("request_id", str(uuid.uuid4()))
        if "artifact" in fields:
            fields["key"] = storage_pb2.ArtifactKey(
                workflow=fields.pop("workflow", "w"), artifact=fields.pop("artifact")
            )
        with identity_scope(Identity(self.tenant, self.role)):
            return await getattr(self.stub, method)(request_class(**fields))

    async def lifecycle(self, *, live: bool = True, **fields: Any) -> list[storage_pb2.RunLifecycleResponse]:
        """All messages of a run."""
        fields.setdefault("request_id", str(uuid.uuid4()))
        with identity_scope(Identity(self.tenant, self.role)):
            call = self.stub.RunLifecycle(storage_pb2.RunLifecycleRequest(live=live, **fields))
            return [one async for one in call]

    async def events(self, **fields: Any) -> list[storage_pb2.StorageEvent]:
        """Oldest first."""
        return list((await self.call("ListStorageEvents", **fields)).events)[::-1]

    async def actions(self, **fields: Any) -> list[str]:
        return [event.action for event in await self.events(**fields)]

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


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    """A MinIO that answers."""
    server = MinioServer(tmp_path_factory.mktemp("minio"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """One Postgres for all tests of the session: the URL of its own database."""
    with new_postgres() as url:
        yield url


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """A new, empty database on Postgres."""
    with new_database(postgres, "storage") as url:
        yield url


def new_buckets() -> str:
    """The setting of four buckets that nobody else uses."""
    mark = uuid.uuid4().hex[:12]
    return ",".join(f"{tier}={tier}-{mark}" for tier in Tier)


@pytest.fixture
def make_s3_store(minio: MinioServer) -> Any:
    """Makes a store with buckets of its own."""
    return lambda: S3Store(minio.account, StorageSettings(buckets=new_buckets()).tier_buckets)


@pytest.fixture
def home(short_folder: Path) -> Path:
    """Where the service keeps all it has."""
    return short_folder


@dataclass
class Clock:
    """What the service takes for now: the world's time, and what a test adds to it."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def turn(self, **by: float) -> None:
        self.ahead += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def deployment() -> str:
    """A module that wants both kinds has a fixture of this name with parameters."""
    return "embedded"


@pytest.fixture
def whereabouts(deployment: str, home: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """The settings of a new, empty place for catalogue and objects: files, or Postgres and MinIO."""
    if deployment == "embedded":
        return {"database_url": f"sqlite+aiosqlite:///{home}/storage.db", "data_dir": home / "artifacts"}
    account = request.getfixturevalue("minio").account
    return {
        "database_url": request.getfixturevalue("postgres_url"),
        "buckets": new_buckets(),
        "s3_endpoint": account.endpoint,
        "s3_access_key": account.access_key,
        "s3_secret_key": account.secret_key,
    }


@pytest.fixture
def serve(whereabouts: dict[str, Any], serving: Any, clock: Clock) -> Any:
    """Starts the service, with other settings if need be: `async with serve(idle_s=1) as client`."""

    @asynccontextmanager
    async def start(**more: Any) -> AsyncIterator[Client]:
        settings = StorageSettings(**{"lease_s": 2, **whereabouts, **more})
        async with serving(open_service(settings, clock)) as channel:
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
    """The objects that the folder holds, by path in it, without their ids; and unfinished uploads."""

    def listed() -> dict[str, bytes]:
        root = home / "artifacts"
        found = {}
        for path in root.rglob("*"):
            if path.is_file() and not path.name.startswith("."):
                name = re.sub("^[0-9a-f]{12}-", "", path.name)
                found[str(path.relative_to(root).with_name(name))] = path.read_bytes()
        return found

    return listed
