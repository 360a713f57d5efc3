"""Two storage processes on one Postgres and one MinIO, four clients; benchmarks/storage.py does it with 10,000."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack

from djp.mesh.channel import open_channel
from djp.mesh.identity import Identity, identity_scope
from djp.v1 import common_pb2, storage_pb2, storage_pb2_grpc
from tests.storage.storage_kills import TENANT, cluster

CLIENTS, EACH = 4, 12


async def test_what_one_replica_takes_in_another_moves_and_reads() -> None:
    async with cluster(0) as running, AsyncExitStack() as stack:
        stubs = [
            storage_pb2_grpc.StorageServiceStub(await stack.enter_async_context(open_channel(service.address)))
            for service in running.services
        ]

        async def client(number: int) -> None:
            here, there = stubs[number % 2], stubs[(number + 1) % 2]
            with identity_scope(Identity(TENANT)):
                for turn in range(EACH):
                    content = f"{number} {turn}".encode() * 1000
                    key = storage_pb2.ArtifactKey(workflow="w", artifact=f"{number}-{turn}")
                    header = storage_pb2.ArtifactHeader(request_id=str(uuid.uuid4()), key=key)
                    messages = [
                        storage_pb2.PutArtifactRequest(header=header),
                        storage_pb2.PutArtifactRequest(chunk=content),
                    ]
                    await here.PutArtifact(iter(messages), wait_for_ready=True)
                    await there.RestoreArtifact(
                        storage_pb2.RestoreArtifactRequest(
                            request_id=str(uuid.uuid4()), key=key, to_tier=common_pb2.TIER_COLD
                        ),
                        wait_for_ready=True,
                    )
                    parts = [one async for one in here.GetArtifact(storage_pb2.GetArtifactRequest(key=key))]
                    assert parts[0].info.tier == common_pb2.TIER_COLD
                    assert b"".join(one.chunk for one in parts) == content

        await asyncio.gather(*map(client, range(CLIENTS)))
        with identity_scope(Identity(TENANT)):
            (stats,) = (await stubs[0].GetStorageStats(storage_pb2.GetStorageStatsRequest())).stats
        assert (stats.tier, stats.count) == (common_pb2.TIER_COLD, CLIENTS * EACH)
