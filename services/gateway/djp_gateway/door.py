"""The door through which runs come in: slowly for a tenant whose runs wait already, which leaves time for others."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from djp.mesh.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_PAUSES = 3.0
"""Of the time that a run took to be accepted, until the tenant's next one may come in."""
_MOST_S = 0.1
"""The longest pause: where a leaf is slow, as many callers wait for it as do."""


class Door:
    """Of one process. A tenant whose last run has to wait in the queue gains nothing from having the next one accepted
    soon: in between there is a pause. A tenant whose runs begin at once is never kept."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        """Of the tenants whose last run had to wait."""
        self._closed = False

    def close(self) -> None:
        """Who stands in a line is sent away: this gateway is about to stop."""
        self._closed = True
        for line in self._lines.values():
            line.over.set()

    @asynccontextmanager
    async def entered(self, tenant: str) -> AsyncIterator[Entry]:
        """Wait for the tenant's turn. What the block does is that one run is accepted, and it says if that waits.

        Raises:
            Unavailable: the gateway stops, and another one may take the run sooner.
        """
        if line := self._lines.get(tenant):
            await self._turn(line)
        entry, began = Entry(), time.monotonic()
        try:
            yield entry
        finally:
            if entry.waits:
                line = self._lines.setdefault(tenant, _Line())
                line.pause_s = min(_PAUSES * (time.monotonic() - began), _MOST_S)
            elif entry.waits is not None and (line := self._lines.pop(tenant, None)):
                line.over.set()

    async def _turn(self, line: _Line) -> None:
        async with line.turn:
            with suppress(TimeoutError):
                async with asyncio.timeout(line.entered_at + line.pause_s - time.monotonic()):
                    await line.over.wait()
            if self._closed:
                raise Unavailable("the gateway stops; try again", retry_after_s=1.0)
            line.entered_at = time.monotonic()


class Entry:
    """Of one run that comes in; `waits`: whether it has to wait in the queue, once that is known."""

    waits: bool | None = None


class _Line:
    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.over = asyncio.Event()
        """Set when who stands in it has no pause to wait for any more."""
        self.entered_at = time.monotonic()
        self.pause_s = 0.0
