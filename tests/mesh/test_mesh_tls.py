"""Mutual TLS: only a client with a certificate of the authority gets through, and only the right server is believed."""

from __future__ import annotations

import datetime
import ipaddress
from typing import TYPE_CHECKING

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from djp.mesh.channel import open_channel
from djp.mesh.errors import FailedPrecondition
from djp.mesh.settings import MeshSettings, TlsFiles

if TYPE_CHECKING:
    from pathlib import Path


class Authority:
    """A throw-away certificate authority."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._cert = self._sign(name, self._key.public_key(), ca=True)
        self.path = folder / f"{name}-ca.pem"
        self.path.write_bytes(self._cert.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, trusting: Path | None = None) -> TlsFiles:
        key = ec.generate_private_key(ec.SECP256R1())
        cert_path, key_path = self._folder / f"{self._name}-{name}.pem", self._folder / f"{self._name}-{name}.key"
        cert_path.write_bytes(self._sign(name, key.public_key()).public_bytes(serialization.Encoding.PEM))
        key_path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return TlsFiles(cert_path, key_path, trusting or self.path)

    def _sign(self, name: str, public_key: ec.EllipticCurvePublicKey, *, ca: bool = False) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self._name)])
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "ours")


@pytest.fixture
async def address(mesh, authority):
    async def echo(request, _context):
        return request

    files = authority.issue("server")
    settings = MeshSettings(tls_cert=files.cert, tls_key=files.key, tls_ca=files.ca)
    return (await mesh.serve(mesh.service(Unary=echo), "127.0.0.1:0", settings=settings)).address


async def test_the_right_client_gets_through(mesh, authority, address):
    stub = await mesh.stub(address, tls=authority.issue("client"))
    assert (await stub.Unary(mesh.Text(value="x"))).value == "x"


async def test_the_environment_turns_tls_on_for_channels(mesh, authority, address, monkeypatch):
    files = authority.issue("client")
    for name, path in {"CERT": files.cert, "KEY": files.key, "CA": files.ca}.items():
        monkeypatch.setenv(f"DJP_TLS_{name}", str(path))
    stub = await mesh.stub(address)
    assert (await stub.Unary(mesh.Text(value="x"))).value == "x"


async def test_a_client_of_another_authority_is_refused(mesh, authority, address, tmp_path):
    stub = await mesh.stub(address, tls=Authority(tmp_path, "theirs").issue("client", trusting=authority.path))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Unary(mesh.Text())
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_client_that_shows_no_certificate_is_refused(mesh, authority, address):
    credentials = grpc.ssl_channel_credentials(authority.path.read_bytes())
    async with grpc.aio.secure_channel(address, credentials) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary("/test.Probe/Unary")(b"")


async def test_a_client_without_tls_is_refused(mesh, address):
    stub = await mesh.stub(address)
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.Unary(mesh.Text())


async def test_a_server_of_another_authority_is_not_believed(mesh, authority, address, tmp_path):
    stub = await mesh.stub(address, tls=authority.issue("client", trusting=Authority(tmp_path, "theirs").path))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Unary(mesh.Text())
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_an_unreadable_file_is_named(tmp_path):
    gone = tmp_path / "gone.pem"
    with pytest.raises(FailedPrecondition, match=r"DJP_TLS_.* .*gone\.pem"):
        open_channel("localhost:1", tls=TlsFiles(gone, gone, gone))
