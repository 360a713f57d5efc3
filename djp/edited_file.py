"""A file that people edit while a service runs: whether it has changed, and nobody reads half of an edit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class EditedFile:
    """The file at `path`, as it was when this was made or `changed` last said so. It need not be there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._settled = self._signature()

    def changed(self) -> bool:
        """Whether it is another than before, once it has rested since the last call: so an edit is over."""
        signature, before = self._signature(), self._seen
        self._seen = signature
        if signature == self._settled or signature != before:
            return False
        self._settled = signature
        return True

    def _signature(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
