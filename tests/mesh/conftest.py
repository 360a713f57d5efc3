"""A tiny service on real sockets: every method takes and gives a StringValue, and a test says what each one does."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from djp.mesh.channel import open_channel
from djp.mesh.server import MeshServer, Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_KINDS = {"Unary": "unary_unary", "Stream": "unary_stream", "Collect": "stream_unary", "Chat": "stream_stream"}


class Stub:
    """Calls the tiny service over a channel."""

    def __init__(self, channel: grpc.aio.Channel, message: Any = StringValue) -> None:
        for method, kind in _KINDS.items():
            setattr(
                self,
                method,
                getattr(channel, kind)(f"/test.Probe/{method}", message.SerializeToString, StringValue.FromString),
            )


def tiny_service(
    name: str = "probe", *, message: Any = StringValue, background: Any = (), public: bool = False, **methods: Any
) -> Service:
    """A service whose methods (Unary, Stream, Collect, Chat) are the given functions."""

    def add(_servicer: Any, server: grpc.aio.Server) -> None:
        handlers = {
            method: getattr(grpc, f"{_KINDS[method]}_rpc_method_handler")(
                behavior, request_deserializer=message.FromString, response_serializer=StringValue.SerializeToString
            )
            for method, behavior in methods.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Probe", handlers),))

    return Service(name, [(SimpleNamespace(full_name="test.Probe"), None, add)], background, public)


@dataclass
class Mesh:
    """Starts servers and channels and closes them when the test ends."""

    folder: Path
    scheme: str = "unix"
    """Where services are if a test does not say: on a socket, or within the process."""
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    Text: Any = StringValue

    @staticmethod
    def service(*args: Any, **kwargs: Any) -> Service:
        return tiny_service(*args, **kwargs)

    async def serve(self, service: Service, address: str | None = None, **kwargs: Any) -> MeshServer:
        server = MeshServer(service, address or self.address(service.name), **kwargs)
        return await self.stack.enter_async_context(server)

    def address(self, name: str) -> str:
        return f"{self.scheme}:{self.folder}/{name}.sock"

    async def channel(self, address: str, **kwargs: Any) -> grpc.aio.Channel:
        return await self.stack.enter_async_context(open_channel(address, **kwargs))

    async def stub(self, address: str, message: Any = StringValue, **kwargs: Any) -> Any:
        return Stub(await self.channel(address, **kwargs), message)

    async def probe(self, address: str | None = None, **methods: Any) -> Any:
        """A stub of a new server with these methods."""
        return await self.stub((await self.serve(self.service(**methods), address)).address)


@pytest.fixture
def scheme() -> str:
    """A module whose tests hold within one process, too, has a fixture of this name with both."""
    return "unix"


@pytest.fixture
async def mesh(short_folder: Path, scheme: str) -> AsyncIterator[Mesh]:
    mesh = Mesh(short_folder, scheme)
    async with mesh.stack:
        yield mesh
