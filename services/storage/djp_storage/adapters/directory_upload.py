"""Bytes on their way into a folder: a locked temporary file that gets its name when it is whole."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import uuid
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from djp_storage.names import description_leaf, object_path
from djp_storage.threads import in_thread

if TYPE_CHECKING:
    from djp_storage.adapters.directory_store import DirectoryStore
    from djp_storage.model import ObjectName

_log = logging.getLogger(__name__)

INCOMING = ".incoming"
"""The folder of uploads; each holds a lock on its file, which ends with its process."""


class DirectoryUpload:
    """An upload of the object `name`. All but `write` and `place` block."""

    def __init__(self, store: DirectoryStore, name: ObjectName) -> None:
        self._store = store
        self._name = name
        self._hash = hashlib.sha256()
        self._temporary = uuid.uuid4().hex
        self._closing = ExitStack()
        self.size = 0

    def open(self) -> None:
        """Make the temporary file."""
        with self._store.errors(), self._store.opened(INCOMING, make=True) as folder:
            while True:
                file = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
                self._file = self._closing.enter_context(open(file, "wb"))  # noqa: SIM115  enters the stack
                fcntl.flock(self._file, fcntl.LOCK_EX)
                if os.fstat(file).st_nlink:
                    return
                self._file.close()  # `clean` came between the creation and the lock

    @property
    def sha256(self) -> str:
        """Hex, of the bytes written so far."""
        return self._hash.hexdigest()

    async def write(self, chunk: bytes) -> None:
        """Append bytes."""
        await in_thread(self._write, chunk)

    async def place(self, description: str) -> None:
        """Flush the bytes, and give them and the description their names."""
        await in_thread(self._place, description)

    def close(self) -> None:
        """Let go of the file, and remove it if it was not placed."""
        try:
            with suppress(FileNotFoundError), self._store.opened(INCOMING) as folder:
                os.unlink(self._temporary, dir_fd=folder)
        except OSError as error:
            _log.warning("%s stays in %s until the next start: %s", self._temporary, INCOMING, error.strerror)
        with suppress(OSError):  # bytes that do not fit any more are not wanted any more
            self._closing.close()

    def _write(self, chunk: bytes) -> None:
        with self._store.errors():
            self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def _place(self, description: str) -> None:
        *folders, leaf = object_path(self._name)
        with (
            self._store.errors(),
            self._store.opened(INCOMING) as incoming,
            self._store.opened(self._name.tier.value, *folders, make=True) as folder,
        ):
            self._file.flush()
            os.fsync(self._file.fileno())
            write_description(leaf, folder, description)
            os.rename(self._temporary, leaf, src_dir_fd=incoming, dst_dir_fd=folder)
            os.fsync(folder)


def write_description(leaf: str, folder: int, text: str) -> None:
    """Of the object of that name, which comes after it. Raises OSError."""
    descriptor = os.open(
        description_leaf(leaf), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=folder
    )
    with open(descriptor, "wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(descriptor)
