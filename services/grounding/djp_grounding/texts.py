"""The passages of an index, one after the other in files of their own: what is not asked for is never in memory.

passages.START                          records from the offset START on; the next file goes on where it ends
"""

from __future__ import annotations

import os
import shutil
import struct
import weakref
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from djp_grounding.model import Passage
from djp_grounding.passages import PASSAGE_BYTES

if TYPE_CHECKING:
    from pathlib import Path

_NAME = "passages."
_HEAD = struct.Struct("<QIIIII")  # document, ordinal, page, start, end, bytes of the text
_AT_ONCE = _HEAD.size + PASSAGE_BYTES  # the longest record
_FILES = 4  # an index that was changed so often gets them in one: each open index holds them open


class Record(NamedTuple):
    """A passage with the key of its document."""

    document: int
    passage: Passage


class TextWriter:
    """Adds passages to those of a folder, in a new file. Every method raises OSError."""

    def __init__(self, folder: Path) -> None:
        known = text_files(folder)
        if len(known) >= _FILES:
            _join(known)
        self._at = sum(file.stat().st_size for file in text_files(folder))
        self._path = folder / f"{_NAME}{self._at:020d}"
        self._file = self._path.open("wb")

    def add(self, document: int, passage: Passage) -> int:
        """The place under which the passage is read."""
        text = passage.text.encode()
        place = self._at
        self._file.write(_HEAD.pack(document, passage.ordinal, passage.page, passage.start, passage.end, len(text)))
        self._file.write(text)
        self._at += _HEAD.size + len(text)
        return place

    def finish(self) -> None:
        """Everything is on disk; nothing more is added."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self.close()
        if not self._path.stat().st_size:
            self._path.unlink()

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()


class TextReader:
    """Reads passages by their places. Safe for many threads; usable after the folder is gone."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError or ValueError."""
        self._starts: list[int] = []
        self._files: list[int] = []
        weakref.finalize(self, _close, self._files)
        for path in text_files(folder):
            self._starts.append(int(path.name.removeprefix(_NAME)))
            self._files.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def read(self, place: int) -> Record:
        """The passage that was added there."""
        number = bisect_right(self._starts, place) - 1
        file, at = self._files[number], place - self._starts[number]
        found = os.pread(file, _AT_ONCE, at)
        document, ordinal, page, start, end, size = _HEAD.unpack_from(found)
        text = found[_HEAD.size : _HEAD.size + size]
        return Record(document, Passage(ordinal, page, start, end, text.decode()))


def _close(files: list[int]) -> None:
    for file in files:
        os.close(file)


def text_files(folder: Path) -> list[Path]:
    """The files of a folder, in the order of what they hold."""
    return sorted(folder.glob(f"{_NAME}*"))


def _join(files: list[Path]) -> None:
    """All in one file, in place of the links to files that other versions have, too."""
    joined = files[0].with_name("joining")
    with joined.open("wb") as whole:
        for file in files:
            with file.open("rb") as part:
                shutil.copyfileobj(part, whole)
        whole.flush()
        os.fsync(whole.fileno())
    for file in files:
        file.unlink()
    joined.rename(files[0])
