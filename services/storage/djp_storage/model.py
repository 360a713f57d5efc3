"""The words of storage: keys, artifacts, where their objects are, filters and totals."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


class Tier(StrEnum):
    """Where an artifact lives. The trash holds what was purged and can still be brought back."""

    HOT = "hot"
    WARM = "warm"
    COLD = "cold"
    TRASH = "trash"


@dataclass(frozen=True, order=True)
class ArtifactKey:
    """Names an artifact; unique for ever."""

    tenant: str
    workflow: str
    artifact: str


@dataclass(frozen=True)
class ObjectName:
    """Names the bytes of an artifact in an object store."""

    tier: Tier
    key: ArtifactKey


@dataclass(frozen=True)
class ArtifactHeader:
    """What a sender says of an artifact. `sha256` is hex; empty when the sender does not know it."""

    key: ArtifactKey
    content_type: str = ""
    sha256: str = ""
    run_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Artifact:
    """What the catalogue knows of an artifact. `size` is in bytes, `sha256` is hex, times are in UTC."""

    key: ArtifactKey
    tier: Tier
    size: int
    sha256: str
    content_type: str
    run_id: str
    tags: Mapping[str, str]
    created_at: datetime
    modified_at: datetime
    tier_since: datetime

    @property
    def object_name(self) -> ObjectName:
        """Where its bytes are."""
        return ObjectName(self.tier, self.key)

    def same_content(self, other: Artifact) -> bool:
        """Whether the two hold the same bytes and say the same of them."""
        return (self.sha256, self.content_type, self.run_id, self.tags) == (
            other.sha256,
            other.content_type,
            other.run_id,
            other.tags,
        )


@dataclass(frozen=True)
class Filter:
    """Which artifacts to list; None or an empty string leaves a condition out. The span is half-open."""

    workflow: str = ""
    tier: Tier | None = None
    run_id: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Page:
    """Some artifacts of a list, and the token of the next page (empty on the last one)."""

    artifacts: Sequence[Artifact]
    next_page_token: str


@dataclass(frozen=True)
class Total:
    """How many artifacts a tier holds, of one workflow or (empty) of all."""

    tier: Tier
    workflow: str
    count: int
    bytes: int
    oldest: datetime
