"""Domain errors to google.rpc.Status and back: ErrorInfo always, BadRequest, RetryInfo, QuotaFailure where they fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2

from djp.mesh import errors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

Answer = TypeVar("Answer")

DOMAIN = "djp"
DETAILS_KEY = "grpc-status-details-bin"
_OUTSIDE = "outside"
"""In the ErrorInfo's metadata: what others than the mesh's own parts are told in place of the message."""

# A peer accepts 8 KiB of metadata by default (gRPC's GRPC_ARG_MAX_METADATA_SIZE) and drops the whole answer past it.
# The message travels twice: percent-encoded (up to 3 bytes a byte), and in the details, which are base64 (4/3):
# 3 000 + 4 800 bytes.
_MAX_MESSAGE_BYTES = 1000
_MAX_DETAILS_BYTES = 3600

_CODES = {code.name: code for code in grpc.StatusCode}


def _classes(cls: type[errors.DjpError]) -> Iterator[type[errors.DjpError]]:
    for sub in cls.__subclasses__():
        if sub.__module__ == errors.__name__:  # a service's own subclasses mean nothing to another process
            yield sub
            yield from _classes(sub)


_BY_CODE: dict[str, type[errors.DjpError]] = {}
_BY_REASON: dict[tuple[str, str], type[errors.DjpError]] = {}
for _cls in _classes(errors.DjpError):
    _BY_CODE.setdefault(_cls.code, _cls)
    _BY_REASON[_cls.code, _cls.reason] = _cls


def status_code(error: errors.DjpError) -> grpc.StatusCode:
    """The gRPC status code of an error."""
    return _CODES[error.code]


def status_from_error(error: errors.DjpError, *, outside: bool = False) -> status_pb2.Status:
    """The google.rpc.Status of an error, small enough for a peer with default limits; what is cut is counted.

    `outside`: it is for somebody who is not to learn how the mesh is built.
    """
    message = error.told if outside else error.message
    status = status_pb2.Status(code=status_code(error).value[0], message=_cut(message, _MAX_MESSAGE_BYTES))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    for key, value in error.metadata.items():
        info.metadata[key] = _cut(value, 200)
    if error.outside and not outside:
        info.metadata[_OUTSIDE] = _cut(error.outside, 200)
    status.details.add().Pack(info)
    if error.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        status.details.add().Pack(retry)
    if error.quota:
        quota = error_details_pb2.QuotaFailure()
        _fill(quota.violations, [{"subject": q.subject, "description": q.description} for q in error.quota], status)
        status.details.add().Pack(quota)
    if error.violations:
        bad = error_details_pb2.BadRequest()
        _fill(
            bad.field_violations, [{"field": v.field, "description": v.description} for v in error.violations], status
        )
        status.details.add().Pack(bad)
    return status


def _fill(target: Any, items: list[dict[str, str]], status: status_pb2.Status) -> None:
    room = _MAX_DETAILS_BYTES - status.ByteSize() - 200
    for done, item in enumerate(items):
        entry = target.add(**{key: _cut(value, 300) for key, value in item.items()})
        room -= entry.ByteSize() + 4
        if room < 0 and done:
            del target[-1]
            target.add(description=f"and {len(items) - done} more")
            return


def _cut(text: str, limit: int) -> str:
    raw = text.encode()
    return text if len(raw) <= limit else raw[: limit - 3].decode(errors="ignore") + "…"


def error_from_rpc(e: grpc.RpcError) -> errors.DjpError:
    """The domain error behind a failed call: the class fits the code and reason, every detail is read back.

    A failure that no server of ours described (nothing listens, the deadline passed) has its code's general reason.
    """
    code = e.code() if isinstance(e, grpc.aio.AioRpcError | grpc.Call) else grpc.StatusCode.UNKNOWN
    name, message = code.name, (e.details() if hasattr(e, "details") else str(e)) or code.name
    trailers: Any = e.trailing_metadata() if hasattr(e, "trailing_metadata") else None
    for key, value in trailers or ():
        if key == DETAILS_KEY:
            return _error_from_status(status_pb2.Status.FromString(value), name)
    if name == "INTERNAL" and "RST_STREAM" in message:  # as Envoy cuts a stream whose server has died
        return errors.Unavailable(f"the stream was cut: {message}")
    if name == "UNAVAILABLE":  # gRPC's own words are about where it looked
        return errors.Unavailable(message, outside="a service of the mesh does not answer; try again in a moment")
    cls = _BY_CODE.get(name, errors.Internal)
    return cls(message if cls is not errors.Internal else f"{name}: {message}")


def has_details(e: grpc.aio.AioRpcError) -> bool:
    """Whether a server of ours says what went wrong, and not gRPC, which got no answer."""
    return any(key == DETAILS_KEY for key, _ in e.trailing_metadata() or ())


def _error_from_status(status: status_pb2.Status, code: str) -> errors.DjpError:
    reason: str | None = None
    metadata: dict[str, str] = {}
    violations: list[errors.Violation] = []
    quota: list[errors.QuotaViolation] = []
    retry_after_s: float | None = None
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry, failure = error_details_pb2.RetryInfo(), error_details_pb2.QuotaFailure()
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            violations = [errors.Violation(v.field, v.description) for v in bad.field_violations]
        elif detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
        elif detail.Unpack(failure):
            quota = [errors.QuotaViolation(q.subject, q.description) for q in failure.violations]
    cls = _BY_REASON.get((code, reason or ""), _BY_CODE.get(code, errors.Internal))
    outside = metadata.pop(_OUTSIDE, "")
    return cls(
        status.message,
        reason=reason,
        metadata=metadata,
        violations=violations,
        retry_after_s=retry_after_s,
        quota=quota,
        outside=outside,
    )


def rpc_error_of(error: errors.DjpError) -> grpc.aio.AioRpcError:
    """The failed call behind which that error stands."""
    details = (DETAILS_KEY, status_from_error(error).SerializeToString())
    return grpc.aio.AioRpcError(
        status_code(error), grpc.aio.Metadata(), grpc.aio.Metadata(details), details=error.message
    )


async def answer_of(call: Awaitable[Answer]) -> Answer:
    """The answer of a call, or the domain error that stands behind its refusal."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error) from error
