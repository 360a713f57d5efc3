"""How much one corpus may take, and the list of what was left out for it."""

from __future__ import annotations

from dataclasses import dataclass, field

from djp.corpus_files import MAX_FILE_BYTES
from djp_grounding.model import Skipped
from djp_grounding.pdf import PdfLimits

_LISTED_CHARS = 200_000  # some 2,000 files; every answer that is kept for a repeated request holds the list


@dataclass(frozen=True)
class Limits:
    """Bytes of a file, bytes and files of a corpus, and how many seconds a builder waits for another one to finish.

    With 50,000 files, whose list takes some 8 MB, a version's documents still fit one message.
    """

    file_bytes: int = MAX_FILE_BYTES
    corpus_bytes: int = 2 * 1024 * 1024 * 1024
    files: int = 50_000
    build_wait_s: float = 60.0
    pdf: PdfLimits = field(default_factory=PdfLimits)


class SkipList:
    """Files left out. Past 200,000 characters of paths and reasons it only counts, and says so."""

    def __init__(self) -> None:
        self._listed: list[Skipped] = []
        self._chars = 0
        self._unlisted = 0

    def add(self, skipped: Skipped) -> None:
        """Adds one file, or counts it."""
        size = len(skipped.path) + len(skipped.reason)
        if self._chars + size > _LISTED_CHARS:
            self._unlisted += 1
        else:
            self._chars += size
            self._listed.append(skipped)

    def sorted(self) -> tuple[Skipped, ...]:
        """By path; a last entry without a path tells how many more there are."""
        listed = sorted(self._listed, key=lambda skipped: (skipped.path, skipped.reason))
        more = [Skipped("", f"and {self._unlisted} more files")] if self._unlisted else []
        return (*listed, *more)
