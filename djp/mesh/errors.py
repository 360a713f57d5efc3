"""The errors a service raises: each knows its gRPC status code and its reason. Imports no grpc: for domain code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Violation:
    """One bad field of a request. `field` is its path, as in `items[0].title`; empty for a whole-message rule."""

    field: str
    description: str


@dataclass(frozen=True)
class QuotaViolation:
    """One quota that has no room. `subject` says whose, as in `tenant:acme/monthly`."""

    subject: str
    description: str


class DjpError(Exception):
    """Base of every error that crosses a service's edge on purpose.

    `code` is the name of a gRPC status code. `reason` is the name of a `djp.v1.ErrorReason` without its prefix; an
    instance may narrow its class's reason. `field` is a short way to give one violation whose description is the
    message. `retry_after_s` is in seconds. The message is shown to the caller: it names the thing and the remedy and
    holds no secret. Where it names a host, a socket or a folder of the mesh, which are its owner's business, `outside`
    is what everybody else is told in its place.
    """

    code: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        field: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after_s: float | None = None,
        quota: Sequence[QuotaViolation] = (),
        outside: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason  # type: ignore[misc]  # narrows the class's reason for this one error
        self.metadata: dict[str, str] = dict(metadata or {})
        self.violations: tuple[Violation, ...] = tuple(violations) or ((Violation(field, message),) if field else ())
        self.retry_after_s = retry_after_s
        self.quota: tuple[QuotaViolation, ...] = tuple(quota)
        self.outside = outside

    @property
    def told(self) -> str:
        """What anybody may be told of it."""
        return self.outside or self.message

    @property
    def field(self) -> str:
        """The first bad field, or an empty string."""
        return self.violations[0].field if self.violations else ""


class InvalidInput(DjpError):  # noqa: N818  these are named after what happened, as gRPC's own codes are
    """The request itself is wrong, whatever the state of the system."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_INPUT"


class Unauthenticated(DjpError):  # noqa: N818
    """Nobody knows who is calling."""

    code = "UNAUTHENTICATED"
    reason = "UNAUTHENTICATED"


class PermissionDenied(DjpError):  # noqa: N818
    """The caller is known and may not do this."""

    code = "PERMISSION_DENIED"
    reason = "PERMISSION_DENIED"


class NotFound(DjpError):  # noqa: N818
    """The named thing does not exist, or the caller's tenant may not see it."""

    code = "NOT_FOUND"
    reason = "NOT_FOUND"


class AlreadyExists(DjpError):  # noqa: N818
    """The thing to create exists."""

    code = "ALREADY_EXISTS"
    reason = "ALREADY_EXISTS"


class RequestIdReused(AlreadyExists):
    """The same `request_id` came with another body."""

    reason = "REQUEST_ID_REUSED"

    @classmethod
    def by(cls, request_id: str, field: str = "request_id") -> RequestIdReused:
        """By a request with that id; `field` is where it has the id."""
        return cls(
            f"{field}: {request_id} was used for another request; use a fresh UUID for every new one", field=field
        )


class FailedPrecondition(DjpError):  # noqa: N818
    """The request is right and the state of the system refuses it; repeating it changes nothing."""

    code = "FAILED_PRECONDITION"
    reason = "FAILED_PRECONDITION"


class ResourceExhausted(DjpError):  # noqa: N818
    """A quota, a budget or a resource has no room."""

    code = "RESOURCE_EXHAUSTED"
    reason = "RESOURCE_EXHAUSTED"


class DiskFull(ResourceExhausted):
    """There is no room for what is to be written."""

    reason = "DISK_FULL"


class Unavailable(DjpError):  # noqa: N818
    """Not now; the same call may succeed later."""

    code = "UNAVAILABLE"
    reason = "UNAVAILABLE"


class DeadlineExceeded(DjpError):  # noqa: N818
    """The time the caller gave has passed."""

    code = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_EXCEEDED"


class Cancelled(DjpError):  # noqa: N818
    """The call was given up before it ended."""

    code = "CANCELLED"
    reason = "CANCELLED"


class Unimplemented(DjpError):  # noqa: N818
    """This server does not offer the method."""

    code = "UNIMPLEMENTED"
    reason = "UNIMPLEMENTED"


class DataLoss(DjpError):  # noqa: N818
    """What was stored is gone or is not what was stored."""

    code = "DATA_LOSS"


class Internal(DjpError):  # noqa: N818
    """A fault of ours. The message says nothing of the cause; the server's log does, under the same error id."""
