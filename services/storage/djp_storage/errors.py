"""What storage finds broken."""

from __future__ import annotations

from djp.mesh.errors import DataLoss


class HashMismatch(DataLoss):
    """The bytes are not those that the hash stands for: damaged on the way in, or at rest."""

    reason = "HASH_MISMATCH"


class ObjectMissing(DataLoss):
    """The catalogue knows the artifact and its object is not where it belongs."""

    reason = "NOT_FOUND"
