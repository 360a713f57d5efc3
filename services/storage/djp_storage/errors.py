"""What storage refuses or finds broken, and with which code and reason."""

from __future__ import annotations

from djp.mesh.errors import DataLoss, ResourceExhausted


class HashMismatch(DataLoss):
    """The bytes are not those that the hash stands for: damaged on the way in, or at rest."""

    reason = "HASH_MISMATCH"


class ObjectMissing(DataLoss):
    """The catalogue knows the artifact and its object is not where it belongs."""

    reason = "NOT_FOUND"


class DiskFull(ResourceExhausted):
    """There is no room for the bytes."""

    reason = "DISK_FULL"
