"""How many streams a tenant may keep open at this gateway."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from djp.mesh.errors import ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djp.mesh.identity import Identity

_AGAIN_S = 5.0
"""Nobody knows when a stream ends; so often a caller may ask whether one has."""


class StreamBound:
    """Counts the open streams of each tenant."""

    def __init__(self, most: int) -> None:
        """`most`: streams that one tenant may have open."""
        self._most = most
        self._open = Counter[str]()

    @contextmanager
    def __call__(self, identity: Identity) -> Iterator[None]:
        """A stream of that caller's is open for as long as the block lasts.

        Raises:
            ResourceExhausted: its tenant has as many as it may.
        """
        tenant = identity.tenant
        if self._open[tenant] >= self._most:
            raise ResourceExhausted(
                f"tenant {tenant} has {self._most} streams open at this gateway and may have no more "
                "(DJP_PER_TENANT_MAX_STREAMS); end one, or wait until one ends",
                reason="RATE_LIMITED",
                retry_after_s=_AGAIN_S,
            )
        self._open[tenant] += 1
        try:
            yield
        finally:
            self._open[tenant] -= 1
            if not self._open[tenant]:
                del self._open[tenant]
