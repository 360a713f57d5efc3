"""The RPCs about batches: rows to run under one cap, and how far they are."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import grpc

from djp.batch_states import RESTING_STATES
from djp.mesh.errors import InvalidInput, Unavailable
from djp.mesh.identity import current_identity
from djp.v1 import batch_pb2, batch_pb2_grpc
from djp_gateway.batches.driving import bell_of
from djp_gateway.batches.ports import BatchKey, Terms

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from djp_gateway.batches.driving import BatchDriver
    from djp_gateway.batches.ports import Batches
    from djp_gateway.ports import Answers
    from djp_gateway.watching import Watchers

DEFAULT_PAGE_SIZE = 50
DEFAULT_CONCURRENCY = 3
MAX_ROWS = 100_000
"""As in the contract."""
_CHANGES = 200  # rows that are read at once for a watcher
_LOOK_S, _MOST_LOOK_S = 0.2, 1.0  # until the store is asked again: no bell rings here for what another gateway does

Context = grpc.aio.ServicerContext[Any, Any]


class BatchServicer(batch_pb2_grpc.BatchServiceServicer):
    """Every tenant has its own batches."""

    def __init__(
        self,
        store: Batches,
        driver: BatchDriver,
        answers: Answers,
        watchers: Watchers,
        *,
        executor: str,
        heartbeat_s: float,
    ) -> None:
        self._store = store
        self._driver = driver
        self._answers = answers
        self._watchers = watchers
        self._executor = executor
        self._heartbeat_s = heartbeat_s
        self._draining = False

    def end_watches(self) -> None:
        """Let watchers go on elsewhere: this gateway is about to stop."""
        self._draining = True

    async def StartBatch(self, request: batch_pb2.StartBatchRequest, context: Context) -> batch_pb2.StartBatchResponse:
        first_row = request.first_row or 1
        last_row = first_row + len(request.runs) - 1
        if last_row > MAX_ROWS:
            raise InvalidInput(
                f"runs: a batch has at most {MAX_ROWS} rows, and this would be row {last_row}; make several batches",
                field="runs",
            )
        batch_id = request.batch_id or str(uuid.uuid5(uuid.UUID(request.request_id), "batch"))
        terms = Terms(
            executor=self._executor,
            max_cost_nano_usd=request.max_cost_nano_usd if request.HasField("max_cost_nano_usd") else None,
            concurrency=request.concurrency or DEFAULT_CONCURRENCY,
        )

        async def start(key: BatchKey) -> None:
            await self._store.collect(key, first_row, request.runs, terms, more=request.more)

        return batch_pb2.StartBatchResponse(batch=await self._once("start", request, batch_id, start))

    async def GetBatch(self, request: batch_pb2.GetBatchRequest, context: Context) -> batch_pb2.GetBatchResponse:
        return batch_pb2.GetBatchResponse(batch=await self._store.get(_key(request.batch_id)))

    async def ListBatches(
        self, request: batch_pb2.ListBatchesRequest, context: Context
    ) -> batch_pb2.ListBatchesResponse:
        found, token = await self._store.list(
            current_identity().tenant, page_size=request.page_size or DEFAULT_PAGE_SIZE, page_token=request.page_token
        )
        return batch_pb2.ListBatchesResponse(batches=found, next_page_token=token)

    async def ListBatchRows(
        self, request: batch_pb2.ListBatchRowsRequest, context: Context
    ) -> batch_pb2.ListBatchRowsResponse:
        key = _key(request.batch_id)
        await self._store.get(key)
        found, token = await self._store.rows(
            key, page_size=request.page_size or DEFAULT_PAGE_SIZE, page_token=request.page_token
        )
        return batch_pb2.ListBatchRowsResponse(rows=found, next_page_token=token)

    async def WatchBatch(
        self, request: batch_pb2.WatchBatchRequest, context: Context
    ) -> AsyncIterator[batch_pb2.WatchBatchResponse]:
        key, sequence = _key(request.batch_id), request.after_sequence
        loop, look_s = asyncio.get_running_loop(), _LOOK_S
        told, said_at = None, loop.time()
        with self._watchers.follower(bell_of(key)) as follower:
            while True:
                follower.bell.clear()
                batch = await self._store.get(key)
                changes = await self._store.changes(key, sequence, _CHANGES)
                for change in changes:
                    sequence = change.sequence
                    yield batch_pb2.WatchBatchResponse(batch=batch, row=change.row, sequence=sequence)
                if len(changes) == _CHANGES:
                    continue
                if changes or batch != told:
                    look_s = _LOOK_S
                if batch != told or loop.time() - said_at >= self._heartbeat_s:
                    told, said_at = batch, loop.time()
                    yield batch_pb2.WatchBatchResponse(batch=batch)
                if batch.state in RESTING_STATES and not batch.running:
                    return
                if self._draining:
                    raise Unavailable("the server is draining; watch again after the last sequence that came")
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(look_s, self._heartbeat_s)):
                        await follower.bell.wait()
                look_s = min(look_s * 1.5, _MOST_LOOK_S)

    async def PauseBatch(self, request: batch_pb2.PauseBatchRequest, context: Context) -> batch_pb2.PauseBatchResponse:
        batch = await self._once("pause", request, request.batch_id, self._store.pause)
        return batch_pb2.PauseBatchResponse(batch=batch)

    async def ResumeBatch(
        self, request: batch_pb2.ResumeBatchRequest, context: Context
    ) -> batch_pb2.ResumeBatchResponse:
        cap = request.max_cost_nano_usd if request.HasField("max_cost_nano_usd") else None

        async def resume(key: BatchKey) -> None:
            await self._store.resume(
                key, executor=self._executor, max_cost_nano_usd=cap, concurrency=request.concurrency
            )

        return batch_pb2.ResumeBatchResponse(batch=await self._once("resume", request, request.batch_id, resume))

    async def CancelBatch(
        self, request: batch_pb2.CancelBatchRequest, context: Context
    ) -> batch_pb2.CancelBatchResponse:
        batch = await self._once("cancel", request, request.batch_id, self._store.cancel)
        return batch_pb2.CancelBatchResponse(batch=batch)

    async def _once(
        self, what: str, request: Any, batch_id: str, change: Callable[[BatchKey], Awaitable[None]]
    ) -> batch_pb2.Batch:
        """Make a change unless this request has made it before; the batch as it is then.

        Raises:
            NotFound: there is no such batch to change.
            RequestIdReused: the request_id came with another body.
        """
        key = _key(batch_id)
        if what != "start":
            await self._store.get(key)
        body = sha256(f"{what} batch".encode() + request.SerializeToString(deterministic=True)).hexdigest()
        if await self._answers.earlier(key.tenant, request.request_id, body) is None:
            await change(key)
            await self._answers.keep(key.tenant, request.request_id, body, batch_id.encode())
            self._driver.take(key)
        return await self._store.get(key)


def _key(batch_id: str) -> BatchKey:
    """The caller's batch of that id."""
    return BatchKey(current_identity().tenant, batch_id)
