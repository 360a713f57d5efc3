"""Listens to the leaves that call models: every attempt is told and paid, and a leaf that dies is asked again."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import common_pb2
from djp_gateway import patience
from djp_gateway.away import named
from djp_gateway.ledger import NoRoomError, charge, hold

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence

    from djp.v1 import run_pb2
    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.live import LiveRun

    Absorbed = tuple[Iterable[common_pb2.ModelCall], Iterable[run_pb2.RunEvent]]

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_AT_ONCE = 256
"""Answers of a leaf that are taken together at most; with the next one it waits."""
_ATTEMPTS = 100  # those at a stage are counted within those at the run
_MOST_DEATHS = 3
"""Of a leaf in the middle of a run's calls; each costs the run what was in flight, and a run may be what kills it."""


class _LeafAwayError(Exception):
    """The leaf's stream broke off, and the leaf may come back."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class Listening:
    """What a leaf is asked for, and what its answers are to the run."""

    kind: str
    """Of what is kept: DEBATE or JUDGE."""
    ask: Callable[[int], Any]
    """Opens the stream of the given attempt."""
    passes: Callable[[Any], bool]
    """Whether an answer is neither kept nor paid; then it was told."""
    absorb: Callable[[Any], Awaitable[Absorbed]]
    """Takes a kept answer in: the calls that it is from, which are to be paid, and what to tell then."""
    rest: Callable[[], Awaitable[common_pb2.CostBound]]
    """The most that the run can still cost."""


async def listen(live: LiveRun, leaves: Leaves, to: Listening) -> None:
    """Listen to a leaf's stream to its end. What it says while something is stored or charged is taken together.

    A run that was taken up again has what it can still cost held before anything is asked.
    A leaf that goes away is asked again for what is missing, for about a minute, and at most three times after it had
    begun to call models.

    Raises:
        grpc.aio.AioRpcError: the leaf failed, or does not come back.
        NoRoomError: there is no room in the budget for what a run that was taken up again can still cost.
    """
    if live.resumed and not await hold(live, leaves, await patience.persistently(to.rest, live.waiting_for("debate"))):
        raise NoRoomError(
            "the run was interrupted, and there is no room in the budget for the rest of it; raise the limit or wait "
            "until it resets, and start the run again"
        )
    deaths, broken = 0, None
    for number, delay in enumerate((*patience.RETRY_DELAYS_S, None), start=1):
        try:
            if broken and deaths and not await hold(live, leaves, await _asked(to.rest())):
                raise broken
            leaf = common_pb2.Stage.Name(live.run.stage).removeprefix("STAGE_").lower()  # which has the leaf's name
            with _stream(to.ask((live.run.attempt - 1) * _ATTEMPTS + number)) as stream:
                async with aclosing(_together(stream, leaf)) as together:
                    async for responses in together:
                        await _take(live, leaves, to, responses)
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
                live.warn("a service died while models were called; those calls are charged at their bound")
        await asyncio.sleep(delay)


async def absorbed(
    live: LiveRun, leaves: Leaves, kept: Iterable[Any], absorb: Callable[[Any], Awaitable[Absorbed]]
) -> None:
    """Take in what is kept, and pay it."""
    await _pay(live, leaves, [await absorb(response) for response in kept])


async def _take(live: LiveRun, leaves: Leaves, to: Listening, responses: Sequence[Any]) -> None:
    """Take some of a leaf's answers: what is kept is stored before it is paid, so that it is never paid twice."""
    failed, kept = [], []
    for response in responses:
        match response.WhichOneof("event"):
            case "call_started":
                live.began(response.call_started)
            case "call_failed":
                failed.append(response.call_failed)
            case _:
                if not to.passes(response):
                    kept.append(response)
    if kept:
        live.keep(to.kind, (response.SerializeToString() for response in kept))
        await live.written()
    await _pay(live, leaves, [(failed, ()), *[await to.absorb(response) for response in kept]])


async def _pay(live: LiveRun, leaves: Leaves, taken: Sequence[Absorbed]) -> None:
    calls = [call for calls, _ in taken for call in calls]
    await charge(live, leaves, calls, *(event for _, events in taken for event in events))


async def _together(stream: Any, leaf: str) -> AsyncGenerator[list[Any], None]:
    """A stream's answers, each time all that have come since the last time."""
    waiting: list[Any] = []
    news, room = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        try:
            async for response in _until_it_breaks(stream, leaf):
                while len(waiting) >= _AT_ONCE:
                    room.clear()
                    await room.wait()
                waiting.append(response)
                news.set()
        finally:
            news.set()

    reader = asyncio.create_task(read())
    try:
        while True:
            news.clear()
            if waiting:
                taken, waiting[:] = waiting[:], []
                room.set()
                yield taken
            elif reader.done():
                break
            else:
                await news.wait()
        await reader
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


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
