"""What storage says when its MinIO or its clock is not as it should be, and that nothing is half-done then."""

from __future__ import annotations

import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from minio.credentials.providers import StaticProvider
from minio.minioadmin import MinioAdmin

from djp.mesh.errors import FailedPrecondition, Unavailable
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1.common_pb2 import TIER_WARM
from djp_storage.model import Tier
from djp_storage.server import open_parts
from djp_storage.settings import StorageSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from djp.mesh.errors import DjpError
    from tests.grounding.minio_server import MinioServer

SECRET = "not-to-be-told"


@pytest.fixture
def deployment() -> str:
    return "cluster"


@pytest.fixture
def reader(minio: MinioServer) -> str:
    """A user that may read every bucket and write none; its secret is SECRET."""
    name = f"reader-{uuid.uuid4().hex[:8]}"
    root = StaticProvider(minio.account.access_key, minio.account.secret_key)
    admin = MinioAdmin(endpoint=minio.endpoint, credentials=root, secure=False)
    admin.user_add(name, SECRET)
    admin.attach_policy(["readonly"], user=name)
    return name


async def refused(call: Any) -> DjpError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = error_from_rpc(caught.value)
    assert SECRET not in str(error)
    return error


async def answered(call: Callable[[], Awaitable[Any]]) -> Any:
    """As callers do: what was refused because its maker looked dead, by a clock that had jumped, is sent again."""
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise


async def objects(whereabouts: Any) -> list[str]:
    found = []
    async with open_parts(StorageSettings(**whereabouts)) as parts:
        for tier in Tier:
            found += [f"{tier}/{one.path.rpartition('-')[-1]}" async for one in parts.store.objects(tier)]
    return found


@pytest.mark.parametrize("size", [4, 6 * 2**20])
async def test_buckets_that_may_only_be_read(
    serve: Any, whereabouts: Any, reader: str, size: int, credentials_file: Any
) -> None:
    content = b"x" * size
    parts = [content[at : at + 2**20] for at in range(0, size, 2**20)]
    owner = whereabouts["s3_access_key"], whereabouts["s3_secret_key"]
    async with serve(s3_credentials_file=credentials_file(*owner)) as client:
        await client.put(*parts)
        credentials_file(reader, SECRET)  # it is read again when it changes
        assert (await client.get())[1] == content
        for call in (
            client.put(*parts, artifact="b"),
            client.call("RestoreArtifact", artifact="a.json", to_tier=TIER_WARM),
            client.call("PurgeArtifact", artifact="a.json"),
        ):
            error = await refused(call)
            assert (error.code, "AccessDenied" in error.message) == ("FAILED_PRECONDITION", True)
            assert "mend them" in error.message
        assert await client.names() == ["a.json"]
        assert (await client.get())[1] == content
        credentials_file("expired", SECRET)
        assert "InvalidAccessKeyId" in (await refused(client.get())).message
        credentials_file(*owner)
        await client.call("RestoreArtifact", artifact="a.json", to_tier=TIER_WARM)
    assert await objects(whereabouts) == ["warm/a.json"]


@pytest.fixture
def credentials_file(tmp_path: Path) -> Any:
    """Writes a file of credentials, each time the same one."""

    def write(key: str, secret: str) -> Path:
        new = tmp_path / "new"
        new.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")
        return new.replace(tmp_path / "credentials")

    return write


@pytest.mark.parametrize("key", ["nobody", ""])
async def test_wrong_credentials_stop_the_start(whereabouts: Any, key: str) -> None:
    settings = StorageSettings(**{**whereabouts, "s3_access_key": key, "s3_secret_key": SECRET})
    with pytest.raises(FailedPrecondition, match="credentials") as caught:
        async with open_parts(settings):
            pass
    assert SECRET not in str(caught.value)


async def test_a_minio_that_is_away_stops_the_start(whereabouts: Any) -> None:
    settings = StorageSettings(**{**whereabouts, "s3_endpoint": "http://127.0.0.1:1", "s3_secret_key": SECRET})
    with pytest.raises(Unavailable, match="does not answer"):
        async with open_parts(settings):
            pass


async def test_a_missing_credentials_file_is_told(whereabouts: Any, tmp_path: Path) -> None:
    settings = StorageSettings(**whereabouts, s3_credentials_file=tmp_path / "none")
    with pytest.raises(FailedPrecondition, match="credentials file"):
        async with open_parts(settings):
            pass


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_bad_certificate_file_is_told(whereabouts: Any, tmp_path: Path, content: str | None) -> None:
    if content:
        (tmp_path / "ca.pem").write_text(content)
    settings = StorageSettings(**{**whereabouts, "s3_endpoint": "https://127.0.0.1:1", "s3_ca": tmp_path / "ca.pem"})
    with pytest.raises(FailedPrecondition, match="mend DJP_STORAGE_S3_CA"):
        async with open_parts(settings):
            pass


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("buckets", "hot=a"),
        ("buckets", "hot=aaa,warm=aaa,cold=ccc,trash=ddd"),
        ("buckets", "hot=A,warm=bbb,cold=ccc,trash=ddd"),
        ("s3_endpoint", "localhost:9000"),
        ("hot_days", -1),
        ("lease_s", 0),
    ],
)
def test_settings_that_make_no_sense(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        StorageSettings(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("days", [-4000, 4000])
async def test_a_clock_that_jumps_loses_nothing(serve: Any, whereabouts: Any, clock: Any, days: int) -> None:
    async with serve(lease_s=1) as one, serve(lease_s=1) as other:
        await one.put(b"text" * 1000)
        clock.turn(days=days)
        await answered(lambda: other.put(b"text", artifact="later"))
        for client in (one, other):
            await answered(partial(client.call, "RestoreArtifact", artifact="a.json", to_tier=TIER_WARM))
            await client.lifecycle()
        clock.turn(days=-days)
        await other.lifecycle()
        assert (await one.get())[1] == b"text" * 1000
        assert (await other.get("later"))[1] == b"text"
    names = sorted(name.partition("/")[2] for name in await objects(whereabouts))
    assert names == ["a.json", "later"]
