"""governance_events.jsonl: every event of the ledger as a line, once, whoever recorded it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from djp_governance.events import Event
    from djp_governance.ports import EventStore

_BATCH = 500
_TAIL_BYTES = 1 << 16  # longer than any line


class EventLog:
    """A copy of the events beside the ledger. Several processes may keep one file: each line is written by one."""

    def __init__(self, path: Path, events: EventStore) -> None:
        self._path = path
        self._events = events
        self._written = 0

    async def flush(self) -> None:
        """Append what is in the ledger and not in the file yet, also after a crash in the middle of a line."""
        while await self._events.last_sequence() > self._written:
            try:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with FileLock(f"{self._path}.lock", timeout=0):
                    self._written = max(self._written, self._mend())
                    events = await self._events.after(self._written, None, _BATCH)
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
        lines = "".join(json.dumps(_line(event), ensure_ascii=False) + "\n" for event in events)
        with open(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
            file.write(lines)


def _line(event: Event) -> dict[str, object]:
    fields = {
        "sequence": event.sequence,
        "at": event.at.isoformat(),
        "kind": event.kind,
        "scope": event.scope,
        "tenant": event.tenant,
        "run_id": event.run_id,
        "actor": event.actor,
        "message": event.message,
    }
    return {**fields, "window": dict(event.window)} if event.window else fields
