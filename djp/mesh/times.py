"""Times as they go over the wire: google.protobuf.Timestamp and Python's datetime."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from djp.mesh.errors import InvalidInput


def to_timestamp(moment: datetime) -> Timestamp:
    """The moment, which must be aware of its zone or in UTC."""
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def from_timestamp(timestamp: Timestamp, field: str) -> datetime:
    """The moment in UTC. Raises InvalidInput, which names `field`, for a time that is none."""
    try:
        return timestamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(f"{field}: not a time between the years 1 and 9999", field=field) from None
