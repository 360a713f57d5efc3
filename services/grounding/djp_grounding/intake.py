"""Takes in the files of a corpus as they arrive, within bounds: in memory while small, else in a temporary file."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from djp.corpus_files import unusable
from djp_grounding.errors import folder_errors
from djp_grounding.extract import unsafe_path
from djp_grounding.limits import Limits, SkipList
from djp_grounding.model import Skipped

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

_MEMORY_BYTES = 16 * 1024 * 1024  # of each upload, and many may come at once


@dataclass(frozen=True)
class ReceivedFile:
    """A file of the corpus: where it is in the spool, or -1 if only the SHA-256 of its bytes was sent."""

    path: str
    offset: int
    bytes: int
    sha256: str

    @property
    def here(self) -> bool:
        """Whether its bytes arrived."""
        return self.offset >= 0


class Intake:
    """The files of one corpus. `begin` a file, `write` its parts, and so on; then `finish` once and read.

    A file that breaks a bound is left out and noted; it never fails the rest. Use as a context manager.
    """

    def __init__(self, limits: Limits, folder: Path) -> None:
        """`folder` is where a large corpus spills to, in a file that has no name and ends with the process."""
        self._limits = limits
        self._folder = folder
        self._spool = tempfile.SpooledTemporaryFile(_MEMORY_BYTES, dir=str(folder))  # noqa: SIM115  closed in __exit__
        self._files: dict[str, ReceivedFile] = {}
        self._skips = SkipList()
        self._open = ""  # path of the file being received; empty between files and while one is being left out
        self._begun = False
        self._start = self._end = 0
        self._offered = 0  # bytes of files that were not sent
        self._hash = hashlib.sha256()

    def __enter__(self) -> Intake:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()

    def add_all(self, files: Iterable[tuple[str, bytes]], skipped: Iterable[Skipped] = ()) -> None:
        """Whole files at once, and those that whoever sends them had to leave out."""
        for left_out in skipped:
            self.skip(left_out)
        for path, content in files:
            self.begin(path)
            self.write(content)
        self.finish()

    def begin(self, path: str) -> None:
        """The next file starts; the one before is complete."""
        self.finish()
        self._begun = True
        self._hash = hashlib.sha256()
        self._start = self._end
        if reason := self._refusal(path):
            self.skip(Skipped(path, reason))
        else:
            self._open = path

    def _refusal(self, path: str) -> str:
        if path in self._files:
            return "sent twice: only the first one counts"
        if len(self._files) >= self._limits.files:
            return f"the corpus is full: it holds {self._limits.files} files"
        return unsafe_path(path) or unusable(path, 1)

    @property
    def begun(self) -> bool:
        """Whether any file was begun yet."""
        return self._begun

    def write(self, content: bytes) -> None:
        """A further part of the file begun last. Raises DiskFull."""
        if self.wants(len(content)) and content:
            with folder_errors(self._folder):
                self._spool.write(content)
            self._hash.update(content)
            self._end += len(content)

    def wants(self, size: int) -> bool:
        """Whether so many further bytes of the file begun last would be kept; if not, the file is left out."""
        if not self._open:
            return False
        end = self._end + size
        if end - self._start > self._limits.file_bytes:
            self.leave_out(f"larger than {_mib(self._limits.file_bytes)}: split it")
        elif end + self._offered > self._limits.corpus_bytes:
            self.leave_out(f"the corpus is full: its files exceed {_mib(self._limits.corpus_bytes)}")
        return bool(self._open)

    def offer(self, path: str, sha256: str, size: int) -> None:
        """A file whose bytes may be known. If they turn out not to be, the build raises ContentMissing."""
        self.begin(path)
        if not self.wants(size):
            return
        self._open = ""
        if size == 0:
            self.skip(Skipped(path, "empty"))
        else:
            self._offered += size
            self._files[path] = ReceivedFile(path, -1, size, sha256)

    def leave_out(self, reason: str) -> None:
        """The file begun last is no part of the corpus, whatever still comes of it. Raises DiskFull."""
        self.skip(Skipped(self._open, reason))
        self._open = ""
        self._end = self._start
        with folder_errors(self._folder):
            self._spool.seek(self._start)
            self._spool.truncate()

    def skip(self, skipped: Skipped) -> None:
        """Notes a file that is left out."""
        self._skips.add(skipped)

    def finish(self) -> None:
        """The file begun last is complete."""
        path, self._open = self._open, ""
        if not path:
            return
        if self._end == self._start:
            self.skip(Skipped(path, "empty"))
        else:
            self._files[path] = ReceivedFile(path, self._start, self._end - self._start, self._hash.hexdigest())

    def files(self) -> list[ReceivedFile]:
        """What arrived, sorted by path."""
        return sorted(self._files.values(), key=lambda file: file.path)

    def read(self, file: ReceivedFile) -> bytes:
        """The bytes of one of `files` that is here."""
        self._spool.seek(file.offset)
        return self._spool.read(file.bytes)

    def skipped(self) -> tuple[Skipped, ...]:
        """What was left out so far, sorted by path."""
        return self._skips.sorted()


def _mib(size: int) -> str:
    return f"{size // 2**20} MiB" if size >= 2**20 else f"{size} bytes"
