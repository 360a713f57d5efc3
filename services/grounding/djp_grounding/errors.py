"""What grounding refuses, and with which code and reason."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from djp import data_folder
from djp.mesh.errors import InvalidInput, NotFound, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class CorpusNotFound(NotFound):
    """No corpus, or no version of it, by that name."""


class CorpusEmpty(InvalidInput):
    """None of the files could become a document."""

    reason = "CORPUS_EMPTY"


class CorpusBusy(Unavailable):
    """Another builder holds the corpus."""

    reason = "CORPUS_BUSY"


class ContentMissing(Exception):  # noqa: N818  no error: the sender offered hashes to be told this
    """Files that were offered by their hashes, and whose content is needed."""

    def __init__(self, paths: Sequence[str]) -> None:
        super().__init__(f"the content of {len(paths)} files is needed")
        self.paths = paths


@contextmanager
def folder_errors(folder: Path) -> Iterator[None]:
    """Names the remedy when the system refuses to read or write below `folder`, grounding's data folder.

    tantivy tells of such a refusal in a ValueError with the system's words. Raises what `djp.data_folder` raises.
    """
    with data_folder.folder_errors(folder, "DJP_GROUNDING_DATA_DIR"):
        try:
            yield
        except ValueError as error:
            if "No space left" in str(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            if "IoError" in str(error):
                raise OSError(errno.EIO, "reading or writing failed") from error
            raise
