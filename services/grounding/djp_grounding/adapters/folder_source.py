"""Files that tenants may make corpora from, in a folder: each tenant has a folder of its own in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.corpus_files import MAX_ENTRIES, CorpusFile, iter_corpus_files
from djp.mesh.errors import InvalidInput
from djp_grounding.importing import no_such_prefix, too_much
from djp_grounding.model import Skipped
from djp_grounding.ports import SourceFile, StoreAway

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class FolderSource:
    """A CorpusSource. Links are followed as in a folder that a client sends: to files below the prefix only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def files(self, tenant: str, prefix: str) -> Iterator[SourceFile | Skipped]:
        """Walks the folder. A link on the way to the prefix may lead to other folders of the tenant, and no further."""
        try:
            part = (self._folder / tenant).resolve()
            start = (part / prefix).resolve(strict=True)
            allowed = start.is_relative_to(part) and start.is_dir()
        except (OSError, RuntimeError, ValueError):
            allowed = False
        if not allowed:
            if not self._folder.is_dir():
                raise StoreAway(f"the folder {self._folder} cannot be used; see DJP_GROUNDING_SOURCE")
            raise no_such_prefix(prefix)
        try:
            entries = iter_corpus_files(start)
        except InvalidInput:  # may not be listed; its text would name a folder of this machine
            raise no_such_prefix(prefix) from None
        try:
            for entry in entries:
                if isinstance(entry, CorpusFile):
                    yield SourceFile(entry.path, entry.size, entry.read)
                else:
                    yield Skipped(entry.path, entry.reason)
        except InvalidInput:
            raise too_much(prefix, MAX_ENTRIES) from None
