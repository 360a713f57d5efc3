"""Streams of requests whose sender may fall silent."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from djp.mesh.errors import DeadlineExceeded, DjpError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

Message = TypeVar("Message")


@asynccontextmanager
async def heard_out(messages: AsyncGenerator[Message, None]) -> AsyncIterator[None]:
    """If the block refuses the call, let its sender finish first, as long as it is not silent.

    A sender whose stream ends under its hands hears of a broken connection, and the reason is lost.
    """
    try:
        yield
    except DjpError:
        with suppress(DjpError):
            async for _ in messages:
                pass
        raise


async def unless_silent(messages: AsyncIterator[Message], idle_s: float) -> AsyncGenerator[Message, None]:
    """The messages as they come. Raises DeadlineExceeded when `idle_s` seconds pass without one.

    What a call holds while it waits for its sender (memory, a file) must have an end, also with a sender that hangs.
    """
    while True:
        try:
            async with asyncio.timeout(idle_s):
                message = await anext(messages, None)
        except TimeoutError:
            raise DeadlineExceeded(
                f"nothing came for {idle_s:g} s, so the call was given up and nothing was kept; send all of it again"
            ) from None
        if message is None:
            return
        yield message
