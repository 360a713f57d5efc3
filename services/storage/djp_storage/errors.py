"""What storage refuses or finds broken, and with which code and reason."""

from __future__ import annotations

from djp.mesh.errors import DjpError, ResourceExhausted


class HashMismatch(DjpError):  # noqa: N818  named after what happened, as the mesh's own errors are
    """The bytes are not those that the hash stands for: damaged on the way in, or at rest."""

    code = "DATA_LOSS"
    reason = "HASH_MISMATCH"


class ObjectMissing(DjpError):  # noqa: N818
    """The catalogue knows the artifact and its object is not where it belongs."""

    code = "DATA_LOSS"
    reason = "NOT_FOUND"


class DiskFull(ResourceExhausted):
    """There is no room for the bytes."""

    reason = "DISK_FULL"
