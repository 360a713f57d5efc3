"""The caller's side of a call within one process: what gRPC's own calls offer."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from djp.mesh.local_exchange import Exchange

_log = logging.getLogger(__name__)


class _Call(grpc.aio.Call):
    """The caller's side."""

    def __init__(
        self, exchange: Exchange, serialize: Callable[[Any], bytes] | None, deserialize: Callable[[bytes], Any] | None
    ) -> None:
        self._exchange = exchange
        self._serialize = serialize
        self._deserialize = deserialize

    def __del__(self) -> None:
        self._exchange.cancel("Cancelled upon garbage collection!")

    def cancel(self) -> bool:
        return self._exchange.cancel("Locally cancelled by application!")

    def cancelled(self) -> bool:
        return self._exchange.code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        return self._exchange.code is not None

    def time_remaining(self) -> float | None:
        return self._exchange.time_remaining()

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        if self.done():
            callback(self)
        else:
            self._exchange.at_end.append(partial(callback, self))

    async def initial_metadata(self) -> grpc.aio.Metadata:
        await self._exchange.over.wait()
        return grpc.aio.Metadata(*self._exchange.initial)

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        await self._exchange.over.wait()
        return grpc.aio.Metadata(*self._exchange.trailing)

    async def code(self) -> grpc.StatusCode:
        await self._exchange.over.wait()
        assert self._exchange.code is not None  # noqa: S101  it is over
        return self._exchange.code

    async def details(self) -> str:
        await self._exchange.over.wait()
        return self._exchange.details

    async def wait_for_connection(self) -> None:
        """There is none to wait for."""

    async def write(self, request: Any) -> None:
        """Send one more request, once there is room."""
        if self.done():
            raise asyncio.InvalidStateError("the call has ended; nothing can be sent any more")
        await self._exchange.send(encoded(self._serialize, request))

    async def done_writing(self) -> None:
        """No more requests come."""
        self._exchange.requests.end()

    def _read(self, message: bytes) -> Any:
        return self._deserialize(message) if self._deserialize else message


def encoded(serialize: Callable[[Any], bytes] | None, message: Any) -> bytes:
    """A message as bytes; those who pass bytes on have no serializer."""
    return serialize(message) if serialize else message


async def send_all(exchange: Exchange, serialize: Callable[[Any], bytes] | None, requests: Any) -> None:
    """Send what an iterator has; one that breaks off gives up the call, for half is not all of it."""
    try:
        if hasattr(requests, "__aiter__"):
            async for request in requests:
                await exchange.send(encoded(serialize, request))
        else:
            for request in requests:
                await exchange.send(encoded(serialize, request))
        exchange.requests.end()
    except asyncio.CancelledError:
        exchange.cancel("the iterator of requests was cancelled")
        raise
    except Exception:
        _log.debug("the iterator of requests of %s broke off", exchange.method, exc_info=True)
        exchange.cancel("the iterator of requests broke off")


class OneAnswer(_Call, grpc.aio.UnaryUnaryCall[Any, Any], grpc.aio.StreamUnaryCall[Any, Any]):
    """A call that is awaited for its answer, as often as one likes."""

    _answer: Any = None

    def __await__(self) -> Generator[Any, None, Any]:
        return self._awaited().__await__()

    async def _awaited(self) -> Any:
        try:
            await self._exchange.over.wait()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if failure := self._exchange.failure():
            raise failure
        message = await self._exchange.answers.get()
        if message is not None:
            self._answer = self._read(message)
        return self._answer


class ManyAnswers(_Call, grpc.aio.UnaryStreamCall[Any, Any], grpc.aio.StreamStreamCall[Any, Any]):
    """A call whose answers are iterated over, or read one by one."""

    def __aiter__(self) -> ManyAnswers:
        return self

    async def __anext__(self) -> Any:
        answer = await self.read()
        if answer is grpc.aio.EOF:
            raise StopAsyncIteration
        return answer

    async def read(self) -> Any:
        """The next answer, or `grpc.aio.EOF`."""
        try:
            message = await self._exchange.answers.get()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if message is not None:
            return self._read(message)
        if failure := self._exchange.failure():
            raise failure
        return grpc.aio.EOF
