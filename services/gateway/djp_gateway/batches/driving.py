"""Works batches off in the background: their rows are checked, then started as others end. Any gateway may do it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import grpc

from djp.mesh.errors import DjpError
from djp.mesh.identity import Identity, identity_scope
from djp.mesh.rpc_errors import error_from_rpc
from djp_gateway.batches.ports import Checked
from djp_gateway.patience import to_the_end

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from djp.v1 import run_pb2
    from djp_gateway.batches.ports import BatchKey, BatchWork
    from djp_gateway.runner import Runner
    from djp_gateway.watching import Watchers

_log = logging.getLogger(__name__)

_PAGE = 32  # rows that are checked before what was found is kept
_AT_ONCE = 8
_AGAIN_S = 1.0
_PASSING = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED")  # says nothing against the row


class BatchDriver:
    """One gateway's part in working off all batches.

    Rows that are checked twice, because two gateways take a third for dead, count once, and so does what is started.
    """

    def __init__(
        self,
        work: BatchWork,
        project: Callable[[run_pb2.RunRequest], Awaitable[run_pb2.ProjectRunResponse]],
        runner: Runner,
        watchers: Watchers,
        *,
        executor: str,
        silence_s: float,
        look_s: float,
    ) -> None:
        """`look_s`: how often it looks for what another gateway did, as rows whose runs have ended there."""
        self._work = work
        self._project = project
        self._runner = runner
        self._watchers = watchers
        self._executor = executor
        self._silence_s = silence_s
        self._look_s = look_s
        self._mine: set[BatchKey] = set()
        """Those whose rows this gateway was given, and checks at once."""
        self._seen: dict[BatchKey, tuple[int, float]] = {}
        """Of the others, how many rows were checked, and since when that is so, by the loop's clock."""
        self._advance = asyncio.Event()
        self._check = asyncio.Event()
        runner.when_ended = self._advance.set

    def take(self, key: BatchKey) -> None:
        """The batch has something to do, and this gateway may begin with it at once."""
        self._mine.add(key)
        self._check.set()
        self._advance.set()
        self._tell(key)

    async def advance(self) -> None:
        """Start rows as others end, until cancelled."""
        while True:
            self._advance.clear()
            try:
                for key in await to_the_end(self._work.in_need(self._executor)):
                    await to_the_end(self._advanced(key))
            except Exception as error:
                _log.warning("batches cannot go on (%s); trying again", type(error).__name__)
                await asyncio.sleep(_AGAIN_S)
            await self._rung(self._advance)

    async def _advanced(self, key: BatchKey) -> None:
        if await self._work.advance(key, self._executor):
            self._runner.wake()
        self._tell(key)

    async def check(self) -> None:
        """Check the rows of batches that nobody else checks, until cancelled."""
        while True:
            self._check.clear()
            try:
                if await self._checked_some():
                    continue
            except Exception as error:
                _log.warning("rows of batches cannot be checked (%s); trying again", _told(error))
                await asyncio.sleep(_AGAIN_S)
            await self._rung(self._check)

    async def _checked_some(self) -> bool:
        """Check some rows of every batch that is this gateway's to check; whether there were any."""
        unchecked = await self._work.unchecked(self._executor)
        keys = {key for key, _ in unchecked}
        self._mine &= keys
        before, self._seen, any_checked = self._seen, {}, False
        now = asyncio.get_running_loop().time()
        for key, checked in unchecked:
            known, since = before.get(key, (checked, now))
            self._seen[key] = checked, since if known == checked else now
            if key not in self._mine and now - self._seen[key][1] < self._silence_s:
                continue
            self._mine.add(key)
            any_checked |= await self._check_page(key, checked)
        return any_checked

    async def _check_page(self, key: BatchKey, after_row: int) -> bool:
        turn = asyncio.Semaphore(_AT_ONCE)

        async def one(request: run_pb2.RunRequest) -> Checked:
            async with turn:
                with identity_scope(Identity(tenant=key.tenant)):
                    return await self._looked_through(request)

        requests = await self._work.rows_to_check(key, after_row, _PAGE)
        found = await asyncio.gather(*(one(request) for request in requests))
        kept = await to_the_end(self._work.keep_checked(key, after_row, found))
        if not kept:
            self._mine.discard(key)  # another gateway checks it, or it was stopped
        self._tell(key)
        self._advance.set()
        return kept

    async def _looked_through(self, request: run_pb2.RunRequest) -> Checked:
        try:
            answer = await self._project(request)
        except (DjpError, grpc.aio.AioRpcError) as failure:
            error = failure if isinstance(failure, DjpError) else error_from_rpc(failure)
            if error.code in _PASSING:
                raise error from failure
            return Checked(None, error=error.told)
        return Checked(answer.spec, answer.projection.total.cost_nano_usd)

    async def _rung(self, bell: asyncio.Event) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._look_s):
                await bell.wait()

    def _tell(self, key: BatchKey) -> None:
        self._watchers.wake(bell_of(key))


def bell_of(key: BatchKey) -> str:
    """The name under which watchers wait for a batch."""
    return f"batch/{key.tenant}/{key.batch_id}"


def _told(error: Exception) -> str:
    return error.message if isinstance(error, DjpError) else type(error).__name__
