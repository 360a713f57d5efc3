"""The states in which a batch starts nothing, for the gateway that works it off and for the client that watches it."""

from __future__ import annotations

from djp.v1 import batch_pb2

RESTING_STATES = frozenset(
    {
        batch_pb2.BATCH_STATE_FINISHED,
        batch_pb2.BATCH_STATE_CAPPED,
        batch_pb2.BATCH_STATE_CANCELLED,
        batch_pb2.BATCH_STATE_PAUSED,
        batch_pb2.BATCH_STATE_REFUSED,
    }
)
"""Rows that are under way go on; when they have ended, too, a watcher's stream ends."""
