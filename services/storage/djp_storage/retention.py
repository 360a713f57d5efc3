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
class Branch:
    """One of the queries that find what is due: what has been in a tier, or (no tier) has existed, since `before`.

    `tenant` names the only one; empty: all but those in `without`. Where it leads to the trash or further, what is
    under a legal hold is left out.
    """

    from_tier: Tier | None
    to_tier: Tier | None
    before: datetime
    tenant: str
    without: tuple[str, ...] = ()

    @property
    def spares_held(self) -> bool:
        """Whether it is to leave out what is held."""
        return self.to_tier not in (Tier.WARM, Tier.COLD)


@dataclass
class Retention:
    """Everybody's days, those of some tenants, and the greatest share of a tenant that one run purges unasked.

    The tenants are replaced when their file changes; a run goes by those of its beginning.
    """

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

    def branches(self, now: datetime, tenant: str) -> list[Branch]:
        """What to look for, of one tenant or of all for an empty name; what is too old at all comes first."""
        found = []
        if tenant:
            groups: list[tuple[str, tuple[str, ...]]] = [(tenant, ())]
        else:
            groups = [("", tuple(sorted(self.tenants))), *((name, ()) for name in sorted(self.tenants))]
        for name, without in groups:
            days = self.of(name)
            if days.kept:
                found.append(Branch(None, Tier.TRASH, now - timedelta(days=days.kept), name, without))
            found += [Branch(tier, to, now - days.of(tier), name, without) for tier, to in NEXT.items()]
        return sorted(found, key=lambda one: (one.from_tier is not None, list(Tier).index(one.from_tier or Tier.HOT)))
