"""The archives of StorageService on the wire."""

from __future__ import annotations

import uuid
from contextlib import aclosing
from typing import TYPE_CHECKING

from djp.mesh.errors import InvalidInput
from djp.mesh.identity import current_identity
from djp.mesh.streams import heard_out, unless_silent
from djp.v1 import storage_pb2, storage_pb2_grpc
from djp_storage.archive import BadArchive
from djp_storage.mending import mending
from djp_storage.parts import visible_tenant
from djp_storage.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    import grpc

    from djp_storage.parts import Parts

_CHUNK_BYTES = 1 << 20


class TransferServicer(storage_pb2_grpc.StorageServiceServicer):
    """Exports and imports of the calling tenant; an operator may export another one."""

    def __init__(self, parts: Parts, *, idle_s: float) -> None:
        self._transfer = Transfer(parts.artifacts, mending(parts))
        self._idle_s = idle_s

    async def ExportTenant(
        self,
        request: storage_pb2.ExportTenantRequest,
        context: grpc.aio.ServicerContext[storage_pb2.ExportTenantRequest, storage_pb2.ExportTenantResponse],
    ) -> AsyncIterator[storage_pb2.ExportTenantResponse]:
        """The archive in chunks of about a MiB."""
        tenant = (visible_tenant(request.tenant) if request.tenant else None) or current_identity().tenant
        async with aclosing(_gathered(self._transfer.export(tenant))) as chunks:
            async for chunk in chunks:
                yield storage_pb2.ExportTenantResponse(chunk=chunk)

    async def ImportTenant(
        self,
        request_iterator: AsyncIterator[storage_pb2.ImportTenantRequest],
        context: grpc.aio.ServicerContext[storage_pb2.ImportTenantRequest, storage_pb2.ImportTenantResponse],
    ) -> storage_pb2.ImportTenantResponse:
        """The request_id, then the archive."""
        async with aclosing(unless_silent(request_iterator, self._idle_s)) as parts:
            first = await anext(parts, None)
            if first is None or first.WhichOneof("part") != "request_id":
                raise InvalidInput("request_id: missing; the first message has it", field="request_id")
            async with heard_out(parts), aclosing(_chunks(parts)) as chunks:
                told = await self._transfer.take_in(current_identity().tenant, str(uuid.UUID(first.request_id)), chunks)
        return storage_pb2.ImportTenantResponse(
            imported=told.imported,
            unchanged=told.unchanged,
            converted=told.converted,
            refused=told.refused,
            problems=told.problems,
        )


async def _chunks(parts: AsyncIterator[storage_pb2.ImportTenantRequest]) -> AsyncGenerator[bytes, None]:
    async for part in parts:
        if part.WhichOneof("part") != "chunk":
            raise BadArchive("missing; after the request_id every message carries a chunk")
        yield part.chunk


async def _gathered(pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The pieces, small ones together. What came before an error comes before it here, too."""
    kept, size = list[bytes](), 0
    async with aclosing(pieces):
        try:
            async for piece in pieces:
                kept.append(piece)
                size += len(piece)
                if size >= _CHUNK_BYTES:
                    yield b"".join(kept)
                    kept, size = [], 0
        except Exception:
            yield b"".join(kept)
            raise
    yield b"".join(kept)
