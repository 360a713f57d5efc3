"""The server's side of a call within one process: what a handler is given, and how it is driven."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, NoReturn

import grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

    from djp.mesh.local_exchange import Exchange

    Handler = grpc.RpcMethodHandler[Any, Any]

_log = logging.getLogger(__name__)


async def answer(exchange: Exchange, find: Callable[[], Awaitable[Handler | None]]) -> None:
    """Let the method's handler answer, and end the call as it does."""
    try:
        handler = await find()
        if handler is None:
            exchange.finish(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
            return
        context = LocalContext(exchange, handler)
        await _handle(handler, context)
        exchange.finish(context.code(), context.details(), context.trailing_metadata())
    except grpc.aio.AbortError:
        pass
    except asyncio.CancelledError:
        exchange.finish(grpc.StatusCode.CANCELLED, "the handler was cancelled")
        raise
    except Exception as error:
        _log.exception("%s failed outside its pipeline", exchange.method)
        exchange.finish(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}: {error}")


async def _handle(handler: Handler, context: LocalContext) -> None:
    """The pipeline has made every handler one that is awaited, and that writes itself if it has several answers."""
    kind = ("stream" if handler.request_streaming else "unary") + (
        "_stream" if handler.response_streaming else "_unary"
    )
    request = context.requests() if handler.request_streaming else await context.read()
    answered = await getattr(handler, kind)(request, context)
    if not handler.response_streaming:
        context.write_last(answered)


class LocalContext(grpc.aio.ServicerContext[Any, Any]):
    """What a handler knows of its call, and can say to the caller."""

    def __init__(self, exchange: Exchange, handler: Handler) -> None:
        self._exchange = exchange
        self._deserialize = handler.request_deserializer
        self._serialize = handler.response_serializer
        self._code = grpc.StatusCode.OK
        self._details = ""
        self._trailing: Any = ()

    async def requests(self) -> AsyncIterator[Any]:
        """The caller's messages to their end. A call that was given up has none: its handler is cancelled."""
        while (request := await self.read()) is not grpc.aio.EOF:
            yield request

    async def read(self) -> Any:
        message = await self._exchange.requests.get()
        if message is None:
            return grpc.aio.EOF
        return self._deserialize(message) if self._deserialize else message

    async def write(self, message: Any) -> None:
        await self._exchange.answers.put(self._weighed(message))

    def write_last(self, message: Any) -> None:
        """The only answer."""
        self._exchange.answers.put_last(self._weighed(message))

    def _weighed(self, message: Any) -> bytes:
        return self._exchange.weighed(self._serialize(message) if self._serialize else message, "SERVER")

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        self._exchange.initial = tuple(initial_metadata)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        self._code = code
        self._exchange.finish(code, details, trailing_metadata or self._trailing)
        raise grpc.aio.AbortError

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        await self.abort(status.code, status.details, status.trailing_metadata)

    def invocation_metadata(self) -> Any:
        return self._exchange.metadata

    def time_remaining(self) -> Any:
        return self._exchange.time_remaining()

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self._trailing = trailing_metadata

    def trailing_metadata(self) -> Any:
        return self._trailing

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def set_details(self, details: str) -> None:
        self._details = details

    def details(self) -> str:
        return self._details

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._exchange.at_end.append(lambda: callback(self))

    def cancelled(self) -> bool:
        return self._exchange.code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        return self._exchange.code is not None

    def peer(self) -> str:
        return "local:"

    def peer_identities(self) -> Iterable[bytes] | None:
        return None

    def peer_identity_key(self) -> str | None:
        return None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return {}

    def set_compression(self, compression: grpc.Compression) -> None:
        """Nothing is compressed on the way."""

    def disable_next_message_compression(self) -> None:
        """Nothing is compressed on the way."""
