"""What goes along with every outgoing call: who it is for, its place in the trace, and how much time is left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from djp.mesh.deadline import bounded_timeout
from djp.mesh.identity import identity_metadata
from djp.mesh.telemetry import trace_metadata

if TYPE_CHECKING:
    from collections.abc import Mapping


def outgoing(
    metadata: Any, timeout_s: float | None, headers: Mapping[str, str]
) -> tuple[grpc.aio.Metadata, float | None]:
    """The metadata and the timeout of a call, with what the current context and `headers` add.

    What the caller gave itself wins.
    """
    whole = grpc.aio.Metadata(*(metadata or ()))
    for key, value in {**identity_metadata(), **trace_metadata(), **headers}.items():
        if whole.get(key) is None:
            whole.add(key, value)
    return whole, bounded_timeout(timeout_s)
