"""The folder of one corpus: its versions, the pointer to the current one, and the lock that lets one builder in.

TENANT/CORPUS/VERSION/manifest.json     what the version holds
TENANT/CORPUS/VERSION/index/            its tantivy index; never changed after it has its name
TENANT/CORPUS/CURRENT                   the name of the current version
TENANT/CORPUS/.building-…/              an index in the making; whoever holds the lock may clear it away
TENANT/.locks/CORPUS                    the lock; it outlives the corpus
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from djp.data_folder import sync_folder
from djp.mesh.errors import InvalidInput
from djp_grounding.errors import CorpusBusy, CorpusNotFound
from djp_grounding.manifest import VERSION_DIGITS, Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_VERSION = re.compile(rf"[0-9a-f]{{{VERSION_DIGITS}}}")
_POLL_S = 0.02


def check_name(corpus: str) -> None:
    """Raises InvalidInput unless `corpus` can name a corpus (and so a folder)."""
    if not _NAME.fullmatch(corpus):
        raise InvalidInput(
            f"corpus: {corpus[:100]!r} is not a corpus name; use 1 to 100 of a-z, 0-9, '.', '_' and '-', "
            "starting with a letter or a digit",
            field="corpus",
        )


class CorpusFolder:
    """One corpus of one tenant on disk. Making the object touches nothing."""

    def __init__(self, tenant_folder: Path, corpus: str) -> None:
        """Raises InvalidInput for a bad name."""
        check_name(corpus)
        self.corpus = corpus
        self.path = tenant_folder / corpus
        self._current = (
            f"{self.path}/CURRENT"  # read at every search: path and file objects would cost more than the reading
        )
        self._lock = tenant_folder / ".locks" / corpus

    @contextlib.contextmanager
    def locked(self, wait_s: float) -> Iterator[None]:
        """Keeps other builders out, in this process and others; the system lifts it when the process ends.

        Waits up to `wait_s` seconds, then raises CorpusBusy. Blocks: not for the event loop.
        """
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + wait_s
            while not _try_lock(descriptor):
                if time.monotonic() >= deadline:
                    message = f"corpus {self.corpus!r} is being built by someone else; try again when that is done"
                    raise CorpusBusy(message, retry_after_s=5.0)
                time.sleep(_POLL_S)
            yield
        finally:
            os.close(descriptor)

    def current(self) -> str:
        """The name of the current version; empty if there is none."""
        try:
            descriptor = os.open(self._current, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return ""
        try:
            name = os.read(descriptor, 1024).decode("ascii", "replace").strip()
        finally:
            os.close(descriptor)
        return name if _VERSION.fullmatch(name) else ""

    def resolve(self, version: str) -> str:
        """The version asked for, or the current one if that is empty. Raises CorpusNotFound with the remedy."""
        current = self.current()
        if not current:
            message = f"corpus {self.corpus!r} does not exist; add it from a folder, or list the corpora there are"
            raise CorpusNotFound(message, field="corpus")
        name = version or current
        if not _VERSION.fullmatch(name) or not self.has(name):
            message = f"corpus {self.corpus!r} has no version {name[:64]!r}; list its versions, or add the folder again"
            raise CorpusNotFound(message, field="version" if version else "corpus")
        return name

    def versions(self) -> list[str]:
        """The names of all versions, sorted."""
        try:
            return sorted(entry.name for entry in self.path.iterdir() if _VERSION.fullmatch(entry.name))
        except FileNotFoundError:
            return []

    def is_version_name(self, version: str) -> bool:
        """Whether a version could be called so; the empty name stands for the current one."""
        return not version or bool(_VERSION.fullmatch(version))

    def has(self, version: str) -> bool:
        """Whether a version is here."""
        return os.path.isdir(f"{self.path}/{version}")

    def manifest_path(self, version: str) -> Path:
        """Where the version's manifest is."""
        return self.path / version / "manifest.json"

    def index_path(self, version: str) -> Path:
        """Where the version's tantivy index is."""
        return self.path / version / "index"

    def manifest(self, version: str) -> Manifest:
        """Raises CorpusNotFound if the version's manifest is missing or damaged."""
        try:
            return Manifest.from_json(self.manifest_path(version).read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            message = f"corpus {self.corpus!r}: version {version} is damaged; add the folder again to rebuild it"
            raise CorpusNotFound(message, field="corpus") from None

    def new_building(self) -> Path:
        """An empty folder to build in, after clearing away what earlier builders left. Only under the lock."""
        self.path.mkdir(parents=True, exist_ok=True)
        for stale in self.path.glob(".*"):
            _remove(stale)
        return Path(tempfile.mkdtemp(prefix=".building-", dir=self.path))

    def discard(self, building: Path) -> None:
        """Removes an unfinished building, and the corpus folder if nothing else is in it. Only under the lock."""
        _remove(building)
        with contextlib.suppress(OSError):  # not empty: there are versions
            self.path.rmdir()

    def publish(self, building: Path, manifest: Manifest) -> None:
        """Gives a finished building its name, in place of a damaged version of that name. Only under the lock."""
        _write_synced(building / "manifest.json", manifest.to_json())
        sync_folder(building)
        final = self.path / manifest.version
        if final.exists():
            final.rename(building.with_name(f".damaged-{manifest.version}"))
        building.rename(final)
        sync_folder(self.path)

    def make_current(self, version: str) -> None:
        """Readers see the old version or this one, never neither; it lasts through a power cut. Only under the lock."""
        temporary = self.path / ".CURRENT"
        _write_synced(temporary, version + "\n")
        temporary.replace(self.path / "CURRENT")
        sync_folder(self.path)

    def delete(self) -> None:
        """Removes the corpus with all its versions; searches under way finish on open files. Only under the lock."""
        doomed = self.path.with_name(f".deleted-{self.corpus}")
        _remove(doomed)
        self.path.rename(doomed)
        _remove(doomed)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _write_synced(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
