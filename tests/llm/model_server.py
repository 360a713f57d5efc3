"""A model server on the loopback: speaks OpenAI's and Anthropic's formats, fails as told, knows what it billed."""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.llm.model_connection import Call, Connection
from tests.llm.model_wire import Behaviour

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from djp.llm.calls import Usage

__all__ = ["Behaviour", "Call", "ModelServer"]


class ModelServer:
    """Serves while it is entered. `script` says how each call is answered: a function, or one behaviour after another.

    A script that ran out answers as `Behaviour()` does. `calls` are all requests to models so far; `key` is the only
    key that is let in (None: any); `models` are listed, `page_size` on each of Anthropic's pages, as `listing` says.
    `arrived` is set when a call came in.
    """

    def __init__(
        self, script: Callable[[Call], Behaviour] | Iterable[Behaviour] = (), *, key: str | None = None
    ) -> None:
        self.script = script
        self.key = key
        self.models = ["gpt-4o-mini", "claude-sonnet-4-5"]
        self.page_size = 20
        self.listing = Behaviour()
        self.calls: list[Call] = []
        self.connections: set[Connection] = set()
        self.arrived = asyncio.Event()
        self.address = ""

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI's client."""
        return f"{self.address}/v1"

    @property
    def anthropic_url(self) -> str:
        """The base URL for Anthropic's client."""
        return self.address

    async def __aenter__(self) -> ModelServer:
        return await self.listen(0)

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in list(self.connections):
            connection.close()
        await self._server.wait_closed()

    async def listen(self, port: int) -> ModelServer:
        """Serve on that port of the loopback, 0 for a free one."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", port, backlog=1024)
        self.address = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def behaviour(self, call: Call) -> Behaviour:
        """What the script says for a call."""
        if callable(self.script):
            return self.script(call)
        self.script = iter(self.script)
        return next(self.script, Behaviour())

    def billed(self) -> list[tuple[str, Usage]]:
        """Model and usage of every call that was billed."""
        return [(call.model, call.billed) for call in self.calls if call.billed is not None]

    def report(self) -> dict[str, int]:
        """Totals for `GET /billed`."""
        usages = [usage for _, usage in self.billed()]
        return {
            "calls": len(self.calls),
            "billed": len(usages),
            "input_tokens": sum(usage.input_tokens for usage in usages),
            "output_tokens": sum(usage.output_tokens for usage in usages),
            "connections": len(self.connections),
        }


async def serve(port: int, behaviour: Behaviour) -> None:
    """Answer every call alike until standard input ends; print the port first."""
    server = await ModelServer(lambda _: behaviour).listen(port)
    print(server.address.rpartition(":")[2], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.__aexit__()


def main() -> None:
    """The server as a process of its own, for benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-ms", type=float, default=0, help="before the answer begins")
    parser.add_argument("--gap-ms", type=float, default=0, help="between two writes of a stream")
    parser.add_argument("--pieces", type=int, default=60, help="in how many pieces the answer is streamed, at most")
    parser.add_argument("--pieces-per-write", type=int, default=1)
    parser.add_argument("--text-file", type=Path, help="the answer; a token is a word")
    options = parser.parse_args()
    text = options.text_file.read_text() if options.text_file else Behaviour.text
    behaviour = Behaviour(
        text=text,
        delay_s=options.delay_ms / 1000,
        gap_s=options.gap_ms / 1000,
        max_pieces=options.pieces,
        pieces_per_write=options.pieces_per_write,
    )
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(options.port, behaviour))


if __name__ == "__main__":
    main()
