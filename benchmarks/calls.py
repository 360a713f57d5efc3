"""What a call between two parts costs over a Unix socket, by gRPC, and within one process, without a wire.

The same service answers the same stubs through the same pipeline; all share one event loop, as in `djp run`. Sides take
turns, and of many short turns the quickest counts, which nothing else on the machine has disturbed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.wrappers_pb2 import StringValue

from djp.mesh.channel import open_channel
from djp.mesh.server import MeshServer, Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

CALLS, ANSWERS = 30, 100
TEXT = StringValue(value="x" * 200)


def echo() -> Service:
    """A service that gives back what it gets, once or a hundred times."""

    async def once(request: StringValue, _context: Any) -> StringValue:
        return request

    async def often(request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
        for _ in range(ANSWERS):
            yield request

    read, write = StringValue.FromString, StringValue.SerializeToString
    handlers = {
        "Once": grpc.unary_unary_rpc_method_handler(once, read, write),
        "Often": grpc.unary_stream_rpc_method_handler(often, read, write),
    }

    def add(_servicer: object, server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", handlers),))

    return Service("echo", [(SimpleNamespace(full_name="bench.Echo"), None, add)])


async def measure(turns: int) -> dict[str, float]:
    """Microseconds of a call and of a message of a stream, by side."""
    best: dict[str, float] = {}
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="djp-"))
        work: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {}
        for side, address in {"socket": f"unix:{folder}/echo.sock", "local": f"local:{Path(folder).name}"}.items():
            await stack.enter_async_context(MeshServer(echo(), address))
            channel = await stack.enter_async_context(open_channel(address))
            coding = (StringValue.SerializeToString, StringValue.FromString)
            once, often = (
                channel.unary_unary("/bench.Echo/Once", *coding),
                channel.unary_stream("/bench.Echo/Often", *coding),
            )

            async def calls(once: Any = once) -> None:
                for _ in range(CALLS):
                    await once(TEXT)

            async def stream(often: Any = often) -> None:
                async for _ in often(TEXT):
                    pass

            work |= {f"{side}_call_us": (CALLS, calls), f"{side}_message_us": (ANSWERS, stream)}
        for _ in range(turns):
            for name, (times, do) in work.items():
                began = time.perf_counter()
                await do()
                took = (time.perf_counter() - began) / times * 1e6
                best[name] = min(took, best.get(name, took))
    return {name: round(took, 1) for name, took in best.items()}


def main() -> None:
    """Measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="100 turns instead of 1000")
    figures = asyncio.run(measure(100 if parser.parse_args().quick else 1000))
    print(f"{'':<22}{'socket':>10}{'local':>10}{'ratio':>8}")
    for what in ("call", "message"):
        socket, local = figures[f"socket_{what}_us"], figures[f"local_{what}_us"]
        told = {"call": "a call", "message": "an answer of a stream"}[what]
        print(f"{told:<22}{socket:>7} us{local:>7} us{socket / local:>8.1f}")
    print(json.dumps({"benchmark": "calls", "figures": figures}))


if __name__ == "__main__":
    main()
