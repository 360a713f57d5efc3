"""Storage on a MinIO whose disk is really full, and with session tokens that really expire."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from minio.credentials.providers import WebIdentityProvider

from djp.mesh.rpc_errors import error_from_rpc
from djp.v1.common_pb2 import TIER_WARM
from djp_storage.model import Tier
from djp_storage.server import open_parts
from djp_storage.settings import StorageSettings
from tests.gateway.oidc import AUDIENCE, Issuer
from tests.grounding.minio_server import MinioServer

if TYPE_CHECKING:
    from pathlib import Path

    from minio.credentials.credentials import Credentials

    from djp.mesh.errors import DjpError

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def deployment() -> str:
    return "cluster"


async def refusal(call: Any) -> DjpError | None:
    """What is wrong with a call; None if it was done."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error_from_rpc(error)
    return None


def pieces(content: bytes) -> list[bytes]:
    return [content[at : at + MIB] for at in range(0, len(content), MIB)]


async def objects(settings: StorageSettings) -> list[str]:
    async with open_parts(settings) as parts:
        await parts.worker.sweep()
        return [f"{tier}/{one.path.rpartition('-')[-1]}" for tier in Tier async for one in parts.store.objects(tier)]


async def test_a_full_disk_loses_nothing_and_can_be_cleared(
    serve: Any, whereabouts: Any, clock: Any, tmp_path: Path
) -> None:
    minio = MinioServer(tmp_path, room_mib=64)
    minio.start()
    here = {"s3_endpoint": minio.account.endpoint, "hot_days": 1000, "trash_days": 1}
    stored: dict[str, bytes] = {}

    async def fill(size: int) -> None:
        """Until nothing of that size fits any more."""
        while True:
            name, content = f"{size}-{len(stored)}", os.urandom(size)
            if error := await refusal(client.put(*pieces(content), artifact=name)):
                full = (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "DISK_FULL")
                assert full or "see whether its disk is full" in error.message
                return
            stored[name] = content

    try:
        async with serve(**here) as client:
            for name in ("old-1", "old-2", "old-3"):
                await client.put(*pieces(bytes(8 * MIB)), artifact=name)
                await client.call("PurgeArtifact", artifact=name)
            for size in (11 * MIB, 6 * MIB, MIB, 200 * KIB):
                await fill(size)
            largest = max(stored, key=lambda name: len(stored[name]))
            for method in ("RestoreArtifact", "PurgeArtifact"):
                more = {"to_tier": TIER_WARM} if method == "RestoreArtifact" else {}
                error = await refusal(client.call(method, artifact=largest, **more))
                assert error
                assert error.reason == "DISK_FULL"
            assert {one.key.artifact for one in (await client.list(tier=1)).artifacts} == set(stored)
            for name, content in stored.items():
                assert (await client.get(name))[1] == content
            clock.turn(days=2)  # what lies in the trash is erased, for which a full disk has room enough
            last = (await client.lifecycle())[-1].so_far
            assert (last.erased, last.errors) == (3, 0)
            for name, content in stored.items():
                assert (await client.get(name))[1] == content
        settings = StorageSettings(**{**whereabouts, **here})
        assert sorted(await objects(settings)) == sorted(f"hot/{name.rpartition('-')[-1]}" for name in stored)
        assert minio.half_uploads() == []
    finally:
        minio.stop()


async def test_a_session_token_that_expires_is_told_and_the_next_one_is_taken(
    serve: Any, whereabouts: Any, tmp_path: Path
) -> None:
    issuer = Issuer()
    issuer.add("k1", "RS256")
    async with issuer.served() as url:
        minio = MinioServer(
            tmp_path,
            MINIO_IDENTITY_OPENID_CONFIG_URL=f"{url}/.well-known/openid-configuration",
            MINIO_IDENTITY_OPENID_CLIENT_ID=AUDIENCE,
        )
        await asyncio.to_thread(minio.start)

        def credentials(seconds: int) -> Credentials:
            token = issuer.token("k1", iss=url, policy="readwrite", exp=int(time.time()) + seconds)
            provider = WebIdentityProvider(
                jwt_provider_func=lambda: {"access_token": token}, sts_endpoint=minio.account.endpoint
            )
            while True:
                try:
                    return provider.retrieve()
                except ValueError:  # it answers calls a moment before it knows the issuer
                    time.sleep(0.1)

        file = tmp_path / "credentials"

        async def use(seconds: int) -> Credentials:
            """For so long."""
            found = await asyncio.to_thread(credentials, seconds)
            file.with_suffix(".new").write_text(
                f"[default]\naws_access_key_id = {found.access_key}\naws_secret_access_key = {found.secret_key}\n"
                f"aws_session_token = {found.session_token}\n"
            )
            file.with_suffix(".new").replace(file)
            return found

        small, large = b"small", bytes(11 * MIB)
        settings = {"s3_endpoint": minio.account.endpoint, "s3_credentials_file": file}
        try:
            await use(3600)
            async with serve(**settings) as client:
                await client.put(small)
                await client.put(*pieces(large), artifact="large")
                short = await use(5)
                while not await refusal(client.get()):
                    pass
                for call in (
                    client.get(),
                    client.put(small, artifact="b"),
                    client.put(*pieces(large), artifact="c"),
                    client.call("RestoreArtifact", artifact="a.json", to_tier=TIER_WARM),
                    client.call("PurgeArtifact", artifact="large"),
                ):
                    error = await refusal(call)
                    assert error
                    assert (error.code, error.reason) == ("FAILED_PRECONDITION", "FAILED_PRECONDITION")
                    assert "have expired" in error.message
                    for secret in (short.access_key, short.secret_key, short.session_token):
                        assert str(secret) not in str(error)
                assert await client.names() == ["large", "a.json"]
                await use(3600)
                assert (await client.get())[1] == small
                await client.call("RestoreArtifact", artifact="large", to_tier=TIER_WARM)
                await client.put(small, artifact="b")
            found = await objects(StorageSettings(**{**whereabouts, **settings}))
            assert sorted(found) == ["hot/a.json", "hot/b", "warm/large"]
            assert minio.half_uploads() == []
        finally:
            minio.stop()
