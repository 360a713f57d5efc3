"""Batches as tests start and watch them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from djp.mesh.errors import FailedPrecondition
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import batch_pb2, batch_pb2_grpc, run_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from djp.mesh.errors import DjpError

BOUND = 9000
"""Of a run of the small leaves' three debaters and one juror, in nano-dollars."""
COST = 3506


def stub(gateway: Any) -> Any:
    return batch_pb2_grpc.BatchServiceStub(gateway.channel)


def rows(count: int, **fields: Any) -> list[run_pb2.RunRequest]:
    return [run_pb2.RunRequest(task=f"Why is row {number} here?", **fields) for number in range(1, count + 1)]


async def start(
    gateway: Any, runs: Sequence[run_pb2.RunRequest], batch_id: str = "b", request_id: str = "", **fields: Any
) -> batch_pb2.Batch:
    request = batch_pb2.StartBatchRequest(
        request_id=request_id or str(uuid.uuid4()), batch_id=batch_id, runs=runs, **fields
    )
    batch: batch_pb2.Batch = (await stub(gateway).StartBatch(request)).batch
    return batch


async def order(gateway: Any, what: str, batch_id: str = "b", request_id: str = "", **fields: Any) -> batch_pb2.Batch:
    """Pause, Resume or Cancel."""
    request = getattr(batch_pb2, f"{what}BatchRequest")(
        request_id=request_id or str(uuid.uuid4()), batch_id=batch_id, **fields
    )
    batch: batch_pb2.Batch = (await getattr(stub(gateway), f"{what}Batch")(request)).batch
    return batch


async def get(gateway: Any, batch_id: str = "b") -> batch_pb2.Batch:
    batch: batch_pb2.Batch = (await stub(gateway).GetBatch(batch_pb2.GetBatchRequest(batch_id=batch_id))).batch
    return batch


async def watched(gateway: Any, batch_id: str = "b", after: int = 0) -> list[batch_pb2.WatchBatchResponse]:
    """All that is told of a batch until it rests."""
    request = batch_pb2.WatchBatchRequest(batch_id=batch_id, after_sequence=after)
    return [answer async for answer in stub(gateway).WatchBatch(request)]


async def rested(gateway: Any, batch_id: str = "b") -> batch_pb2.Batch:
    """The batch when nothing of it is under way any more."""
    return (await watched(gateway, batch_id))[-1].batch


async def listed(gateway: Any, batch_id: str = "b") -> list[batch_pb2.BatchRow]:
    """All rows of a batch."""
    found, token = list[batch_pb2.BatchRow](), ""
    while True:
        request = batch_pb2.ListBatchRowsRequest(batch_id=batch_id, page_token=token)
        page = await stub(gateway).ListBatchRows(request)
        found += page.rows
        if not (token := page.next_page_token):
            return found


async def all_runs(gateway: Any) -> list[run_pb2.Run]:
    return list((await gateway.runs.ListRuns(run_pb2.ListRunsRequest(page_size=1000))).runs)


def broken() -> FailedPrecondition:
    """What a leaf says that does not want to."""
    return FailedPrecondition("it is broken")


async def refused(call: Awaitable[Any], reason: str, field: str) -> DjpError:
    """Why the call is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = error_from_rpc(caught.value)
    assert (error.reason, error.field) == (reason, field), error
    return error
