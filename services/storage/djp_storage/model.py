"""The words of storage: keys, artifacts, where their objects are, filters and totals."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


class Tier(StrEnum):
    """Where an artifact lives. The trash holds what was purged and can still be brought back."""

    HOT = "hot"
    WARM = "warm"
    COLD = "cold"
    TRASH = "trash"


KEPT = (Tier.HOT, Tier.WARM, Tier.COLD)
"""The tiers of what was not purged."""


BATCH_DIGITS = 6
"""Of an object's id: those with which the ids of its batch begin."""


@dataclass(frozen=True, order=True)
class ArtifactKey:
    """Names an artifact; unique for ever."""

    tenant: str
    workflow: str
    artifact: str


@dataclass(frozen=True)
class ObjectName:
    """Names some bytes in an object store.

    Every copy that is ever made of an artifact has an `object_id` of its own (12 hex digits), so that whoever removes
    an object can never hit another one. Artifacts of the first release have an empty one.
    """

    tier: Tier
    key: ArtifactKey
    object_id: str = ""

    @property
    def batch(self) -> ObjectName:
        """All objects of its tier, tenant and workflow whose ids begin alike: so many are announced at once.

        A batch is a name without an artifact, and its own batch.
        """
        return ObjectName(self.tier, replace(self.key, artifact=""), self.object_id[:BATCH_DIGITS])

    @property
    def is_batch(self) -> bool:
        """No artifact has an empty name."""
        return not self.key.artifact


@dataclass(frozen=True)
class ArtifactHeader:
    """What a sender says of an artifact. `sha256` is hex; empty when the sender does not know it.

    `created_at` is set when it comes out of an archive; otherwise it is created now.
    """

    key: ArtifactKey
    content_type: str = ""
    sha256: str = ""
    run_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    created_at: datetime | None = None


@dataclass(frozen=True)
class Artifact:
    """What the catalogue knows of an artifact. `size` is in bytes, `sha256` is hex, times are in UTC.

    Size and hash are of the content; `encoding` says how its object has it: as it is (empty) or as `zstd`. `came_from`
    is the tier from which it went to the trash; None elsewhere. `hold` is the artifact's own legal hold.
    """

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
    object_id: str = ""
    encoding: str = ""
    came_from: Tier | None = None
    hold: bool = False

    @property
    def object_name(self) -> ObjectName:
        """Where its bytes are."""
        return ObjectName(self.tier, self.key, self.object_id)

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
    """How many artifacts of a tenant a tier holds, of one workflow or (empty) of all."""

    tier: Tier
    tenant: str
    workflow: str
    count: int
    bytes: int
    oldest: datetime


@dataclass(frozen=True)
class RequestKey:
    """What makes a request of a tenant itself: its id, and a hash of all that it asks for."""

    tenant: str
    request_id: str
    sha256: str


@dataclass(frozen=True)
class By:
    """Who does something, why, and when; goes into the event."""

    actor: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class Event:
    """One entry of the audit trail. `action` is for example `promoted_to_warm` or `purged_from_cold`."""

    sequence: int
    at: datetime
    actor: str
    action: str
    key: ArtifactKey
    from_tier: Tier | None
    to_tier: Tier | None
    reason: str


class Maker(NamedTuple):
    """A process that makes objects, and when it was last heard of, in microseconds since 1970 by its own clock."""

    worker: str
    heard_us: int


@dataclass(frozen=True)
class Stored:
    """An object as its store lists it. `path` is its name within the tier's folder or bucket."""

    tier: Tier
    path: str
    size: int
    modified_at: datetime


@dataclass(frozen=True)
class Job:
    """One lifecycle run. `tenant` is empty for all; counts are of artifacts. `stopped`: it ended before it was done."""

    job_id: str
    tenant: str
    started_at: datetime
    finished_at: datetime | None
    live: bool
    to_warm: int = 0
    to_cold: int = 0
    to_trash: int = 0
    erased: int = 0
    bytes_moved: int = 0
    errors: int = 0
    stopped: bool = False
