"""An object store in a folder, for replicas that share a disk."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from djp.data_folder import sync_folder
from djp_grounding.ports import ChangedError, StoreAway, Stored

if TYPE_CHECKING:
    from collections.abc import Iterator


class FolderStore:
    """An ObjectStore; any number of processes may share the folder. Names may not begin with a dot."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> Stored | None:
        """The content, with its hash as the tag."""
        with _errors(self._folder):
            try:
                content = (self._folder / name).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return Stored(content, _tag(content))

    def write(self, name: str, content: bytes, expected: str | None) -> str:
        """Writers take turns by a lock on the folder."""
        with _errors(self._folder), self._locked():
            known = self.read(name)
            if (known.tag if known else None) != expected:
                raise ChangedError(name)
            with self._placed(name) as temporary:
                temporary.write_bytes(content)
        return _tag(content)

    def upload(self, name: str, file: Path) -> None:
        """Copies, then renames."""
        with _errors(self._folder), self._placed(name) as temporary:
            shutil.copyfile(file, temporary)

    def download(self, name: str, file: Path) -> bool:
        """Copies."""
        with _errors(self._folder):
            try:
                shutil.copyfile(self._folder / name, file)
            except FileNotFoundError:
                return False
        return True

    def names(self, prefix: str) -> list[str]:
        """Walks the folder that the prefix names."""
        with _errors(self._folder):
            start = self._folder / prefix.rpartition("/")[0]
            found = [str(path.relative_to(self._folder)) for path in start.rglob("*") if path.is_file()]
        return sorted(name for name in found if name.startswith(prefix) and not name.startswith("."))

    def remove(self, name: str) -> None:
        """Unlinks."""
        with _errors(self._folder):
            (self._folder / name).unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _placed(self, name: str) -> Iterator[Path]:
        """A temporary file that gets its name, for good, when the block ends well."""
        incoming, target = self._folder / ".incoming", self._folder / name
        for folder in (incoming, target.parent):
            folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=incoming)
        try:
            yield Path(temporary)
            os.fsync(handle)
            os.replace(temporary, target)
            sync_folder(target.parent)
        finally:
            os.close(handle)
            Path(temporary).unlink(missing_ok=True)


@contextmanager
def _errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"the object store {folder} cannot be used ({error.strerror}); see DJP_GROUNDING_STORE"
        raise StoreAway(message, retry_after_s=5.0) from error


def _tag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
