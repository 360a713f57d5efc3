"""Forwards the leaves' public RPCs under the caller's tenant; requests are checked here, the leaf answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import grpc
from google.api import annotations_pb2
from google.protobuf.message_factory import GetMessageClass

from djp.mesh.errors import DjpError, Unavailable
from djp.mesh.rpc_errors import error_from_rpc
from djp_gateway.away import named

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

# Streams of files have no place in a URL; to gRPC clients they are public all the same.
_PUBLIC_WITHOUT_ROUTE = frozenset(
    {
        "djp.v1.GroundingService.CreateCorpus",
        "djp.v1.RedactionService.RedactStream",
        "djp.v1.StorageService.PutArtifact",
        "djp.v1.StorageService.ExportTenant",
        "djp.v1.StorageService.ImportTenant",
    }
)

# These never end by themselves, so a drain ends them; all others get its time to end.
_ENDLESS = frozenset({"djp.v1.GovernanceService.WatchEvents"})


def is_public(method: MethodDescriptor) -> bool:
    """Whether callers from outside may use the method: it has an HTTP route, or it is a stream of files."""
    return method.GetOptions().HasExtension(annotations_pb2.http) or method.full_name in _PUBLIC_WITHOUT_ROUTE


class Forwarder(grpc.GenericRpcHandler):
    """A handler of every public method of a leaf's service."""

    def __init__(self, leaf: str, service: ServiceDescriptor, channel: grpc.aio.Channel) -> None:
        self._watches: set[Any] = set()
        self._handlers = {
            f"/{service.full_name}/{method.name}": _handler(leaf, channel, method, self._watches)
            for method in service.methods
            if is_public(method)
        }

    def end_watches(self) -> None:
        """End the streams that have no end of their own; their callers are told to go on elsewhere."""
        while self._watches:
            self._watches.pop().cancel()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a method, if it is public."""
        return self._handlers.get(handler_call_details.method)


def _handler(
    leaf: str, channel: grpc.aio.Channel, method: MethodDescriptor, watches: set[Any]
) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler that makes the same call of the leaf; answers pass as bytes. One without an end is among `watches`."""
    kind = "_".join("stream" if many else "unary" for many in (method.client_streaming, method.server_streaming))
    request_class = GetMessageClass(method.input_type)
    call = getattr(channel, kind)(
        f"/{method.containing_service.full_name}/{method.name}", request_serializer=request_class.SerializeToString
    )

    async def once(request: Any, _context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        with _Errors() as errors:
            try:
                answer: bytes = await call(errors.of(request) if method.client_streaming else request)
            except grpc.aio.AioRpcError as error:
                if method.client_streaming:
                    raise named(error, leaf) from error
                raise  # has its name already
        return answer

    async def stream(request: Any, _context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
        with _Errors() as errors:
            answers = call(errors.of(request) if method.client_streaming else request)
            if method.full_name in _ENDLESS:
                watches.add(answers)
            try:
                async for answer in answers:
                    yield answer
            except grpc.aio.AioRpcError as error:
                raise named(error, leaf) from error
            except asyncio.CancelledError:
                if method.full_name not in _ENDLESS or answers in watches:
                    raise
                raise Unavailable("the server is draining; watch again after the last sequence that came") from None
            finally:
                watches.discard(answers)
                answers.cancel()  # the caller may have gone in the middle

    make = getattr(grpc, f"{kind}_rpc_method_handler")
    handler: grpc.RpcMethodHandler[Any, Any] = make(
        stream if method.server_streaming else once, request_deserializer=request_class.FromString
    )
    return handler


class _Errors:
    """Raises what went wrong around a forwarded call: the leaf's error, or that of a bad message of the caller's."""

    def __init__(self) -> None:
        self._bad_message: DjpError | None = None

    async def of(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """The caller's messages. grpc answers an error in here with a mere cancellation, so it is kept."""
        try:
            async for request in requests:
                yield request
        except DjpError as error:
            self._bad_message = error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if self._bad_message:
            raise self._bad_message from error
        if isinstance(error, grpc.aio.AioRpcError):
            raise error_from_rpc(error) from error


def add_forwarder(forwarder: Forwarder, server: grpc.aio.Server) -> None:
    """Let the server use the forwarder."""
    server.add_generic_rpc_handlers((forwarder,))
