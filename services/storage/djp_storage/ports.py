"""What storage needs: a place that keeps bytes, and a catalogue of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from djp_storage.model import (
        Artifact,
        ArtifactKey,
        By,
        Event,
        Filter,
        Job,
        Maker,
        ObjectName,
        Page,
        RequestKey,
        Stored,
        Tier,
        Total,
    )
    from djp_storage.retention import Branch


class Upload(Protocol):
    """Bytes on their way in, not to be seen yet."""

    @property
    def size(self) -> int:
        """Bytes written so far."""

    @property
    def sha256(self) -> str:
        """Hex, of the bytes written so far."""

    async def write(self, chunk: bytes) -> None:
        """Append bytes. Raises DiskFull."""

    async def place(self, description: str) -> None:
        """Make the object visible, whole and with its description; return when it survives a power cut."""


class ObjectStore(Protocol):
    """Objects by name, each written once and whole, each with a description beside its bytes.

    A description is a short text from which the catalogue can be made again (see description.py). Memory is bounded
    both ways, whatever the size. Every adapter passes tests/storage/test_storage_store.py.
    """

    def upload(self, name: ObjectName) -> AbstractAsyncContextManager[Upload]:
        """Take bytes in; those that were not placed when the block ends are gone."""

    def read(self, name: ObjectName) -> AsyncGenerator[bytes, None]:
        """The object in chunks; an empty object has none. Raises ObjectMissing."""

    async def copy(self, source: ObjectName, target: ObjectName, description: str) -> None:
        """Make a second object of the same bytes, durably, without reading them here if possible.

        May be done again. Raises ObjectMissing, DiskFull.
        """

    async def remove(self, name: ObjectName) -> None:
        """Remove an object, what a half upload of it left, and its description; what is not there is no error."""

    async def made(self, batch: ObjectName) -> Sequence[ObjectName]:
        """The objects of a batch, those among them of which there is a part only."""

    async def abandon(self, name: ObjectName) -> None:
        """Remove what cannot be seen of an upload whose process has died. Nobody may be making the object."""

    def location(self, name: ObjectName) -> str:
        """Where the object is, for people: a file path or an address."""

    def path(self, name: ObjectName) -> str:
        """The object's name within its tier, as `objects` lists it."""

    def objects(self, tier: Tier) -> AsyncGenerator[Stored, None]:
        """Every object of a tier, in the order of their paths."""

    async def description(self, tier: Tier, path: str) -> str:
        """What was placed with the object; empty if it has none. Raises ObjectMissing."""

    async def clean(self) -> int:
        """Remove what uploads of dead processes left behind in a folder; returns how many there were."""

    async def close(self) -> None:
        """Let go of threads and connections."""


class Catalogue(Protocol):
    """Which artifacts there are, and which objects may exist beside theirs.

    What it says exists has its object. An object that is not (yet, or any more) the one of an artifact is a *stray*,
    and the catalogue knows it before it exists: by its own name, or by that of its batch, which the worker, the process
    that makes it, has announced. What belongs to nobody, or to a worker that is dead, is removed by whoever finds it;
    of a batch, that is what is no artifact's.

    Changes with a RequestKey may be repeated: the same key gives the first answer. They raise RequestIdReused when the
    id came with another body.
    """

    async def announce(self, worker: str, batch: ObjectName, now: datetime) -> bool:
        """Tell that the worker is about to make objects of a batch, as nobody else may: whatever else exists of it is a
        stray from now on. False if the batch is another one's, or the worker was taken for dead and has to `beat`."""

    async def add(self, artifact: Artifact, request: RequestKey, by: By) -> Artifact:
        """Enter a new artifact, whose object's batch is a worker's; or find the same one entered before.

        Returns what the catalogue now has: if that is another object, the new one is still a stray. One that was purged
        comes back; one that was erased may come back, with the content that it had. Raises AlreadyExists, and
        Unavailable when the batch is nobody's any more.
        """

    async def get(self, key: ArtifactKey) -> Artifact:
        """Raises NotFound, which tells of an artifact that was erased when that was."""

    async def list(self, tenant: str, wanted: Filter, *, size: int, token: str, largest_first: bool) -> Page:
        """A page of at most `size` artifacts, newest or largest first. Raises InvalidInput for a bad token."""

    async def totals(self, tenant: str | None, *, by_workflow: bool) -> Sequence[Total]:
        """What each tier holds of a tenant, or of each tenant for None, or each workflow in it; nothing for what is
        empty."""

    async def answered(self, request: RequestKey, key: ArtifactKey) -> tuple[Artifact | None, Artifact]:
        """The first answer to a request, if there is one, and the artifact. Raises NotFound."""

    async def answer(self, request: RequestKey, artifact: Artifact, by: By) -> Artifact:
        """Remember an answer that needed no change; gives the first one."""

    async def move(self, was: Artifact, now: Artifact, action: str, by: By, request: RequestKey | None) -> Artifact:
        """Let the artifact be at its new object, as `add` does; the old object becomes nobody's stray.

        Gives the first answer to the request. Raises Moved when the artifact is not what it was, LegalHold when it goes
        to the trash and is held, NotFound.
        """

    async def erase(self, artifact: Artifact, by: By) -> None:
        """Leave a tombstone only; the object becomes nobody's stray. Raises Moved, LegalHold."""

    async def hold(self, key: ArtifactKey, hold: bool, by: By, request: RequestKey) -> None:
        """Set or lift the legal hold of an artifact, or, where the key names none, of the tenant. Raises NotFound."""

    async def held_tenants(self) -> Collection[str]:
        """Those under a legal hold, as of a moment ago: good enough to tell, and to refuse early."""

    async def release(self, worker: str, names: Sequence[ObjectName]) -> None:
        """These strays of the worker are nobody's now: of a batch nothing can be entered any more."""

    async def strays(self, limit: int) -> Sequence[ObjectName]:
        """Strays of nobody, oldest first."""

    async def strays_of(self, worker: str) -> Sequence[ObjectName]:
        """A worker's strays."""

    async def makers(self, worker: str) -> Collection[Maker]:
        """The other workers, dead or alive, that have strays."""

    async def turn_out(self, name: ObjectName, now: datetime) -> None:
        """The object, which is no artifact's, is nobody's stray."""

    async def known(self, names: Sequence[ObjectName]) -> Collection[ObjectName]:
        """Those of these objects that are strays, whoever's, or of a batch that may have strays."""

    async def kept(self, names: Sequence[ObjectName]) -> Collection[ObjectName]:
        """The objects of the artifacts that these may be of, by their paths."""

    async def forget(self, names: Sequence[ObjectName]) -> None:
        """These strays do not exist any more."""

    async def beat(self, worker: str, now: datetime) -> None:
        """The worker lives; of those that were silent for long the strays are nobody's, and the claims free."""

    async def leave(self, worker: str) -> None:
        """The worker ends: its strays are nobody's and its claims free."""


class Inventory(Protocol):
    """The catalogue as a whole, across tenants, for comparing it with the objects."""

    async def find(self, keys: Sequence[ArtifactKey]) -> Mapping[ArtifactKey, Artifact]:
        """Those of these artifacts that there are."""

    async def after(self, key: ArtifactKey | None, limit: int) -> Sequence[Artifact]:
        """The artifacts after that key, or the first ones, in one order."""

    async def erased(self, key: ArtifactKey) -> str:
        """The hash that an erased artifact had; empty if it was not erased."""

    async def adopt(self, artifact: Artifact, by: By) -> None:
        """Enter an artifact whose object is there and is no stray."""

    async def point(self, was: Artifact, now: Artifact, by: By) -> None:
        """Let an artifact be at another object, which is there and is no stray. Raises Moved."""

    async def forget(self, artifact: Artifact, by: By) -> None:
        """Leave nothing of an artifact whose bytes are lost: no tombstone, so that it may come back. Its object becomes
        nobody's stray. Raises Moved, LegalHold."""


class LifecycleStore(Protocol):
    """What is due, who claims it, and the jobs that move it."""

    async def due(self, branch: Branch, after: Artifact | None, limit: int) -> Sequence[Artifact]:
        """What is due, oldest first, from behind `after` on; changes nothing."""

    async def claim(
        self, worker: str, branch: Branch, after: Artifact | None, limit: int
    ) -> tuple[Sequence[Artifact], Artifact | None]:
        """Claim some of what is due and claimed by nobody; and where to look on, None where there is no more.

        Of several workers each artifact is claimed by one.
        """

    async def unclaim(self, worker: str, keys: Sequence[ArtifactKey]) -> None:
        """Give claims back."""

    async def unclaim_all(self, worker: str) -> None:
        """Give back whatever the worker claims."""

    async def claimed_by_others(self, worker: str, tenant: str) -> bool:
        """Whether another worker claims something of the tenant, or of any for an empty one."""

    async def shares(self, branch: Branch, share: float) -> Mapping[str, tuple[int, int]]:
        """Of each tenant of which the branch would purge more than that share: how many, and of how many."""

    async def start_job(self, job: Job, request: RequestKey, by: By) -> Job:
        """Begin a job, or find the one that the same request began. Raises RequestIdReused."""

    async def save_job(self, job: Job, by: By | None = None) -> None:
        """Keep how far it is; with `by` it has ended, and an event tells how."""

    async def last_jobs(self, tenant: str) -> tuple[Job | None, Job | None]:
        """The newest live job of a tenant, or of all for an empty one; and the newest that was done to its end."""


class EventStore(Protocol):
    """The audit trail. `tenant` None: of all."""

    async def append(self, action: str, key: ArtifactKey, by: By) -> None:
        """Record what changed no artifact."""

    async def after(self, sequence: int, limit: int) -> Sequence[Event]:
        """The events that came after one, in their order."""

    async def last_sequence(self) -> int:
        """Of the newest event; 0 where there is none."""

    async def newest(
        self,
        tenant: str | None,
        *,
        key: ArtifactKey | None = None,
        action: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        before: int | None = None,
        limit: int,
    ) -> Sequence[Event]:
        """Events of [since, until), newest first, from the one before the sequence `before` on."""
