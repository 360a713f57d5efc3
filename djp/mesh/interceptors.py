"""What happens around every call a server serves: identity, deadline, trace, validation, metrics, errors to Status."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import time
import uuid
from contextlib import ExitStack, aclosing, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Never, Protocol

import grpc

from djp.mesh import errors
from djp.mesh.deadline import deadline_scope
from djp.mesh.identity import OUTSIDE_KEY, ROLE_KEY, TENANT_KEY, identity_from_metadata, identity_scope
from djp.mesh.rpc_errors import DETAILS_KEY, error_from_rpc, status_code, status_from_error
from djp.mesh.telemetry import BAGGAGE_KEY, server_span
from djp.mesh.validation import checked, reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from contextlib import AbstractContextManager

    from djp.mesh.identity import Identity
    from djp.mesh.metrics import CallMetrics

    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]

_RECHECK_S = 0.5
_still: ContextVar[Callable[[], Awaitable[None]] | None] = ContextVar("djp_still", default=None)
"""Raises when the caller of this stream may not call any more. Every call has a context of its own."""


class Authenticate(Protocol):
    """Says who calls, from what a call presents; None: it presents nothing. May raise any DjpError.

    `trusted`: the connection is its owner's own, a Unix socket. `again`: it is no new call, but a stream that goes on.
    """

    async def __call__(self, metadata: Mapping[str, str], *, trusted: bool, again: bool = False) -> Identity | None: ...


class Authorize(Protocol):
    """Raises PermissionDenied when that caller may not call that method (`/package.Service/Method`)."""

    def __call__(self, method: str, identity: Identity) -> None: ...


class StreamScope(Protocol):
    """A scope around every stream of that caller's; entering it may raise any DjpError."""

    def __call__(self, identity: Identity) -> AbstractContextManager[None]: ...


_DISBELIEVED = frozenset({TENANT_KEY, ROLE_KEY, BAGGAGE_KEY})

# Health and reflection are for probes and tools: no identity, no span, no metrics.
_INFRASTRUCTURE = ("/grpc.health.", "/grpc.reflection.")

_log = logging.getLogger(__name__)


class CallPipeline(grpc.aio.ServerInterceptor):
    """One interceptor for the whole pipeline, so that its order is visible in one place and the call has one task.

    A streaming handler may be an async generator: it is driven here, inside the scopes, and closed here when the call
    is cancelled. (Were the wrapper itself a generator, a cancelled call would leave it to the garbage collector, which
    closes it in another context, where no context variable can be reset.)

    Of `strangers` nothing is believed: their calls are the default tenant's, and part of no run. No error tells them
    how the mesh is built. Where there is an `authenticate`, it says who calls, and None where it knows nobody;
    `authorize` says whether they may, and every stream is open within a `stream_scope`.
    """

    def __init__(
        self,
        service: str,
        *,
        metrics: CallMetrics | None = None,
        strangers: bool = False,
        authenticate: Authenticate | None = None,
        authorize: Authorize | None = None,
        stream_scope: StreamScope | None = None,
    ) -> None:
        self._service = service
        self._strangers = strangers
        self._authenticate = authenticate
        self._authorize = authorize
        self._stream_scope = stream_scope
        self._streaming: set[str] = set()
        self._metrics = metrics
        self._wrapped: dict[str, Handler] = {}
        self._watchers: set[asyncio.Task[Any]] = set()
        self._draining = False

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Called by grpc for each call; the wrapped handler of a method is made once."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return None  # an unknown method: grpc answers UNIMPLEMENTED
        if method not in self._wrapped:
            infrastructure = method.startswith(_INFRASTRUCTURE)
            if handler.request_streaming or handler.response_streaming:
                self._streaming.add(method)
            self._wrapped[method] = _rewrap(handler, self._watched if infrastructure else self._served, method)
        return self._wrapped[method]

    def end_watchers(self) -> None:
        """End the open health watches and reflection streams, which would otherwise hold up a drain."""
        self._draining = True
        for task in self._watchers:
            task.cancel()

    async def _watched(self, method: str, context: Context, request: Any, body: Callable[[Any], Awaitable[Any]]) -> Any:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  grpc serves every call in a task
        self._watchers.add(task)
        try:
            return await body(checked(request, method))
        except errors.InvalidInput as error:
            await _abort(context, error, outside=True)
        except asyncio.CancelledError:
            if self._draining:  # grpc sends no status for a cancelled handler, and stop() would wait for one
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is draining")
            raise
        finally:
            self._watchers.discard(task)

    async def _served(self, method: str, context: Context, request: Any, body: Callable[[Any], Awaitable[Any]]) -> Any:
        started, code = time.perf_counter(), "OK"
        with self._metrics.inflight(self._service) if self._metrics else nullcontext():
            try:
                return await self._scoped(method, context, request, body)
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except grpc.aio.AbortError:  # the handler has answered for itself
                code = context.code().name
                raise
            except Exception as e:
                error = _djp_error(e, method)
                code = error.code
                outside = bool(error.outside) and self._is_stranger(_presented(context))
                if outside:
                    _log.warning("%s failed: %s", method.removeprefix("/"), error.message)
                await _abort(context, error, outside=outside)
            finally:
                if self._metrics:
                    self._metrics.served(self._service, method, code, time.perf_counter() - started)

    async def _scoped(self, method: str, context: Context, request: Any, body: Callable[[Any], Awaitable[Any]]) -> Any:
        presented = _presented(context)
        trusted = not self._is_stranger(presented)
        metadata = presented if trusted else {k: v for k, v in presented.items() if k not in _DISBELIEVED}
        identity = None
        if self._authenticate:
            identity = await self._authenticate(presented, trusted=trusted)
            _still.set(_rechecking(self._authenticate, presented, trusted))
        identity = identity or identity_from_metadata(metadata)
        if self._authorize:
            self._authorize(method, identity)
        with ExitStack() as scopes:
            scopes.enter_context(identity_scope(identity))
            scopes.enter_context(deadline_scope(context.time_remaining()))
            scopes.enter_context(server_span(self._service, method, metadata))
            if self._stream_scope and method in self._streaming:
                scopes.enter_context(self._stream_scope(identity))
            return await body(checked(request, method))

    def _is_stranger(self, presented: Mapping[str, str]) -> bool:
        return self._strangers or OUTSIDE_KEY in presented


def _presented(context: Context) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _rechecking(
    authenticate: Authenticate, presented: Mapping[str, str], trusted: bool
) -> Callable[[], Awaitable[None]]:
    """What a stream asks before each message: whoever may not call any more is told nothing more."""
    checked_at = time.monotonic()

    async def recheck() -> None:
        nonlocal checked_at
        if time.monotonic() - checked_at >= _RECHECK_S:
            checked_at = time.monotonic()
            await authenticate(presented, trusted=trusted, again=True)

    return recheck


async def _abort(context: Context, error: errors.DjpError, *, outside: bool) -> Never:
    status = status_from_error(error, outside=outside)
    trailers = [*(context.trailing_metadata() or ()), (DETAILS_KEY, status.SerializeToString())]
    if error.retry_after_s is not None:  # by REST a header, which programs know without RetryInfo
        trailers.append(("retry-after", str(math.ceil(error.retry_after_s))))
    await context.abort(status_code(error), status.message, tuple(trailers))


def _rewrap(handler: Handler, around: Callable[..., Awaitable[Any]], method: str) -> Handler:
    """The handler of the same kind that runs `around` the original."""
    kind = ("stream" if handler.request_streaming else "unary") + (
        "_stream" if handler.response_streaming else "_unary"
    )
    behavior = getattr(handler, kind)

    async def unary(request: Any, context: Context) -> Any:
        async def body(taken: Any) -> Any:
            if not handler.request_streaming:
                result = behavior(taken, context)
                return await result if inspect.isawaitable(result) else result
            whole = _Whole(taken, context)
            try:
                return await behavior(whole.requests(), context)
            finally:
                await whole.close()

        return await around(method, context, request, body)

    async def stream(request: Any, context: Context) -> None:
        async def body(taken: Any) -> None:
            result = behavior(taken, context)
            if inspect.isawaitable(result):  # a coroutine that uses context.write
                await result
                return
            async with aclosing(result) if hasattr(result, "aclose") else nullcontext():
                async for response in result:
                    if still := _still.get():
                        await still()
                    await context.write(response)

        await around(method, context, request, body)

    make = getattr(grpc, f"{kind}_rpc_method_handler")
    rewrapped: Handler = make(
        stream if handler.response_streaming else unary,
        reading(handler.request_deserializer),  # type: ignore[arg-type]  # generated servicers have one
        handler.response_serializer,
    )
    return rewrapped


class _Whole:
    """Requests that end only where the caller ended: grpc shows a call given up as an end too, and cancels it a moment
    later.

    Sending something to the caller takes longer than that moment; without it, half an upload could be taken for all.
    """

    def __init__(self, requests: AsyncIterator[Any], context: Context) -> None:
        self._requests = requests
        self._context = context
        self._sending: asyncio.Future[None] | None = None
        self._closed = False

    async def requests(self) -> AsyncIterator[Any]:
        async for request in self._requests:
            yield request
        if not self._closed:
            self._sending = asyncio.ensure_future(self._context.send_initial_metadata(()))
            await asyncio.shield(self._sending)

    async def close(self) -> None:
        """Before the answer or the error is sent. A handler may pass the requests on in a task of its own, and grpc
        takes it for a fault, and answers nothing, when two things are sent to the caller at once."""
        self._closed = True
        if self._sending:
            await asyncio.gather(self._sending, return_exceptions=True)


def _djp_error(e: Exception, method: str) -> errors.DjpError:
    if isinstance(e, errors.DjpError):
        return e
    if isinstance(e, grpc.RpcError):  # a nested call failed and nobody handled it: its error is ours
        return error_from_rpc(e)
    if isinstance(e, NotImplementedError):
        return errors.Unimplemented(f"this server does not implement {method.removeprefix('/')}")
    error_id = uuid.uuid4().hex[:12]
    _log.error("%s failed, error id %s", method.removeprefix("/"), error_id, exc_info=e)
    return errors.Internal(
        f"internal error, id {error_id}; the server's log has the details", metadata={"error_id": error_id}
    )
