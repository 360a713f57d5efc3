"""The states that end a run, for the gateway that ends runs and for the client that watches them."""

from __future__ import annotations

from djp.v1 import run_pb2

TERMINAL_STATES = frozenset(
    {
        run_pb2.RUN_STATE_PUBLISHED,
        run_pb2.RUN_STATE_ADVISORY,
        run_pb2.RUN_STATE_NO_RESULT,
        run_pb2.RUN_STATE_DENIED,
        run_pb2.RUN_STATE_FAILED,
        run_pb2.RUN_STATE_CANCELLED,
        run_pb2.RUN_STATE_REJECTED,
    }
)
"""States that a run never leaves; the event that carries one is the run's last."""
