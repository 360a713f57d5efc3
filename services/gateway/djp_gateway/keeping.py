"""Executors that watch over each other: each shows that it lives, and the runs of one that does not are taken over."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from djp_gateway.patience import to_the_end

if TYPE_CHECKING:
    from collections.abc import Callable

    from djp_gateway.ports import RunQueue

_log = logging.getLogger(__name__)

_BEATS = 4
"""In the time after which an executor that shows no life is taken for dead."""
_LOOKS = 10
"""At the others, in that time."""


class Keeper:
    """One executor's part in it. Nobody's clock is compared with another's: what counts is how long a beat stayed the
    same while this process was there to see it."""

    def __init__(self, queue: RunQueue, executor: str, *, silence_s: float, taken: Callable[[int], None]) -> None:
        """`taken` is told how many runs it took over."""
        self._queue = queue
        self._executor = executor
        self._silence_s = silence_s
        self._taken = taken
        self._seen: dict[str, tuple[int, float]] = {}
        """By executor, its last beat and when this process first saw it, by the loop's clock."""

    async def begin(self, *, alone: bool) -> None:
        """Take over what an earlier process of the same name left; `alone`, what any left, for no other can live."""
        await self._queue.beat(self._executor)
        left = {*(await self._queue.beats() if alone else ()), self._executor}
        for executor in sorted(left):
            await self._take_from(executor, None)

    async def beat(self) -> None:
        """Show that this executor lives, until cancelled."""
        while True:
            await asyncio.sleep(self._silence_s / _BEATS)
            try:
                await to_the_end(self._queue.beat(self._executor))
            except Exception as error:
                _log.warning("the gateway cannot show that it lives (%s); trying again", type(error).__name__)

    async def look(self) -> None:
        """Take over the runs of executors that show no life any more, until cancelled."""
        while True:
            try:
                await to_the_end(self._look())
            except Exception as error:
                self._seen.clear()  # nobody could show anything, either
                _log.warning("other gateways cannot be watched (%s); trying again", type(error).__name__)
            await asyncio.sleep(self._silence_s / _LOOKS)

    async def _look(self) -> None:
        now, beats = asyncio.get_running_loop().time(), await self._queue.beats()
        before = self._seen
        self._seen = {}
        for executor, beat in beats.items():
            if executor == self._executor:
                continue
            known, since = before.get(executor, (beat, now))
            if known != beat:
                since = now
            self._seen[executor] = beat, since
            if now - since >= self._silence_s:
                del self._seen[executor]
                await self._take_from(executor, beat)

    async def _take_from(self, executor: str, beat: int | None) -> None:
        taken = await self._queue.take_from(executor, beat, taker=self._executor)
        if taken:
            _log.warning("%d runs of gateway %r, which shows no life, go on here or elsewhere", taken, executor)
            self._taken(taken)
