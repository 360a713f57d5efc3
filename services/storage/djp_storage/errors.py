"""What storage finds broken, held or changed meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djp.mesh.errors import DataLoss, FailedPrecondition, Unavailable

if TYPE_CHECKING:
    from djp_storage.model import Artifact, ArtifactKey


class HashMismatch(DataLoss):
    """The bytes are not those that the hash stands for: damaged on the way in, or at rest."""

    reason = "HASH_MISMATCH"


class ObjectMissing(DataLoss):
    """The catalogue knows the artifact and its object is not where it belongs."""

    reason = "NOT_FOUND"


class LegalHold(FailedPrecondition):
    """It may not be purged or erased."""

    reason = "LEGAL_HOLD"

    @classmethod
    def of(cls, key: ArtifactKey, *, whole_tenant: bool) -> LegalHold:
        """On an artifact, or on all of its tenant."""
        which = f"tenant {key.tenant}" if whole_tenant else f"artifact {key.artifact!r} of workflow {key.workflow!r}"
        return cls(f"{which} is under a legal hold; nothing of it is purged until that is lifted", field="key")


class Moved(Unavailable):
    """Somebody else has moved the artifact meanwhile."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(f"artifact {artifact.key.artifact!r} was moved by somebody else at this moment; try again")
