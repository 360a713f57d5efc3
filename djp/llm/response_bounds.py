"""Bounds the size of a provider's HTTP response, which a client would otherwise read to its end into memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from djp.llm.provider_failures import Failures

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""The longest answers of today's models have 128,000 tokens, each about 400 bytes in a stream."""
MAX_EVENT_BYTES = 4 * 1024 * 1024
"""Of one event in a stream: it is held whole."""
MAX_ERROR_BYTES = 64 * 1024
"""Of a refusal's body; the rest is not read."""


def bound_response(response: httpx2.Response, failures: Failures) -> None:
    """Let no more of the body be read than an answer needs; a larger one fails as `Failures.too_large` says."""
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _BoundedStream(response, response.stream, failures)


class _BoundedStream(httpx2.AsyncByteStream):
    def __init__(self, response: httpx2.Response, stream: httpx2.AsyncByteStream, failures: Failures) -> None:
        self._stream = stream
        self._failures = failures
        self._refused = not response.is_success
        self._events = response.headers.get("content-type", "").startswith("text/event-stream")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        total = event = 0
        async for data in self._stream:
            total += len(data)
            if self._refused and total > MAX_ERROR_BYTES:
                yield data[: MAX_ERROR_BYTES - total]
                return
            if total > MAX_RESPONSE_BYTES:
                raise self._failures.too_large(MAX_RESPONSE_BYTES)
            if self._events:
                end = data.rfind(b"\n")
                event = event + len(data) if end < 0 else len(data) - end
                if event > MAX_EVENT_BYTES:
                    raise self._failures.too_large(MAX_EVENT_BYTES)
            yield data

    async def aclose(self) -> None:
        await self._stream.aclose()
