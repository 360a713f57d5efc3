"""Refused sign-ins: counted as they come, and written to the audit once a minute, however many they are."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING

from djp.mesh.errors import Unauthenticated

if TYPE_CHECKING:
    from djp_gateway.callers import Audit

_audit = logging.getLogger("djp_gateway.audit")

_EVERY_S = 60.0
_MOST = 100
"""Kinds of refusal that are told apart within a minute; further ones are counted together."""


class RefusedError(Unauthenticated):
    """A sign-in that does not count."""

    def __init__(self, message: str, *, why: str, tenant: str = "") -> None:
        """`why`: for the audit, which may say more than the caller is told; `tenant`: whose key it would be."""
        super().__init__(message)
        self.why = why
        self.tenant = tenant


class Refusals:
    """Those that are not written yet. The first is written at once."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._counts: Counter[tuple[str, str]] = Counter()
        self._some = asyncio.Event()

    def note(self, refused: RefusedError) -> None:
        """Count one."""
        place = refused.tenant, refused.why
        self._counts[place if place in self._counts or len(self._counts) < _MOST else ("", "many kinds")] += 1
        self._some.set()

    async def keep(self) -> None:
        """Write them, until cancelled."""
        while True:
            await self._some.wait()
            await self.write()
            await asyncio.sleep(_EVERY_S)

    async def write(self) -> None:
        """Write those that there are; what cannot be written now is tried again the next time."""
        self._some.clear()
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        for (tenant, why), count in counts.items():
            _audit.warning("sign-in refused: %s%s, %d times", why, f" of tenant {tenant}" if tenant else "", count)
        try:
            await self._audit.refused(counts)
        except Exception as error:
            _audit.warning("refused sign-ins cannot be written (%s)", type(error).__name__)
            self._counts += counts
            self._some.set()
