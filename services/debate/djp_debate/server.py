"""Opens the debate service: its prices and its servicer."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from djp.llm.prices import PriceBook
from djp.mesh.server import Service
from djp.v1 import debate_pb2, debate_pb2_grpc
from djp_debate.servicer import DebateServicer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from djp_debate.settings import DebateSettings


@asynccontextmanager
async def open_service(settings: DebateSettings) -> AsyncIterator[Service]:
    """The service with the prices of `settings.prices`. Raises FailedPrecondition if they cannot be read."""
    servicer = DebateServicer(PriceBook.load(settings.prices))
    descriptor = debate_pb2.DESCRIPTOR.services_by_name["DebateService"]
    yield Service("debate", [(descriptor, servicer, debate_pb2_grpc.add_DebateServiceServicer_to_server)])
