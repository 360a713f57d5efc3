"""How often a caller may call: limits that all gateways count together, taken from in lots, so that a call is cheap."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

from djp.mesh.errors import ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from djp_gateway.callers import RateStore

_TAKINGS_A_MINUTE = 120
"""Calls are taken in lots from the limit that all gateways share, so that a caller costs so many updates of the store a
minute, however large its limit is."""
_LOT_S = 60.0 / _TAKINGS_A_MINUTE
_MOST_KNOWN = 10_000


@dataclass
class Allowance:
    """What this gateway has taken of one caller's limit."""

    left: int = 0
    """Calls of the lot that was taken last."""
    taken_at: float = 0.0
    room_at: float = 0.0
    """When the limit has room again."""
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def call(self, take: Callable[[int, int], Awaitable[float]], a_minute: int, who: str) -> None:
        """Count a call. `take` counts so many of so many a minute for all gateways: 0, or the seconds until there is
        room for one; `who`, for people.

        Raises:
            ResourceExhausted: the caller has called too often.
        """
        async with self.taking:
            now = asyncio.get_running_loop().time()
            if not self.left or now - self.taken_at > _LOT_S:
                self.left = 0
                lots = {max(1, a_minute // _TAKINGS_A_MINUTE), 1} if now >= self.room_at else ()
                for calls in sorted(lots, reverse=True):
                    wait_s = await take(calls, a_minute)
                    if not wait_s:
                        self.left, self.taken_at = calls, now
                        break
                    self.room_at = now + wait_s
            if not self.left:
                raise ResourceExhausted(
                    f"{who} may be used {a_minute} times a minute, at all gateways together; wait, or ask an admin for "
                    "more",
                    reason="RATE_LIMITED",
                    retry_after_s=self.room_at - now,
                )
            self.left -= 1


class TokenRates:
    """The limit that every subject of a tenant has, by whichever of its tokens it calls."""

    def __init__(self, store: RateStore, a_minute: int) -> None:
        """`a_minute`: calls; 0: as many as it likes."""
        self._store = store
        self._a_minute = a_minute
        self._known: OrderedDict[str, Allowance] = OrderedDict()

    async def count(self, tenant: str, subject: str) -> None:
        """Count a call.

        Raises:
            ResourceExhausted: the subject has called too often.
        """
        if not self._a_minute:
            return
        caller = sha256(f"{tenant} {subject}".encode()).hexdigest()  # no tenant has a space in its name
        allowance = self._known.setdefault(caller, Allowance())
        self._known.move_to_end(caller)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        await allowance.call(partial(self._store.take, caller), self._a_minute, "tokens of one subject")
