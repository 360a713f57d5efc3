"""Lists that the gateway answers in pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djp.mesh.rpc_errors import answer_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

PAGE_SIZE = 1000
"""The contract's largest."""
_TIMEOUT_S = 60.0


async def pages(call: Callable[..., Awaitable[Any]], request: Any) -> AsyncIterator[Any]:
    """Every page of a list; the request is changed on the way."""
    while True:
        page = await answer_of(call(request, timeout=_TIMEOUT_S))
        yield page
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return
