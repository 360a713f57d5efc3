"""Renders templates in processes of their own, which can be killed: what a template says is hostile input."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from djp_gateway.templates.sandbox import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_BYTES = 262_144
"""Of a rendered text in UTF-8: the contract's limit for a task."""
_CPU_S = 0.5
_WALL_S = 20.0  # on a busy machine half a second of CPU may take long; a process that was stopped takes for ever
_MEMORY_BYTES = 512 << 20
_AT_ONCE = 4


class Renderer:
    """Up to four worker processes, each started when it is needed and used again. Close it when done."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._idle: list[asyncio.subprocess.Process] = []

    async def render(self, body: str, context: str, values: Mapping[str, Any]) -> str:
        """The text that a template's body makes of checked values.

        Raises:
            Refused: it failed, took more than half a second of CPU or 512 MiB, or makes more than `MOST_BYTES`.
        """
        question = json.dumps({"body": body, "context": context, "values": values}).encode() + b"\n"
        async with self._turn:
            alive = [process for process in self._idle if process.returncode is None]
            process = alive.pop() if alive else await _start()
            self._idle = alive
            try:
                async with asyncio.timeout(_WALL_S) as wall:
                    answer = await _ask(process, question)
            except TimeoutError:
                answer = None
            except BaseException:
                await _end(process)
                raise
            if answer is None:
                # One that died is only waited for: a kill could take its exit code from asyncio, which then says 255.
                code = await _end(process) if wall.expired() else await process.wait()
                if wall.expired() or code == -signal.SIGPROF:
                    raise Refused("takes too long; shorten its loops or its inputs")
                raise Refused(f"brought its process down ({code}); shorten the template or its inputs")
            self._idle.append(process)
        if "error" in answer:
            raise Refused(answer["error"], answer["line"])
        text: str = answer["text"]
        return text

    async def close(self) -> None:
        """End the processes."""
        while self._idle:
            await _end(self._idle.pop())


async def _start() -> asyncio.subprocess.Process:
    # It gets no secret: of the environment only what Python needs.
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "djp_gateway.templates.worker"),
        *(str(_MEMORY_BYTES), str(_CPU_S), str(MOST_BYTES)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        limit=8 * MOST_BYTES,  # a line: JSON escapes a character with up to six
    )


async def _ask(process: asyncio.subprocess.Process, question: bytes) -> dict[str, Any] | None:
    """The answer, or None if the process died over the question."""
    if process.stdin is None or process.stdout is None:
        raise AssertionError("the worker is started with pipes")
    try:
        process.stdin.write(question)
        await process.stdin.drain()
        line = await process.stdout.readline()
    except (BrokenPipeError, ConnectionResetError):
        return None
    answer: dict[str, Any] | None = json.loads(line) if line.endswith(b"\n") else None
    return answer


async def _end(process: asyncio.subprocess.Process) -> int:
    """Kill it if it lives; how it ended."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    return await process.wait()
