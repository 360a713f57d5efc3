"""Says which leaf it is that does not answer. gRPC's own words name its host or socket instead, which only the mesh's
owner needs to know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from djp.mesh.local import LOCAL
from djp.mesh.rpc_errors import error_from_rpc, has_details, rpc_error_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def named(error: grpc.aio.AioRpcError, leaf: str) -> grpc.aio.AioRpcError:
    """The error of a call of that leaf, which says what may be told outside if it does not answer, or names where it
    keeps its things."""
    known = error_from_rpc(error)
    if not known.outside:
        return error
    away = f"the {leaf} service does not answer; try again in a moment"
    known.outside = f"{leaf}: {known.outside}" if has_details(error) else away
    return rpc_error_of(known)


def naming(leaf: str, address: str) -> Sequence[grpc.aio.UnaryUnaryClientInterceptor]:
    """For a channel to that leaf: plain calls fail with `named` errors. A part of this process is never away alone."""
    return () if address.startswith(LOCAL) else (_Naming(leaf),)


class _Naming(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, leaf: str) -> None:
        self._leaf = leaf

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        call = await continuation(client_call_details, request)
        try:
            await call
        except grpc.aio.AioRpcError as error:
            raise named(error, self._leaf) from error
        return call
