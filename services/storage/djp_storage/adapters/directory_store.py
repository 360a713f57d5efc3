"""An object store in a folder: DIR/<tier>/<tenant>/<workflow>/<object>. Never follows a link inside that folder."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from djp.data_folder import folder_errors, make_data_folder
from djp_storage.adapters.directory_upload import INCOMING, DirectoryUpload, write_description
from djp_storage.errors import ObjectMissing
from djp_storage.model import ArtifactKey, ObjectName, Stored, Tier
from djp_storage.names import description_leaf, is_description, object_path
from djp_storage.object_names import names_made
from djp_storage.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
    from contextlib import AbstractContextManager
    from io import FileIO
    from pathlib import Path


READ_BYTES = 1 << 20

_SETTING = "DJP_STORAGE_DATA_DIR"
_PROBE = ObjectName(Tier.HOT, ArtifactKey("", "", ""), "")
_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP}  # tiers on other disks, or a disk without links


class DirectoryStore:
    """An ObjectStore; any number of them, in any number of processes, may share a folder."""

    def __init__(self, folder: Path) -> None:
        """Blocks. Raises FailedPrecondition if the folder cannot be written, DiskFull if nothing fits into it."""
        self._root = folder.absolute()
        make_data_folder(self._root, _SETTING)
        probe = DirectoryUpload(self, _PROBE)
        try:
            probe.open()
        finally:
            probe.close()

    @asynccontextmanager
    async def upload(self, name: ObjectName) -> AsyncIterator[DirectoryUpload]:
        """Take bytes in, into a temporary file."""
        upload = DirectoryUpload(self, name)
        try:
            await in_thread(upload.open)  # when cancelled, it may have been opened all the same
            yield upload
        finally:
            await in_thread(upload.close)

    async def read(self, name: ObjectName) -> AsyncGenerator[bytes, None]:
        """The object in chunks of READ_BYTES."""
        with ExitStack() as closing:
            file = await in_thread(lambda: closing.enter_context(self._open(name)))
            while chunk := await in_thread(file.read, READ_BYTES):
                yield chunk

    async def copy(self, source: ObjectName, target: ObjectName, description: str) -> None:
        """A second name of the same file where the disk has such; both are written once only."""
        await in_thread(self._copy, source, target, description)

    async def remove(self, name: ObjectName) -> None:
        """First the object, so that no object is without its description."""
        await in_thread(self._remove, name)

    async def made(self, batch: ObjectName) -> Sequence[ObjectName]:
        """One look into the folder."""
        return await in_thread(self._made, batch)

    async def abandon(self, name: ObjectName) -> None:
        """Nothing: unfinished uploads are told by their locks, see `clean`."""

    def location(self, name: ObjectName) -> str:
        """Below the store's folder: on which machine and where that is, is its owner's business."""
        return "/".join((name.tier.value, *object_path(name)))

    def path(self, name: ObjectName) -> str:
        """Below the tier's folder."""
        return "/".join(object_path(name))

    async def objects(self, tier: Tier) -> AsyncGenerator[Stored, None]:
        """Workflow by workflow."""
        for tenant in await in_thread(self._names, tier.value):
            for workflow in await in_thread(self._names, tier.value, tenant):
                for found in await in_thread(self._stored, tier, tenant, workflow):
                    yield found

    async def description(self, tier: Tier, path: str) -> str:
        """From the file beside it."""
        return await in_thread(self._description, tier, path)

    async def clean(self) -> int:
        """Remove the uploads of dead processes: those on which nobody holds a lock."""
        return await in_thread(self._clean)

    async def close(self) -> None:
        """There is nothing to let go of."""

    def _copy(self, source: ObjectName, target: ObjectName, description: str) -> None:
        leaf, copy = object_path(source)[-1], object_path(target)[-1]
        with (
            self._missing_is_told(source),
            self.opened(*_folders(source)) as there,
            self.opened(*_folders(target), make=True) as here,
        ):
            write_description(copy, here, description)
            _duplicate(leaf, there, copy, here)
            os.fsync(here)

    def _remove(self, name: ObjectName) -> None:
        leaf = object_path(name)[-1]
        with self.errors(), suppress(FileNotFoundError), self.opened(*_folders(name)) as folder:
            for one in (leaf, description_leaf(leaf), _half(leaf)) if name.object_id else (leaf,):
                with suppress(FileNotFoundError):
                    os.unlink(one, dir_fd=folder)
            os.fsync(folder)

    def _made(self, batch: ObjectName) -> list[ObjectName]:
        folders = _folders(batch)

        def described(leaf: str) -> str:
            beside = description_leaf(leaf.lstrip("."))
            with suppress(FileNotFoundError), self.opened(*folders) as folder, open_file(beside, folder) as file:
                return file.read().decode(errors="replace")
            return ""

        with self.errors():
            return names_made(batch, self._names(*folders), described)

    def _names(self, *folders: str) -> list[str]:
        with self.errors(), suppress(FileNotFoundError), self.opened(*folders) as folder:
            return sorted(os.listdir(folder))
        return []

    def _stored(self, tier: Tier, tenant: str, workflow: str) -> list[Stored]:
        found = []
        with self.errors(), suppress(FileNotFoundError), self.opened(tier.value, tenant, workflow) as folder:
            for leaf in sorted(os.listdir(folder)):
                if is_description(leaf):
                    continue
                with suppress(FileNotFoundError):
                    told = os.stat(leaf, dir_fd=folder, follow_symlinks=False)
                    modified = datetime.fromtimestamp(told.st_mtime, UTC)
                    found.append(Stored(tier, f"{tenant}/{workflow}/{leaf}", told.st_size, modified))
        return found

    def _description(self, tier: Tier, path: str) -> str:
        *folders, leaf = path.split("/")
        with self.errors():
            try:
                with self.opened(tier.value, *folders) as folder:
                    os.stat(leaf, dir_fd=folder, follow_symlinks=False)
                    with suppress(FileNotFoundError), open_file(description_leaf(leaf), folder) as file:
                        return file.read().decode(errors="replace")
            except FileNotFoundError:
                raise ObjectMissing(
                    f"{self._root / tier.value / path} is gone", outside=f"{tier.value}/{path} is gone"
                ) from None
        return ""

    def _clean(self) -> int:
        cleaned = 0
        with self.errors(), self.opened(INCOMING) as folder:
            for entry in os.listdir(folder):
                with suppress(FileNotFoundError, BlockingIOError), open_file(entry, folder) as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(entry, dir_fd=folder)
                    cleaned += 1
        return cleaned

    def _open(self, name: ObjectName) -> FileIO:
        with self._missing_is_told(name), self.opened(*_folders(name)) as folder:
            return open_file(object_path(name)[-1], folder)

    @contextmanager
    def _missing_is_told(self, name: ObjectName) -> Iterator[None]:
        with self.errors():
            try:
                yield
            except FileNotFoundError:
                told = "is gone, though the catalogue has it; bring the file back from a backup"
                where = self.location(name)
                raise ObjectMissing(f"{self._root / where} {told}", outside=f"{where} {told}") from None

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


def _folders(name: ObjectName) -> tuple[str, ...]:
    return name.tier.value, *object_path(name)[:-1]


def _duplicate(leaf: str, there: int, copy: str, here: int) -> None:
    """Raises OSError, FileNotFoundError among them."""
    try:
        os.link(leaf, copy, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
    except FileExistsError:
        return  # a copy that was begun before: files are written under no name, so it is whole
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with open_file(leaf, there) as source:
            target = os.open(_half(copy), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600, dir_fd=here)
            with open(target, "wb") as file:
                shutil.copyfileobj(source, file, READ_BYTES)
                file.flush()
                os.fsync(target)
            os.rename(_half(copy), copy, src_dir_fd=here, dst_dir_fd=here)


def _half(copy: str) -> str:
    """A copy before it is whole; no object, for its name begins with a dot."""
    return f".{copy[:12]}.part"


def open_file(leaf: str, folder: int) -> FileIO:
    """For reading. Raises OSError for whatever is no regular file; does not wait for the other end of a pipe."""
    descriptor = os.open(leaf, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotADirectoryError(errno.ENOTDIR, "not a file", leaf)
    return open(descriptor, "rb", buffering=0)
