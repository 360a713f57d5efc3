"""A service's events as lines of JSON in a file: every event of the database once, whoever recorded it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

_BATCH = 500
_TAIL_BYTES = 1 << 16  # longer than any line


class _Numbered(Protocol):
    @property
    def sequence(self) -> int: ...


Event = TypeVar("Event", bound=_Numbered)


class EventLog(Generic[Event]):
    """A copy of events beside their database. Several processes may keep one file: each line is written by one."""

    def __init__(
        self,
        path: Path,
        last_sequence: Callable[[], Awaitable[int]],
        after: Callable[[int, int], Awaitable[Sequence[Event]]],
        line: Callable[[Event], Mapping[str, object]],
    ) -> None:
        """`after` gives the events behind a sequence, in their order, so many at most; `line` what a line says."""
        self._path = path
        self._last_sequence = last_sequence
        self._after = after
        self._line = line
        self._written = 0

    async def flush(self) -> None:
        """Append what is in the database and not in the file yet, also after a crash in the middle of a line."""
        while await self._last_sequence() > self._written:
            try:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with FileLock(f"{self._path}.lock", timeout=0):
                    self._written = max(self._written, self._mend())
                    events = await self._after(self._written, _BATCH)
                    if not events:
                        return
                    self._append(events)
                    self._written = events[-1].sequence
            except Timeout:
                return  # another process is at it

    def _mend(self) -> int:
        """Cut off half a line, and give the last sequence of the file; 0 where there is none."""
        if not self._path.exists():
            return 0
        with self._path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            start = file.seek(max(0, size - _TAIL_BYTES))
            tail = file.read()
            whole = tail[: tail.rfind(b"\n") + 1]
            if len(whole) < len(tail):
                file.truncate(start + len(whole))
        for line in reversed(whole.splitlines()):
            try:
                return int(json.loads(line)["sequence"])
            except (ValueError, KeyError, TypeError):
                continue  # cut in front, or not ours
        return 0

    def _append(self, events: Sequence[Event]) -> None:
        lines = "".join(json.dumps(self._line(event), ensure_ascii=False) + "\n" for event in events)
        with open(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
            file.write(lines)
