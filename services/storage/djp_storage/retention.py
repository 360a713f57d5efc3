"""How long artifacts stay in each tier, for everybody and for tenants with a retention of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from djp_storage.model import Tier

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from djp_storage.model import Artifact

NEXT: Mapping[Tier, Tier | None] = {Tier.HOT: Tier.WARM, Tier.WARM: Tier.COLD, Tier.COLD: Tier.TRASH, Tier.TRASH: None}
"""Where the lifecycle moves an artifact from a tier; None: it is erased."""


@dataclass(frozen=True)
class Days:
    """Days in each tier before the next, and (0: no end) days after its creation that an artifact is kept at all."""

    hot: float = 7
    warm: float = 30
    cold: float = 90
    trash: float = 30
    kept: float = 0

    def of(self, tier: Tier) -> timedelta:
        """How long an artifact stays in a tier."""
        days: float = getattr(self, tier.value)
        return timedelta(days=days)


@dataclass(frozen=True)
class Retention:
    """Everybody's days, those of some tenants, and the greatest share of a tenant that one run purges unasked."""

    days: Days = field(default_factory=Days)
    tenants: Mapping[str, Days] = field(default_factory=dict)
    purge_share: float = 0.25

    def of(self, tenant: str) -> Days:
        """A tenant's days."""
        return self.tenants.get(tenant, self.days)

    def due_at(self, artifact: Artifact, *, held: bool) -> datetime | None:
        """When the lifecycle moves it next; None when it will not. What is held is neither purged nor erased."""
        days = self.of(artifact.key.tenant)
        due = artifact.tier_since + days.of(artifact.tier)
        if held:
            return due if artifact.tier in (Tier.HOT, Tier.WARM) else None
        if days.kept and artifact.tier is not Tier.TRASH:
            due = min(due, artifact.created_at + timedelta(days=days.kept))
        return due
