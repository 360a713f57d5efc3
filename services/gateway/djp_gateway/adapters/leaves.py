"""The gateway's clients of the leaves: one channel and one typed stub each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from djp.v1 import (
    debate_pb2_grpc,
    governance_pb2_grpc,
    grounding_pb2_grpc,
    judge_pb2_grpc,
    redaction_pb2_grpc,
    storage_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import grpc

    from djp.v1.debate_pb2_grpc import DebateServiceAsyncStub
    from djp.v1.governance_pb2_grpc import GovernanceServiceAsyncStub
    from djp.v1.grounding_pb2_grpc import GroundingServiceAsyncStub
    from djp.v1.judge_pb2_grpc import JudgeServiceAsyncStub
    from djp.v1.redaction_pb2_grpc import RedactionServiceAsyncStub
    from djp.v1.storage_pb2_grpc import StorageServiceAsyncStub


@dataclass(frozen=True)
class Leaves:
    """One stub a leaf."""

    debate: DebateServiceAsyncStub
    judge: JudgeServiceAsyncStub
    redaction: RedactionServiceAsyncStub
    grounding: GroundingServiceAsyncStub
    governance: GovernanceServiceAsyncStub
    storage: StorageServiceAsyncStub


def leaves_over(channels: Mapping[str, grpc.aio.Channel]) -> Leaves:
    """Stubs over one channel a leaf, by leaf name."""
    return Leaves(
        debate=debate_pb2_grpc.DebateServiceStub(channels["debate"]),
        judge=judge_pb2_grpc.JudgeServiceStub(channels["judge"]),
        redaction=redaction_pb2_grpc.RedactionServiceStub(channels["redaction"]),
        grounding=grounding_pb2_grpc.GroundingServiceStub(channels["grounding"]),
        governance=governance_pb2_grpc.GovernanceServiceStub(channels["governance"]),
        storage=storage_pb2_grpc.StorageServiceStub(channels["storage"]),
    )
