"""Mutual TLS from three PEM files: what a server and a client of the mesh show and trust."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from djp.mesh.errors import FailedPrecondition

if TYPE_CHECKING:
    from pathlib import Path

    from djp.mesh.settings import TlsFiles


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials of a server that refuses clients without a certificate of the authority."""
    return grpc.ssl_server_credentials(
        [(_read(files.key, "DJP_TLS_KEY"), _read(files.cert, "DJP_TLS_CERT"))],
        root_certificates=_read(files.ca, "DJP_TLS_CA"),
        require_client_auth=True,
    )


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """Credentials of a client that shows its certificate and trusts only the authority."""
    return grpc.ssl_channel_credentials(
        root_certificates=_read(files.ca, "DJP_TLS_CA"),
        private_key=_read(files.key, "DJP_TLS_KEY"),
        certificate_chain=_read(files.cert, "DJP_TLS_CERT"),
    )


def _read(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise FailedPrecondition(f"cannot read {setting} {path}: {e.strerror}; give a readable PEM file") from e
