"""What grounding refuses, and with which code and reason."""

from __future__ import annotations

from djp.mesh.errors import InvalidInput, NotFound, ResourceExhausted, Unavailable


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
