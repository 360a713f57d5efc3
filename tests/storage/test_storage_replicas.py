"""Storage processes on one Postgres and one MinIO are killed while they take an archive in, or mend the catalogue."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import uuid
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import sqlalchemy as sa

from djp.mesh.channel import open_channel
from djp.mesh.identity import Identity, identity_scope
from djp.v1 import storage_pb2, storage_pb2_grpc
from djp_storage import archive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DJP = Path(sys.executable).with_name("djp")
CONTENTS = {f"a{number:02}": hashlib.sha256(str(number).encode()).digest() * (number * 300) for number in range(24)}


@dataclass
class Replica:
    """A process, and a client of it."""

    process: asyncio.subprocess.Process
    client: Any

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


@pytest.fixture
def deployment() -> str:
    return "cluster"


@pytest.fixture
async def replica(whereabouts: dict[str, Any], client_of: Any, short_folder: Path) -> AsyncIterator[Any]:
    """Starts replicas; those that still run at the end are ended."""
    settings = {f"DJP_STORAGE_{name.upper()}": str(value) for name, value in whereabouts.items()}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DJP_")}
    environment |= settings | {"DJP_HOME": str(short_folder / "home"), "DJP_STORAGE_LEASE_S": "1"}
    async with AsyncExitStack() as stack:

        async def start() -> Replica:
            address = f"unix:{short_folder}/{uuid.uuid4().hex[:8]}.sock"
            process = await stack.enter_async_context(_ended(environment, address))
            channel = await stack.enter_async_context(open_channel(address))
            await asyncio.wait_for(channel.channel_ready(), 60)
            return Replica(process, client_of(storage_pb2_grpc.StorageServiceStub(channel)))

        yield start


@asynccontextmanager
async def _ended(environment: dict[str, str], address: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        DJP, "serve", "storage", "--listen", address, env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def pieces() -> list[bytes]:
    """An archive of all contents, a piece for each artifact."""
    entries = [
        archive.Entry("w", name, len(content), hashlib.sha256(content).hexdigest())
        for name, content in CONTENTS.items()
    ]
    told = [archive.head("acme", datetime.now(UTC)) + archive.manifest(1, entries)]
    for number, content in enumerate(CONTENTS.values(), start=1):
        told.append(archive.object_header(number, len(content)) + archive.padded(content))
    told.append(archive.end(len(CONTENTS), sum(map(len, CONTENTS.values()))))
    return told


async def take_in(replica: Replica, request_id: str, upto: int, arrived: asyncio.Event | None = None) -> Any:
    """Import the first pieces; `arrived` keeps the stream open, and is set when they were sent."""

    async def parts() -> AsyncIterator[storage_pb2.ImportTenantRequest]:
        yield storage_pb2.ImportTenantRequest(request_id=request_id)
        for piece in pieces()[:upto]:
            yield storage_pb2.ImportTenantRequest(chunk=piece)
        if arrived is not None:
            arrived.set()
            await asyncio.Event().wait()

    with identity_scope(Identity("acme")):
        return await replica.client.stub.ImportTenant(parts())


async def compared(replica: Replica) -> list[str]:
    with identity_scope(Identity("ops", "operator")):
        request = storage_pb2.ReconcileRequest(request_id=str(uuid.uuid4()), mend=True, verify=True)
        return [one.difference async for one in replica.client.stub.Reconcile(request) if one.difference]


async def there_are(replica: Replica, count: int) -> None:
    """Wait for so many artifacts."""
    async with asyncio.timeout(60):
        while len(await replica.client.names()) < count:  # noqa: ASYNC110  in another process
            await asyncio.sleep(0.01)


async def all_is_there(replica: Replica) -> None:
    for name, content in CONTENTS.items():
        assert (await replica.client.get(name))[1] == content
    assert len(await replica.client.names()) == len(CONTENTS)
    assert await compared(replica) == []


async def test_an_import_that_was_killed_goes_on_at_another_replica(replica: Any) -> None:
    steady, request_id = await replica(), str(uuid.uuid4())
    for upto in (3, 9, 15):
        doomed, arrived = await replica(), asyncio.Event()
        call = asyncio.create_task(take_in(doomed, request_id, upto, arrived))
        await arrived.wait()
        if upto == 9:  # the others are killed while they write
            await there_are(steady, upto - 2)
        await doomed.kill()
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    before = len(await steady.client.names())
    assert before >= 7
    told = await take_in(steady, request_id, len(CONTENTS) + 2)
    assert (told.imported, told.unchanged, told.refused) == (len(CONTENTS) - before, before, 0)
    await all_is_there(steady)


async def test_two_replicas_take_one_archive_in_at_once(replica: Any) -> None:
    first, second = await replica(), await replica()
    told = await asyncio.gather(
        *(take_in(one, str(uuid.uuid4()), len(CONTENTS) + 2) for one in (first, second, first, second))
    )
    assert sum(one.refused for one in told) == 0
    await all_is_there(first)


async def test_a_catalogue_whose_mending_was_killed_is_mended_by_the_next(
    replica: Any, whereabouts: dict[str, Any]
) -> None:
    steady = await replica()
    await take_in(steady, str(uuid.uuid4()), len(CONTENTS) + 2)
    engine = sa.create_engine(whereabouts["database_url"])
    with engine.begin() as connection:
        for table in ("artifacts", "requests", "strays"):
            connection.execute(sa.text(f"DELETE FROM {table}"))
    engine.dispose()
    for mended in (0, 3):
        doomed = await replica()
        with identity_scope(Identity("ops", "operator")), suppress(grpc.aio.AioRpcError):
            request = storage_pb2.ReconcileRequest(request_id=str(uuid.uuid4()), mend=True)
            call = doomed.client.stub.Reconcile(request)
            await there_are(steady, mended + 1)
            await doomed.kill()
            async for _ in call:
                pass
    assert set(await compared(steady)) <= {"object without an artifact"}
    await all_is_there(steady)
