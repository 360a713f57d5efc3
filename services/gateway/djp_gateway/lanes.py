"""How many runs are in work at once, and in which order the others get their turn."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import timedelta


class Lanes:
    """First come, first served; but while a tenant is slowed, its runs wait for as long as anybody else's do.

    That is how a tenant whose budget is nearly used up slows down: nothing is lost, and nobody waits for it.
    """

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._slowed: dict[str, float] = {}  # tenant -> until when, by the loop's clock

    def slow(self, tenant: str, pace: timedelta) -> None:
        """From now on, and for as long as `pace`, the tenant's runs wait behind those of the others."""
        if pace:
            now = asyncio.get_running_loop().time()
            self._slowed = {one: until for one, until in self._slowed.items() if until > now}
            self._slowed[tenant] = now + pace.total_seconds()

    @asynccontextmanager
    async def turn(self, tenant: str) -> AsyncIterator[None]:
        """A run of the tenant is in work for as long as the block lasts, which begins when its turn has come."""
        mine = asyncio.get_running_loop().create_future()
        self._waiting.append((tenant, mine))
        self._fill()
        try:
            await mine
            yield
        finally:
            if mine.cancelled():  # while it waited
                self._waiting = [one for one in self._waiting if one[1] is not mine]
            else:
                self._free += 1
                self._fill()

    def _fill(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._free and self._waiting:
            first = min(self._waiting, key=lambda one: self._slowed.get(one[0], 0.0) > now)
            self._waiting.remove(first)
            if not first[1].cancelled():
                self._free -= 1
                first[1].set_result(None)
