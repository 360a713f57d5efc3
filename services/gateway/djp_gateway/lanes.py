"""Tenants that are slowed: their runs start after everybody else's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import timedelta


class Lanes:
    """While a tenant is slowed, its runs wait for as long as anybody else's do.

    That is how a tenant whose budget is nearly used up slows down: nothing is lost, and nobody waits for it.
    """

    def __init__(self) -> None:
        self._slowed: dict[str, float] = {}  # tenant -> until when, by the loop's clock

    def slow(self, tenant: str, pace: timedelta) -> None:
        """From now on, and for as long as `pace`, the tenant's runs wait behind those of the others."""
        if pace:
            self._slowed[tenant] = asyncio.get_running_loop().time() + pace.total_seconds()

    def slowed(self) -> Collection[str]:
        """The tenants that are slowed now."""
        now = asyncio.get_running_loop().time()
        self._slowed = {tenant: until for tenant, until in self._slowed.items() if until > now}
        return self._slowed.keys()
