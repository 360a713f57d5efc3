"""Times on the wire: exact to the microsecond, and nothing that is no time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from djp.mesh.errors import InvalidInput
from djp.mesh.times import from_timestamp, to_timestamp


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))])))
def test_a_time_comes_back_as_it_went_out(moment: datetime) -> None:
    if datetime(1, 1, 2, tzinfo=UTC) < moment < datetime(9999, 12, 30, tzinfo=UTC):
        assert from_timestamp(to_timestamp(moment), "created.since") == moment


@pytest.mark.parametrize(
    "timestamp",
    [
        Timestamp(seconds=-62_135_596_801),
        Timestamp(seconds=253_402_300_800),
        Timestamp(nanos=-1),
        Timestamp(nanos=10**9),
    ],
)
def test_what_is_no_time_is_refused(timestamp: Timestamp) -> None:
    with pytest.raises(InvalidInput) as refused:
        from_timestamp(timestamp, "created.since")
    assert refused.value.field == "created.since"
