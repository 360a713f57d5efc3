"""An object store in a folder: DIR/<tier>/<tenant>/<workflow>/<artifact>. Never follows a link inside that folder."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import stat
import uuid
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

from djp.data_folder import folder_errors, make_data_folder
from djp_storage.errors import ObjectMissing
from djp_storage.names import file_name
from djp_storage.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator
    from contextlib import AbstractContextManager
    from io import FileIO
    from pathlib import Path

    from djp_storage.model import ObjectName

_log = logging.getLogger(__name__)

READ_BYTES = 1 << 20

_SETTING = "DJP_STORAGE_DATA_DIR"

_INCOMING = ".incoming"  # uploads; each holds a lock on its file, which ends with its process
_ORPHANS = "orphans"  # what lay under the name of a new object and belonged to no artifact


class DirectoryStore:
    """An ObjectStore; any number of them, in any number of processes, may share a folder."""

    def __init__(self, folder: Path) -> None:
        """Blocks. Raises FailedPrecondition if the folder cannot be written, DiskFull if nothing fits into it."""
        self._root = folder.absolute()
        make_data_folder(self._root, _SETTING)
        probe = _DirectoryUpload(self)
        try:
            probe.open()
        finally:
            probe.close()

    @asynccontextmanager
    async def upload(self) -> AsyncIterator[_DirectoryUpload]:
        """Take bytes in, into a temporary file."""
        upload = _DirectoryUpload(self)
        try:
            await in_thread(upload.open)  # when cancelled, it may have been opened all the same
            yield upload
        finally:
            await in_thread(upload.close)

    async def read(self, name: ObjectName) -> AsyncGenerator[bytes, None]:
        """The object in chunks of READ_BYTES. Raises ObjectMissing."""
        with ExitStack() as closing:
            file = await in_thread(lambda: closing.enter_context(self._open(name)))
            while chunk := await in_thread(file.read, READ_BYTES):
                yield chunk

    def location(self, name: ObjectName) -> str:
        """The file's absolute path."""
        return str(self._root.joinpath(*_folders(name), file_name(name.key.artifact)))

    async def clean(self) -> int:
        """Remove the uploads of dead processes: those on which nobody holds a lock."""
        return await in_thread(self._clean)

    def _clean(self) -> int:
        cleaned = 0
        with self.errors(), self.opened(_INCOMING) as folder:
            for entry in os.listdir(folder):
                with suppress(FileNotFoundError, BlockingIOError), _open_file(entry, folder) as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(entry, dir_fd=folder)
                    cleaned += 1
        return cleaned

    def _open(self, name: ObjectName) -> FileIO:
        with self.errors():
            try:
                with self.opened(*_folders(name)) as folder:
                    return _open_file(file_name(name.key.artifact), folder)
            except FileNotFoundError:
                raise ObjectMissing(
                    f"{self.location(name)} is gone, though the catalogue has it; bring the file back from a backup"
                ) from None

    @contextmanager
    def opened(self, *folders: str, make: bool = False) -> Iterator[int]:
        """The descriptor of a folder of the store, reached step by step so that no link can lead outside."""
        at = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for folder in folders:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(folder, 0o700, dir_fd=at)
                    os.fsync(at)  # even if it exists: whoever made it may not have come to this line yet
                inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                os.close(at)
                at = inner
            yield at
        finally:
            os.close(at)

    def errors(self) -> AbstractContextManager[None]:
        """Tells what the system refuses in the folder, with the remedy."""
        return folder_errors(self._root, _SETTING)


class _DirectoryUpload:
    """Bytes on their way in, in a locked temporary file. All but `write`, `flush` and `place` block."""

    def __init__(self, store: DirectoryStore) -> None:
        self._store = store
        self._hash = hashlib.sha256()
        self._temporary = uuid.uuid4().hex
        self._closing = ExitStack()
        self.size = 0

    def open(self) -> None:
        """Make the temporary file."""
        with self._store.errors(), self._store.opened(_INCOMING, make=True) as folder:
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

    async def flush(self) -> None:
        """Return when the bytes survive a power cut."""
        await in_thread(self._flush)

    async def place(self, name: ObjectName) -> None:
        """Give the flushed bytes their name."""
        await in_thread(self._place, name)

    def close(self) -> None:
        """Let go of the file, and remove it if it was not placed."""
        try:
            with suppress(FileNotFoundError), self._store.opened(_INCOMING) as folder:
                os.unlink(self._temporary, dir_fd=folder)
        except OSError as error:
            _log.warning("%s stays in %s until the next start: %s", self._temporary, _INCOMING, error.strerror)
        with suppress(OSError):  # bytes that do not fit any more are not wanted any more
            self._closing.close()

    def _write(self, chunk: bytes) -> None:
        with self._store.errors():
            self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def _flush(self) -> None:
        with self._store.errors():
            self._file.flush()
            os.fsync(self._file.fileno())

    def _place(self, name: ObjectName) -> None:
        leaf = file_name(name.key.artifact)
        with (
            self._store.errors(),
            self._store.opened(_INCOMING) as incoming,
            self._store.opened(*_folders(name), make=True) as folder,
        ):
            if self._other_lies_at(leaf, folder):
                self._set_aside(leaf, folder, name)
            os.rename(self._temporary, leaf, src_dir_fd=incoming, dst_dir_fd=folder)
            os.fsync(folder)

    def _other_lies_at(self, leaf: str, folder: int) -> bool:
        try:
            with _open_file(leaf, folder) as file:
                same_size = os.fstat(file.fileno()).st_size == self.size
                return not (same_size and hashlib.file_digest(file, "sha256").hexdigest() == self.sha256)
        except FileNotFoundError:
            return False
        except OSError:  # no file that can be read: a folder, a link, a pipe
            return True

    def _set_aside(self, leaf: str, folder: int, name: ObjectName) -> None:
        kept = f"{uuid.uuid4().hex[:12]}-{leaf}"
        with self._store.opened(_ORPHANS, make=True) as orphans:
            os.rename(leaf, kept, src_dir_fd=folder, dst_dir_fd=orphans)
            os.fsync(orphans)
        _log.warning("%s belonged to no artifact; it is now %s/%s", self._store.location(name), _ORPHANS, kept)


def _folders(name: ObjectName) -> tuple[str, str, str]:
    return name.tier.value, file_name(name.key.tenant), file_name(name.key.workflow)


def _open_file(leaf: str, folder: int) -> FileIO:
    """For reading. Raises OSError for whatever is no regular file; does not wait for the other end of a pipe."""
    descriptor = os.open(leaf, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotADirectoryError(errno.ENOTDIR, "not a file", leaf)
    return open(descriptor, "rb", buffering=0)
