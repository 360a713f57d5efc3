"""The folder that a service keeps its data in: what the system refuses there, told with the remedy."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from djp.mesh.errors import DiskFull, FailedPrecondition, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from djp.mesh.errors import DjpError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_BUSY = {errno.EMFILE, errno.ENFILE}
_IN_THE_WAY = {errno.ELOOP, errno.ENOTDIR, errno.EEXIST}


def make_data_folder(folder: Path, setting: str) -> None:
    """Make the folder, and those above it that are missing, for this user only; a power cut does not undo it.

    Raises what `folder_errors` raises.
    """
    with folder_errors(folder, setting):
        for one in reversed([folder, *folder.parents]):
            if not one.exists():
                one.mkdir(mode=0o700, exist_ok=True)
                sync_folder(one.parent)
        folder.mkdir(exist_ok=True)  # refuses what is there and is no folder


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder survive a power cut. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def folder_errors(folder: Path, setting: str) -> Iterator[None]:
    """Turns an OSError of whatever is done in the folder, which the variable `setting` names, into an error for people.

    Raises DiskFull, Unavailable (too many open files), FailedPrecondition.
    """
    try:
        yield
    except OSError as error:
        known = _error_for_people(error, folder, setting)
        known.outside = "the disk is full" if isinstance(known, DiskFull) else "its data folder cannot be used now"
        raise known from error


def _error_for_people(error: OSError, folder: Path, setting: str) -> DjpError:
    cause = error.strerror or "reading or writing failed"
    if error.errno in _FULL:
        return DiskFull(f"disk full: no room in {folder} ({cause}); free some space and try again; nothing was lost")
    if error.errno in _BUSY:
        return Unavailable("too many files are open at once; try again", retry_after_s=1.0)
    if error.errno == errno.ENOENT:
        return FailedPrecondition(
            f"data folder {folder}, or a folder in it, was taken away; bring it back, and start the service again"
        )
    if error.errno in _IN_THE_WAY:
        return FailedPrecondition(
            f"data folder {folder} cannot be used: a link, or a file where a folder belongs, is in the way of "
            f"{error.filename} ({cause}); move it away, or name another folder in {setting}"
        )
    return FailedPrecondition(
        f"data folder {folder} cannot be used ({cause}); mend its permissions, or name another folder in {setting}"
    )
