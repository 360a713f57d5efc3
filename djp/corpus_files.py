"""Reads the folder a corpus is made from: which files to send, and which are left out and why."""

from __future__ import annotations

import os
import stat
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from djp.mesh.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUPPORTED_SUFFIXES = (".md", ".txt", ".pdf")
MAX_FILE_BYTES = 32 * 1024 * 1024
"""A larger file is left out: far above any handbook, far below what would fill the service's memory."""
MAX_DEPTH = 64
"""Folders nested deeper are left out: no one files so deep, and the walk keeps clear of Python's stack limit."""
MAX_PATH_CHARS = 4096
"""A longer path is left out: the contract allows no longer one, nor do most systems."""
MAX_ENTRIES = 100_000
"""A folder that holds more is refused: it is a home folder or a disk, not a corpus, and walking it takes minutes."""


@dataclass(frozen=True)
class CorpusFile:
    """A file to send. `path` is relative to the folder, with `/` between the parts; `size` is in bytes, when listed."""

    path: str
    source: Path
    size: int

    def read(self) -> bytes:
        """The content, read now, at most one byte past `MAX_FILE_BYTES` if it has grown. Raises OSError."""
        with self.source.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)


@dataclass(frozen=True)
class SkippedFile:
    """A file or folder that is left out, and why, in words for the person who gave the folder."""

    path: str
    reason: str


def iter_corpus_files(folder: Path, *, field: str = "grounded_corpus") -> Iterator[CorpusFile | SkippedFile]:
    """Everything in `folder` and below, sorted by name, one folder after the other; contents are not read yet.

    A link to a file inside the folder counts as that file; every other link is left out, so no walk leaves the folder
    or goes in circles. Hidden entries are left out whole. `field` is the option to name in errors.

    Raises InvalidInput: at once when the folder is missing, is not a folder or cannot be listed; after `MAX_ENTRIES`
    files when it holds more.
    """
    root = _checked_root(folder, field)
    return _bounded(_walk(root, root, ""), folder, field)


def _bounded(
    entries: Iterator[CorpusFile | SkippedFile], folder: Path, field: str
) -> Iterator[CorpusFile | SkippedFile]:
    for number, entry in enumerate(entries):
        if number == MAX_ENTRIES:
            message = f"holds more than {MAX_ENTRIES:,} files; give the folder that holds the documents only"
            raise InvalidInput(f"{field}: folder {printable(str(folder))} {message}", field=field)
        yield entry


def _checked_root(folder: Path, field: str) -> Path:
    shown = printable(str(folder))
    try:
        root = folder.resolve(strict=True)
        if not root.is_dir():
            raise InvalidInput(f"{field}: {shown} is a file; give the folder that holds it", field=field)
        with os.scandir(root):
            return root
    except FileNotFoundError:
        raise InvalidInput(f"{field}: folder {shown} does not exist; check the path", field=field) from None
    except PermissionError:
        message = (
            f"{field}: folder {shown} may not be read by this user; give it read and search permission (chmod u+rx)"
        )
        raise InvalidInput(message, field=field) from None
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links; a path with a NUL byte
        raise InvalidInput(f"{field}: folder {shown} cannot be opened ({error}); check the path", field=field) from None


def _walk(root: Path, folder: Path, prefix: str) -> Iterator[CorpusFile | SkippedFile]:
    if prefix.count("/") > MAX_DEPTH:
        yield SkippedFile(prefix.rstrip("/"), f"nested deeper than {MAX_DEPTH} folders")
        return
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError as error:
        yield SkippedFile(prefix.rstrip("/"), f"folder cannot be read: {error.strerror}")
        return
    for name in names:
        path = prefix + printable(name)
        source = folder / name
        if len(path) > MAX_PATH_CHARS:
            yield SkippedFile(path[:MAX_PATH_CHARS], f"path longer than {MAX_PATH_CHARS} characters")
            continue
        if name.startswith("."):
            yield SkippedFile(path, "hidden: its name starts with a dot")
            continue
        try:
            found = source.lstat()
            if stat.S_ISDIR(found.st_mode):
                yield from _walk(root, source, path + "/")
            else:
                yield _judge(root, source, path, found)
        except (OSError, RuntimeError) as error:
            yield SkippedFile(path, f"cannot be read: {getattr(error, 'strerror', None) or error}")


def _judge(root: Path, source: Path, path: str, found: os.stat_result) -> CorpusFile | SkippedFile:
    if stat.S_ISLNK(found.st_mode):
        target = source.resolve(strict=True)
        if not target.is_relative_to(root):
            return SkippedFile(path, "symbolic link out of the folder")
        if target.is_dir():
            return SkippedFile(path, "symbolic link to a folder")
        source, found = target, target.stat()
    if not stat.S_ISREG(found.st_mode):
        return SkippedFile(path, "not a regular file")
    if reason := unusable(path, found.st_size):
        return SkippedFile(path, reason)
    with source.open("rb"):  # permission bits alone do not tell: ACLs, network mounts
        return CorpusFile(path, source, found.st_size)


def unusable(path: str, size: int) -> str:
    """Why a file of this path and size in bytes cannot be in any corpus; empty when it may."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in SUPPORTED_SUFFIXES:
        kind = f"type {suffix!r} is not supported" if suffix else "a name without a type is not supported"
        return f"{kind}: only {', '.join(SUPPORTED_SUFFIXES)} are read"
    if size == 0:
        return "empty"
    if size > MAX_FILE_BYTES:
        return f"larger than {MAX_FILE_BYTES // 2**20} MiB: split it"
    return ""


def printable(name: str) -> str:
    """A file name on one line of valid Unicode, to be sent and shown.

    Bytes that are not UTF-8, line breaks and other control characters become visible escapes.
    """
    valid = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if valid.isprintable():
        return valid
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char
        for char in valid
    )
