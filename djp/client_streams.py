"""Streams of numbered answers of the gateway's, taken up again where they broke."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from djp.mesh.errors import Cancelled, DjpError, Unavailable
from djp.mesh.rpc_errors import error_from_rpc

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

RESUME_WAITS_S = (0.1, 0.3, 1.0, 3.0, 6.0)
"""Pauses between attempts to take up a broken stream, without a new answer in between: a gateway restarts in less."""
SILENCE_S = 90.0
"""While it is watched, a gateway says something at least every 30 s; after so long without a word it is lost."""
_LONG_STREAM_S = 60.0  # a stream that spoke for so long without news was in order: some runs wait for hours


async def resumed(
    start: Callable[[int], Any],
    number_of: Callable[[Any], int],
    whole: Callable[[int], Awaitable[bool]],
    *,
    after: int,
    what: str,
) -> AsyncGenerator[Any, None]:
    """The answers of a stream that tells what came after a number, each once; those without a number as they come.

    `start` makes the call for what came after a number, `whole` says whether a stream that ended had told everything.
    Whoever has heard enough closes this. Raises Unavailable, which names `what`, when the gateway does not come back.
    """
    loop, sequence, waits = asyncio.get_running_loop(), after, iter(RESUME_WAITS_S)
    while True:
        before = sequence
        began = heard = loop.time()
        call = start(sequence)
        try:
            while True:
                async with asyncio.timeout(SILENCE_S):  # wait_for would lose a cancellation that meets an answer
                    answer = await call.read()
                if answer is grpc.aio.EOF:
                    break
                heard, number = loop.time(), number_of(answer)
                if number and number <= sequence:
                    continue  # known already
                sequence = number or sequence
                yield answer
            if await whole(sequence):
                return
            lost: DjpError = Unavailable("the stream ended early")
        except grpc.aio.AioRpcError as error:
            lost = error_from_rpc(error)
        except TimeoutError:
            lost = Unavailable(f"it has said nothing for {SILENCE_S:g} s")
        except DjpError as error:
            lost = error
        finally:
            call.cancel()  # whoever has heard enough does not leave a stream open
        # A server that stops may cancel its streams; one that has too many calls or streams says when to come back.
        gone = isinstance(lost, Unavailable | Cancelled)
        if not gone and lost.reason != "RATE_LIMITED":
            raise lost
        if sequence > before or heard - began > _LONG_STREAM_S:
            waits = iter(RESUME_WAITS_S)
        pause = next(waits, None)
        if pause is None:
            if not gone:
                raise lost
            raise Unavailable(f"the gateway was lost while it worked on {what} ({lost.message})") from lost
        await asyncio.sleep(max(pause, lost.retry_after_s or 0))
