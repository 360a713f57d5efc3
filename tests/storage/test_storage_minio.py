"""Storage on a MinIO with a certificate of its own, on one that is full, and after one that was lost."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from djp.mesh.errors import Unavailable
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1.common_pb2 import TIER_WARM
from djp_storage.model import ArtifactKey, ObjectName, Tier
from djp_storage.names import file_name
from djp_storage.server import open_parts
from djp_storage.settings import StorageSettings
from tests.governance.ledger_postgres import new_database
from tests.grounding.minio_server import MinioServer
from tests.storage.test_storage_archive import CONTENTS, exported, imported

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20
FULL = b"<Error><Code>XMinioStorageFull</Code><Message>full</Message><Resource>/</Resource></Error>"


@pytest.fixture
def deployment() -> str:
    return "cluster"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed one for this machine's address, as MinIO wants it in a folder."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "minio")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path / "certificates"
    folder.mkdir()
    (folder / "public.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "private.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder


async def test_a_minio_with_tls(serve: Any, whereabouts: Any, certificate: Path, tmp_path: Path) -> None:
    (tmp_path / "minio").mkdir()
    minio = MinioServer(tmp_path / "minio", certificate)
    minio.start()
    try:
        with pytest.raises(Unavailable, match="does not answer as it should"):
            async with open_parts(StorageSettings(**{**whereabouts, "s3_endpoint": minio.account.endpoint})):
                pass  # nobody said whose certificate to trust
        content = b"x" * 11 * MIB
        async with serve(s3_endpoint=minio.account.endpoint, s3_ca=certificate / "public.crt") as client:
            await client.put(*[content[at : at + MIB] for at in range(0, len(content), MIB)])
            await client.put(b"small", artifact="small")
            for name, want in (("a.json", content), ("small", b"small")):
                await client.call("RestoreArtifact", artifact=name, to_tier=TIER_WARM)
                assert (await client.get(name))[1] == want
    finally:
        minio.stop()


class Filling:
    """A way to MinIO on which nothing more can be written once it is `full`."""

    def __init__(self, minio: MinioServer) -> None:
        self.full = False
        way = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                host, _, port = minio.endpoint.partition(":")
                upstream = HTTPConnection(host, int(port))
                upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    upstream.putheader(name, value)
                upstream.endheaders(body)
                answer = upstream.getresponse()
                headers, content = answer.getheaders(), answer.read()
                upstream.close()
                if way.full and self.command == "PUT":
                    answer.status, content, headers = 507, FULL, [("Content-Type", "application/xml")]
                self.send_response_only(answer.status)
                for name, value in headers:
                    if name.lower() not in ("transfer-encoding", "content-length"):
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
                self.send_header("Content-Length", str(length or 0))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = pass_on  # noqa: N815  as the base wants them

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def filling(minio: MinioServer) -> Iterator[Filling]:
    way = Filling(minio)
    thread = threading.Thread(target=way.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield way
    finally:
        way.server.shutdown()
        thread.join()
        way.server.server_close()


@pytest.mark.parametrize("size", [4, 11 * MIB])
async def test_a_minio_that_is_full(serve: Any, whereabouts: Any, minio: MinioServer, size: int) -> None:
    content = b"x" * size
    parts = [content[at : at + MIB] for at in range(0, size, MIB)]
    with filling(minio) as way:
        async with serve(s3_endpoint=way.endpoint) as client:
            await client.put(*parts)
            way.full = True
            for call in (
                client.put(*parts, artifact="b"),
                client.call("RestoreArtifact", artifact="a.json", to_tier=TIER_WARM),
                client.call("PurgeArtifact", artifact="a.json"),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                error = error_from_rpc(caught.value)
                assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "DISK_FULL")
                assert "free some space" in error.message
            assert await client.names() == ["a.json"]
            assert (await client.get())[1] == content
            way.full = False
            await client.put(*parts, artifact="b")
            await client.call("RestoreArtifact", artifact="a.json", to_tier=TIER_WARM)
    async with open_parts(StorageSettings(**whereabouts)) as opened:
        await opened.worker.sweep()
        found = [f"{tier}/{one.path.rpartition('-')[-1]}" for tier in Tier async for one in opened.store.objects(tier)]
    assert found == ["hot/b", "warm/a.json"]
    assert minio.half_uploads() == []


async def test_parts_of_an_upload_whose_process_died_are_given_up(
    whereabouts: Any, minio: MinioServer, clock: Any
) -> None:
    name = ObjectName(Tier.HOT, ArtifactKey("acme", "w", "a.json"), uuid.uuid4().hex[:12])
    settings = StorageSettings(**whereabouts, lease_s=1)
    async with open_parts(settings, clock) as parts:
        await parts.catalogue.beat("dead", clock())
        assert await parts.catalogue.announce("dead", name.batch, clock())
        async with parts.store.upload(name) as upload:
            for _ in range(12):
                await upload.write(bytes(MIB))
            while not minio.half_uploads():  # noqa: ASYNC110  another thread's work
                await asyncio.sleep(0.01)
            await parts.upkeep.sweep()
            assert minio.half_uploads(), "it may still be alive"
            clock.turn(seconds=10)
            await parts.worker.beat()
            await parts.upkeep.sweep()
            assert minio.half_uploads() == []
            assert not await parts.catalogue.known([name])
            assert await parts.store.made(name.batch) == []


async def test_a_backup_brings_back_all_when_database_and_buckets_are_lost(
    serve: Any, whereabouts: Any, postgres: str
) -> None:
    put = {}
    async with serve() as client:
        for number, (name, content) in enumerate(CONTENTS.items()):
            put[name] = await client.put(content, artifact=name, run_id=f"r{number}", tags={"name": name})
            if number % 2:
                await client.call("RestoreArtifact", artifact=name, to_tier=TIER_WARM)
        backup = await exported(client)
    async with open_parts(StorageSettings(**whereabouts)) as parts:
        for tier in Tier:
            for one in [one async for one in parts.store.objects(tier)]:
                leaf = one.path.rpartition("/")[-1]
                key = next(key for key in map(_key, CONTENTS) if file_name(key.artifact) == leaf[13:])
                await parts.store.remove(ObjectName(tier, key, leaf[:12]))
    with new_database(postgres, "storage") as url:
        async with serve(database_url=url) as client:
            assert await client.names() == []
            told = await imported(client, backup)
            assert (told.imported, told.unchanged, told.refused) == (len(CONTENTS), 0, 0)
            for name, before in put.items():
                after, content = await client.get(name)
                assert content == CONTENTS[name]
                for same in ("sha256", "run_id", "tags", "content_type", "created_at", "size"):
                    assert getattr(after, same) == getattr(before, same)


def _key(artifact: str) -> ArtifactKey:
    return ArtifactKey("acme", "w", artifact)
