"""What Prometheus is told of redaction: findings by type, and how much was searched for them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client import Counter

CUSTOM = "custom"
"""The label of all types that no rule of the deployment has: tenants choose them, and could name anybody in them."""


class FindingMetrics:
    """Counts findings under the types that the deployment's own rules have, and all others together."""

    def __init__(self, types: Iterable[str]) -> None:
        self._types = frozenset(types)
        self._findings = _findings()
        _searched()

    def found(self, counts: Mapping[str, int]) -> None:
        """Adds what was found in a text, by type."""
        for type_, count in counts.items():
            self._findings.labels(type_ if type_ in self._types else CUSTOM).inc(count)


@functools.cache
def _findings() -> Counter:
    """One for the whole process, for a metric's name can be taken once."""
    from prometheus_client import Counter

    return Counter("djp_redaction_findings_total", "Personal data and secrets replaced, by type.", ["type"])


@functools.cache
def _searched() -> None:
    from prometheus_client import Gauge

    from djp_redaction._engine import reads

    told = "How often rules read bytes of texts: most some times, those of texts made to be slow up to 128 times."
    Gauge("djp_redaction_searched_bytes", told).set_function(reads)
