"""Seals what a run was asked, so that a stolen database file tells nothing (AES-256-GCM, one key a deployment)."""

from __future__ import annotations

import contextlib
import hmac
import os
import tempfile
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
        self._fingerprint_key = hmac.digest(key, b"djp: fingerprints of requests", "sha256")

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
        except (InvalidTag, ValueError) as error:  # ValueError: too short to be sealed at all
            raise FailedPrecondition(
                "a stored run cannot be opened with the seal key in DJP_HOME/seal.key; restore the key file that it "
                "was sealed with"
            ) from error

    def fingerprint(self, plain: str) -> str:
        """64 hexadecimal digits that tell equal texts from others, and nothing more to who has no key."""
        return hmac.digest(self._fingerprint_key, plain.encode(), "sha256").hex()


def load_key(path: Path) -> bytes:
    """Read the key file, or make it (mode 0600) when there is none yet; of several processes, one makes it.

    Raises:
        FailedPrecondition: the file is not 32 bytes, or cannot be read or made.
    """
    try:
        if not path.exists():
            _make_key(path)
        key = path.read_bytes()
    except OSError as error:
        raise FailedPrecondition(
            f"seal key {path} cannot be used ({error.strerror}); mend the permissions of the file and its folder"
        ) from error
    if len(key) != 32:
        raise FailedPrecondition(
            f"{path} has {len(key)} bytes and is no seal key of 32; restore it, or move it and the runs it sealed away"
        )
    return key


def _make_key(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix="seal-")  # of mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(32))
            file.flush()
            os.fsync(file.fileno())
        # A link appears whole or not at all, and never replaces the key that another process made meanwhile.
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)
    finally:
        os.unlink(fresh)
