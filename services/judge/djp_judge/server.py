"""Opens the judge service: its prices and its servicer."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from djp.llm.prices import PriceBook
from djp.mesh.server import Service
from djp.v1 import judge_pb2, judge_pb2_grpc
from djp_judge.servicer import JudgeServicer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from djp_judge.settings import JudgeSettings


@asynccontextmanager
async def open_service(settings: JudgeSettings) -> AsyncIterator[Service]:
    """The service with the prices of `settings`. Raises FailedPrecondition if the price file cannot be used."""
    servicer = JudgeServicer(PriceBook.load(settings.prices))
    descriptor = judge_pb2.DESCRIPTOR.services_by_name["JudgeService"]
    yield Service("judge", [(descriptor, servicer, judge_pb2_grpc.add_JudgeServiceServicer_to_server)])
