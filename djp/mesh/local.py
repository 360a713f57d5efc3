"""Calls between the parts of one process, without a wire: servers at `local:NAME`, and channels to them.

To callers and handlers such a channel is one of gRPC's: the same stubs, pipeline, metadata, deadlines, errors and
back-pressure. A call takes a tenth of the time (benchmarks/calls.py), for nothing goes through a socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import grpc

from djp.mesh.errors import FailedPrecondition
from djp.mesh.local_call import ManyAnswers, OneAnswer, encoded, send_all
from djp.mesh.local_context import answer
from djp.mesh.local_exchange import Exchange
from djp.mesh.outgoing import outgoing

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from djp.mesh.interceptors import CallPipeline

    Handler = grpc.RpcMethodHandler[Any, Any]

LOCAL = "local:"

_servers: dict[str, LocalServer] = {}
"""What is served in this process, by address."""


class LocalServer:
    """Serves handlers to the channels of this process and event loop; made and used as `grpc.aio.server` is."""

    def __init__(self, address: str, pipeline: CallPipeline) -> None:
        self._address = address
        self._pipeline = pipeline
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._open: dict[asyncio.Task[None], Exchange] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Called by what adds a servicer to a server."""
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, _service: str, _handlers: Mapping[str, Handler]) -> None:
        """Called likewise; they are among the generic ones."""

    async def start(self) -> None:
        """Take calls. Raises FailedPrecondition when another server has the address."""
        if _servers.setdefault(self._address, self) is not self:
            raise FailedPrecondition(f"another server listens on {self._address}: choose another address")
        self._loop, self._context = asyncio.get_running_loop(), contextvars.copy_context()

    async def stop(self, grace_s: float | None) -> None:
        """Take no more calls; those that are open have `grace_s` seconds to end."""
        _servers.pop(self._address, None)
        if self._open and grace_s:
            await asyncio.wait(self._open, timeout=grace_s)
        for exchange in self._open.values():
            exchange.give_up(grpc.StatusCode.UNAVAILABLE, "the server has stopped")
        await asyncio.gather(*self._open, return_exceptions=True)

    def is_here(self) -> bool:
        """Whether the caller is on the event loop of the server."""
        return self._loop is asyncio.get_running_loop()

    def take(self, exchange: Exchange) -> None:
        """Serve a call, in a context of its own: nothing of its caller's gets in but what is sent."""
        method = _Method(exchange.method, exchange.metadata)
        find = partial(self._pipeline.intercept_service, self._find, method)
        task = self._loop.create_task(answer(exchange, find), context=self._context.copy())
        exchange.handler = task
        self._open[task] = exchange
        task.add_done_callback(self._open.pop)

    async def _find(self, method: grpc.HandlerCallDetails) -> Handler | None:
        found = (handlers.service(method) for handlers in self._handlers)
        return next((handler for handler in found if handler), None)


class _Method(grpc.HandlerCallDetails):
    def __init__(self, method: str, metadata: Any) -> None:
        self.method = method
        self.invocation_metadata = metadata


class LocalChannel(grpc.aio.Channel):
    """A channel to a server of this process; `headers` are metadata of every call.

    `interceptors` see the calls of one request and one answer; others there need not be yet.
    """

    def __init__(
        self,
        address: str,
        headers: Mapping[str, str],
        interceptors: Sequence[grpc.aio.UnaryUnaryClientInterceptor],
        most_bytes: int,
    ) -> None:
        self._address = address
        self._interceptors = interceptors
        self._headers = headers
        self._most_bytes = most_bytes
        self._open: set[Exchange] = set()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Make no more calls; those that are open have `grace` seconds to end."""
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace or 0):
                for exchange in list(self._open):
                    await exchange.over.wait()
        for exchange in list(self._open):
            exchange.cancel("Channel is closed.")

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Always ready: there is nothing to connect."""
        return grpc.ChannelConnectivity.READY

    async def channel_ready(self) -> None:
        """It is."""

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Which never changes."""
        if last_observed_state is grpc.ChannelConnectivity.READY:
            await asyncio.Event().wait()

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        call = self._callable(OneAnswer, False, method, *args, **kwargs)
        return partial(_intercepted, self._interceptors, method, call) if self._interceptors else call

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._callable(ManyAnswers, False, method, *args, **kwargs)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._callable(OneAnswer, True, method, *args, **kwargs)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._callable(ManyAnswers, True, method, *args, **kwargs)

    def _callable(
        self,
        kind: type[OneAnswer | ManyAnswers],
        many: bool,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool = False,
    ) -> Callable[..., Any]:
        """What makes calls of a method; options of gRPC's that are about the connection change nothing here."""

        def call(request: Any = None, timeout: float | None = None, metadata: Any = None, **_options: Any) -> Any:
            if self._closed:
                raise grpc.aio.UsageError("Channel is closed.")
            exchange = Exchange(method, *outgoing(metadata, timeout, self._headers), self._most_bytes)
            made = kind(exchange, request_serializer, response_deserializer)
            if not many:
                exchange.requests.put_last(exchange.weighed(encoded(request_serializer, request), "CLIENT"))
            if exchange.code is None:
                self._hand_over(exchange)
            if many and request is not None and exchange.code is None:
                sending = send_all(exchange, request_serializer, request)
                exchange.sender = asyncio.get_running_loop().create_task(sending)
            return made

        return call

    def _hand_over(self, exchange: Exchange) -> None:
        server = _servers.get(self._address)
        if server is None or not server.is_here():
            told = f"nothing serves {self._address} in this process and event loop"
            exchange.give_up(grpc.StatusCode.UNAVAILABLE, told)
            return
        self._open.add(exchange)
        exchange.at_end.append(partial(self._open.discard, exchange))
        server.take(exchange)


class _Intercepted(grpc.aio.InterceptedUnaryUnaryCall):  # type: ignore[type-arg]  # generic in its stubs only
    """A call that interceptors make, as often as they find it worth while; gRPC's own makes it on a wire."""

    def __init__(self, making: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(making)
        super(grpc.aio.InterceptedUnaryUnaryCall, self).__init__(task)


def _intercepted(
    interceptors: Sequence[grpc.aio.UnaryUnaryClientInterceptor],
    method: str,
    call: Callable[..., Any],
    request: Any,
    timeout: float | None = None,
    metadata: Any = None,
    **_options: Any,
) -> _Intercepted:
    async def made(left: Sequence[Any], details: grpc.aio.ClientCallDetails, request: Any) -> Any:
        if not left:
            return call(request, details.timeout, details.metadata)
        return await left[0].intercept_unary_unary(partial(made, left[1:]), details, request)

    details = grpc.aio.ClientCallDetails(method, timeout, metadata, None, None)
    return _Intercepted(made(interceptors, details, request))
