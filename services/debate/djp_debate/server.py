"""Opens the debate service: the models that can debate, and its servicer."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from djp.llm.llm import open_llm
from djp.mesh.server import Service
from djp.v1 import debate_pb2, debate_pb2_grpc
from djp_debate.servicer import DebateServicer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from djp.llm.llm import Llm
    from djp.llm.settings import LlmSettings


@asynccontextmanager
async def open_service(settings: LlmSettings) -> AsyncIterator[Service]:
    """The service with the models of `settings`. Raises FailedPrecondition if a configuration file cannot be used."""
    async with open_llm(settings) as llm:
        yield service_of(llm)


def service_of(llm: Llm) -> Service:
    """The service with these models."""
    descriptor = debate_pb2.DESCRIPTOR.services_by_name["DebateService"]
    return Service("debate", [(descriptor, DebateServicer(llm), debate_pb2_grpc.add_DebateServiceServicer_to_server)])
