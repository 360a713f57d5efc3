"""The part of the Python client that runs batches: start, watch, list, pause, resume and cancel."""

from __future__ import annotations

import re
import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING

from djp.batch_states import RESTING_STATES
from djp.client_pages import PAGE_SIZE, pages
from djp.client_streams import resumed
from djp.mesh.errors import InvalidInput, Violation
from djp.mesh.rpc_errors import answer_of
from djp.v1 import batch_pb2, batch_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    import grpc

    from djp.v1 import run_pb2

_TIMEOUT_S = 60.0
_ROWS = 500  # of one request, and so many bytes: no server is busy with one for long
_BYTES = 1 << 20


class BatchesClient:
    """Batches of the caller's tenant. Every method raises DjpError."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._batches = batch_pb2_grpc.BatchServiceStub(channel)

    async def start(
        self,
        runs: Sequence[run_pb2.RunRequest],
        *,
        batch_id: str = "",
        max_cost_nano_usd: int | None = None,
        concurrency: int = 0,
    ) -> batch_pb2.Batch:
        """Start a batch, or go on with one: that of the same id and rows. They are sent in pieces of about 1 MiB.

        What is checked later is told by `watch`. Raises AlreadyExists: the batch has other rows.
        """
        batch_id = batch_id or str(uuid.uuid4())
        for first, last in _pieces(runs):
            request = batch_pb2.StartBatchRequest(
                request_id=str(uuid.uuid4()),
                batch_id=batch_id,
                runs=runs[first:last],
                max_cost_nano_usd=max_cost_nano_usd,
                concurrency=concurrency,
                first_row=first + 1,
                more=last < len(runs),
            )
            try:
                batch = (await answer_of(self._batches.StartBatch(request, timeout=_TIMEOUT_S))).batch
            except InvalidInput as error:
                raise _of_all(error, first) from error
        return batch

    async def get(self, batch_id: str) -> batch_pb2.Batch:
        """A batch as it stands. Raises NotFound."""
        request = batch_pb2.GetBatchRequest(batch_id=batch_id)
        return (await answer_of(self._batches.GetBatch(request, timeout=_TIMEOUT_S))).batch

    async def list(self) -> Sequence[batch_pb2.Batch]:
        """All batches, newest first."""
        request = batch_pb2.ListBatchesRequest(page_size=PAGE_SIZE)
        return [one async for page in pages(self._batches.ListBatches, request) for one in page.batches]

    async def rows(self, batch_id: str) -> AsyncGenerator[batch_pb2.BatchRow, None]:
        """A batch's rows in order, with what they ask for."""
        request = batch_pb2.ListBatchRowsRequest(batch_id=batch_id, page_size=PAGE_SIZE)
        async for page in pages(self._batches.ListBatchRows, request):
            for row in page.rows:
                yield row

    async def watch(
        self, batch_id: str, *, after_sequence: int = 0
    ) -> AsyncGenerator[batch_pb2.WatchBatchResponse, None]:
        """The batch and its rows as they change, until it rests and none is under way, whatever happens to the stream.

        Every change has a number, and is told once. Raises Unavailable when the gateway does not come back; the batch
        itself goes on there.
        """

        def start(sequence: int) -> object:
            return self._batches.WatchBatch(batch_pb2.WatchBatchRequest(batch_id=batch_id, after_sequence=sequence))

        async def whole(sequence: int) -> bool:
            batch = await self.get(batch_id)
            return batch.state in RESTING_STATES and not batch.running and batch.last_sequence <= sequence

        answers = resumed(
            start, lambda answer: int(answer.sequence), whole, after=after_sequence, what=f"batch {batch_id}"
        )
        async with aclosing(answers):
            async for answer in answers:
                yield answer

    async def pause(self, batch_id: str, *, request_id: str | None = None) -> batch_pb2.Batch:
        """Take no further rows for now; runs under way go on to their end."""
        request = batch_pb2.PauseBatchRequest(request_id=request_id or str(uuid.uuid4()), batch_id=batch_id)
        return (await answer_of(self._batches.PauseBatch(request, timeout=_TIMEOUT_S))).batch

    async def resume(
        self,
        batch_id: str,
        *,
        max_cost_nano_usd: int | None = None,
        concurrency: int = 0,
        request_id: str | None = None,
    ) -> batch_pb2.Batch:
        """Go on with a batch that was paused or capped. Raises FailedPrecondition: it needs its rows again."""
        request = batch_pb2.ResumeBatchRequest(
            request_id=request_id or str(uuid.uuid4()),
            batch_id=batch_id,
            max_cost_nano_usd=max_cost_nano_usd,
            concurrency=concurrency,
        )
        return (await answer_of(self._batches.ResumeBatch(request, timeout=_TIMEOUT_S))).batch

    async def cancel(self, batch_id: str, *, request_id: str | None = None) -> batch_pb2.Batch:
        """Take no further rows; runs under way go on to their end."""
        request = batch_pb2.CancelBatchRequest(request_id=request_id or str(uuid.uuid4()), batch_id=batch_id)
        return (await answer_of(self._batches.CancelBatch(request, timeout=_TIMEOUT_S))).batch


def _pieces(runs: Sequence[run_pb2.RunRequest]) -> Iterator[tuple[int, int]]:
    """Where each request's rows begin and end."""
    first, size = 0, 0
    for place, run in enumerate(runs):
        size += run.ByteSize()
        if place > first and (place - first == _ROWS or size > _BYTES):
            yield first, place
            first, size = place, run.ByteSize()
    yield first, len(runs)


def _of_all(error: InvalidInput, first: int) -> InvalidInput:
    """An error about rows of a request, told with their places among all rows."""

    def moved(text: str) -> str:
        return re.sub(r"\bruns\[(\d+)\]", lambda found: f"runs[{int(found[1]) + first}]", text)

    violations = [Violation(moved(one.field), one.description) for one in error.violations]
    return InvalidInput(moved(error.message), reason=error.reason, violations=violations)
