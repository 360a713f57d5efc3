"""What grounding refuses, and with which code and reason."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from djp.mesh.errors import FailedPrecondition, InvalidInput, NotFound, ResourceExhausted, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class CorpusNotFound(NotFound):
    """No corpus, or no version of it, by that name."""


class CorpusEmpty(InvalidInput):
    """None of the files could become a document."""

    reason = "CORPUS_EMPTY"


class CorpusBusy(Unavailable):
    """Another builder holds the corpus."""

    reason = "CORPUS_BUSY"


class DiskFull(ResourceExhausted):
    """The data folder has no room for the index."""

    reason = "DISK_FULL"


class DataFolderUnusable(FailedPrecondition):
    """The data folder, or something in it, cannot be read or written."""


@contextlib.contextmanager
def folder_errors(folder: Path) -> Iterator[None]:
    """Names the remedy when the system refuses to read or write below `folder`.

    tantivy reports such refusals as a ValueError in the system's words. Raises DiskFull, DataFolderUnusable.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            message = f"the disk that holds {folder} is full; free some space and try again; nothing was lost"
            raise DiskFull(message) from error
        if isinstance(error, OSError) or "IoError" in str(error):
            cause = getattr(error, "strerror", None) or "reading or writing failed"
            message = f"data folder {folder} cannot be used ({cause}); mend its permissions and limits, or name another"
            raise DataFolderUnusable(message) from error
        raise
