"""Seals what a run was asked, so that a stolen database file tells nothing (AES-256-GCM, one key a deployment)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from djp.mesh.errors import FailedPrecondition

if TYPE_CHECKING:
    from pathlib import Path

_NONCE_BYTES = 12  # the size that NIST SP 800-38D recommends for GCM


class Seal:
    """Encrypts and decrypts small blobs; `context` binds a blob to its row, so that rows cannot be swapped."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def close(self, plain: bytes, context: str) -> bytes:
        """Encrypt."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypt.

        Raises:
            FailedPrecondition: the key is another one than the blob was sealed with, or the blob was changed.
        """
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], context.encode())
        except InvalidTag as error:
            raise FailedPrecondition(
                "a stored run cannot be opened with this seal key; restore the key file that the run was stored with"
            ) from error


def load_key(path: Path) -> bytes:
    """Read the key file, or make it (mode 0600) when there is none yet.

    Raises:
        FailedPrecondition: the file is not 32 bytes.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(32))
    key = path.read_bytes()
    if len(key) != 32:
        raise FailedPrecondition(f"{path} is not a seal key of 32 bytes; restore it, or move it away to start afresh")
    return key
