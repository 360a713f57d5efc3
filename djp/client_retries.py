"""Repeats a client's calls whose failure may pass, told apart by the error's reason."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import grpc

from djp.mesh.rpc_errors import error_from_rpc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RETRY_WAITS_S = (0.1, 0.3, 1.0, 3.0)
"""Pauses between a call's attempts, each taken by half more or less: a gateway restarts in less than all of them."""
_PASSING = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "RATE_LIMITED", "CORPUS_BUSY"}
"""Reasons that say nothing against the request. A budget's is not among them: it stays exceeded until its window ends.
A call is cancelled by a server that stops; a caller who gives up is no error of the call."""


class Retrying(grpc.aio.UnaryUnaryClientInterceptor):
    """Sends a call of one answer again, for as long as its own deadline lets it.

    The very same request is sent, `request_id` included, so that what was done already is answered and not done twice.
    """

    def __init__(self, waits_s: Sequence[float] = RETRY_WAITS_S) -> None:
        self._waits_s = waits_s

    async def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        loop, timeout = asyncio.get_running_loop(), client_call_details.timeout
        ends = None if timeout is None else loop.time() + timeout
        for wait in (*self._waits_s, None):
            left = None if ends is None else max(ends - loop.time(), 0)
            call = await continuation(_within(client_call_details, left), request)
            try:
                await call
            except grpc.aio.AioRpcError as refused:
                error = error_from_rpc(refused)
                if wait is None or error.reason not in _PASSING:
                    return call
                pause = max(wait * random.uniform(0.5, 1.5), error.retry_after_s or 0)  # noqa: S311  no secret
                if ends is not None and loop.time() + pause >= ends:
                    return call
                await asyncio.sleep(pause)
            else:
                return call
        raise AssertionError("the last attempt has no wait after it")


def _within(details: grpc.aio.ClientCallDetails, timeout_s: float | None) -> grpc.aio.ClientCallDetails:
    return grpc.aio.ClientCallDetails(
        details.method, timeout_s, details.metadata, details.credentials, details.wait_for_ready
    )
