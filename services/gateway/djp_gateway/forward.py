"""Forwards the leaves' public RPCs as bytes, under the caller's tenant; the leaf checks and answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
from google.api import annotations_pb2

from djp.mesh.rpc_errors import error_from_rpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

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


def is_public(method: MethodDescriptor) -> bool:
    """Whether callers from outside may use the method: it has an HTTP route, or it is a stream of files."""
    return method.GetOptions().HasExtension(annotations_pb2.http) or method.full_name in _PUBLIC_WITHOUT_ROUTE


class Forwarder(grpc.GenericRpcHandler):
    """A handler of every public method of a leaf's service."""

    def __init__(self, service: ServiceDescriptor, channel: grpc.aio.Channel) -> None:
        self._handlers = {
            path: _handler(channel, path, method.client_streaming, method.server_streaming)
            for method in service.methods
            if is_public(method)
            for path in [f"/{service.full_name}/{method.name}"]
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of a method, if it is public."""
        return self._handlers.get(handler_call_details.method)


def _handler(
    channel: grpc.aio.Channel, path: str, client_streaming: bool, server_streaming: bool
) -> grpc.RpcMethodHandler[Any, Any]:
    call: Any
    make: Callable[..., grpc.RpcMethodHandler[Any, Any]]
    if client_streaming:
        call = channel.stream_stream(path) if server_streaming else channel.stream_unary(path)
        make = grpc.stream_stream_rpc_method_handler if server_streaming else grpc.stream_unary_rpc_method_handler
    else:
        call = channel.unary_stream(path) if server_streaming else channel.unary_unary(path)
        make = grpc.unary_stream_rpc_method_handler if server_streaming else grpc.unary_unary_rpc_method_handler

    async def once(request: Any, _context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        try:
            answer: bytes = await call(request)
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error
        return answer

    async def stream(request: Any, _context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
        try:
            async for answer in call(request):
                yield answer
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from error

    return make(stream if server_streaming else once)


def add_forwarder(forwarder: Forwarder, server: grpc.aio.Server) -> None:
    """Let the server use the forwarder."""
    server.add_generic_rpc_handlers((forwarder,))
