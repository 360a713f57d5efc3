"""Listens to the leaves that call models: every attempt is told and paid, and a leaf that dies is asked again."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import common_pb2
from djp_gateway import patience
from djp_gateway.away import named
from djp_gateway.ledger import NoRoomError, charge, hold

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.live import LiveRun

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_ATTEMPTS = 100  # those at a stage are counted within those at the run
_MOST_DEATHS = 3
"""Of a leaf in the middle of a run's calls; each costs the run what was in flight, and a run may be what kills it."""


class _LeafAwayError(Exception):
    """The leaf's stream broke off, and the leaf may come back."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        super().__init__(str(error))
        self.error = error


async def listen(
    live: LiveRun,
    leaves: Leaves,
    ask: Callable[[int], Any],
    take: Callable[[Any], Awaitable[None]],
    rest: Callable[[], Awaitable[common_pb2.CostBound]],
) -> None:
    """Listen to a leaf's stream to its end; calls that it only starts or gives up are paid here, `take` does the rest.

    A run that was taken up again has what it can still cost held before anything is asked.
    A leaf that goes away is asked again for what is missing, for about a minute, and at most three times after it had
    begun to call models. `ask` opens the stream of the given attempt; `rest` is the most that the run can still cost.

    Raises:
        grpc.aio.AioRpcError: the leaf failed, or does not come back.
        NoRoomError: there is no room in the budget for what a run that was taken up again can still cost.
    """
    if live.resumed and not await hold(live, leaves, await patience.persistently(rest, live.waiting_for("debate"))):
        raise NoRoomError(
            "the run was interrupted, and there is no room in the budget for the rest of it; raise the limit or wait "
            "until it resets, and start the run again"
        )
    deaths, broken = 0, None
    for number, delay in enumerate((*patience.RETRY_DELAYS_S, None), start=1):
        try:
            if broken and deaths and not await hold(live, leaves, await _asked(rest())):
                raise broken
            leaf = common_pb2.Stage.Name(live.run.stage).removeprefix("STAGE_").lower()  # which has the leaf's name
            with _stream(ask((live.run.attempt - 1) * _ATTEMPTS + number)) as responses:
                async for response in _until_it_breaks(responses, leaf):
                    match response.WhichOneof("event"):
                        case "call_started":
                            await live.began(response.call_started)
                        case "call_failed":
                            await charge(live, leaves, [response.call_failed])
                        case _:
                            await take(response)
            return
        except _LeafAwayError as away:
            broken = away.error
            deaths += bool(live.owed)
            _log.warning("a leaf went away, with %d calls in flight", len(live.owed))
            if delay is None or deaths > _MOST_DEATHS:
                raise broken from away
            live.drafting.begin_anew()
            if live.owed:
                await charge(live, leaves, list(live.owed.values()))
                await live.warn("a service died while models were called; those calls are charged at their bound")
        await asyncio.sleep(delay)


@contextmanager
def _stream(call: Any) -> Iterator[Any]:
    """A leaf's stream that ends when the gateway stops listening: nobody is to go on spending for a run that failed."""
    try:
        yield call
    finally:
        call.cancel()


async def _until_it_breaks(responses: Any, leaf: str) -> AsyncIterator[Any]:
    """The responses; their own breaking off is not to be taken for an error of what is done with them."""
    try:
        async for response in responses:
            yield response
    except grpc.aio.AioRpcError as error:
        raise _away_or_failed(named(error, leaf)) from error


async def _asked(answer: Awaitable[Answer]) -> Answer:
    try:
        return await answer
    except grpc.aio.AioRpcError as error:
        raise _away_or_failed(error) from error


def _away_or_failed(error: grpc.aio.AioRpcError) -> Exception:
    return _LeafAwayError(error) if error_from_rpc(error).code == "UNAVAILABLE" else error
