"""What both sides of a call within one process share: the messages between them, and how the call ends.

Messages cross as bytes: so neither side can change what the other has, and it is known what each weighs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable

_WINDOW = 64 * 1024
"""Bytes that may lie unread in one direction before their writer waits, as on a connection of HTTP/2."""


class Pipe:
    """The messages of one direction, in order; one side writes, the other reads."""

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._unread = 0
        self._ended = False
        self._moved = asyncio.Event()

    def put_last(self, message: bytes) -> None:
        """The only message, for which there is always room."""
        if not self._ended:
            self._messages.append(message)
            self._unread += len(message)
        self.end()

    async def put(self, message: bytes) -> None:
        """Waits for room, and lets others go on in any case. A message after the end is dropped."""
        while self._messages and self._unread + len(message) > _WINDOW and not self._ended:
            await self._move()
        if not self._ended:
            self._messages.append(message)
            self._unread += len(message)
            self._moved.set()
        await asyncio.sleep(0)

    async def get(self) -> bytes | None:
        """The next message; None: there is no more."""
        while not self._messages:
            if self._ended:
                return None
            await self._move()
        message = self._messages.popleft()
        self._unread -= len(message)
        self._moved.set()
        return message

    def end(self, *, drop: bool = False) -> None:
        """No more comes; with `drop`, what lies unread is not wanted either."""
        self._ended = True
        if drop:
            self._messages.clear()
        self._moved.set()

    async def _move(self) -> None:
        self._moved.clear()
        await self._moved.wait()


class Exchange:
    """What both sides of a call share. It ends once: with the server's status, or by its caller or its deadline, which
    then end the handler, too."""

    def __init__(self, method: str, metadata: grpc.aio.Metadata, timeout_s: float | None, most_bytes: int) -> None:
        self.method = method
        self.metadata = metadata
        self.requests, self.answers = Pipe(), Pipe()
        self.initial: tuple[Any, ...] = ()
        self.trailing: tuple[Any, ...] = ()
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self.cancelled = False
        """Its caller gave it up."""
        self.over = asyncio.Event()
        self.at_end: list[Callable[[], object]] = []
        self.handler: asyncio.Task[None] | None = None
        self.sender: asyncio.Task[None] | None = None
        """What reads the caller's iterator of requests."""
        self._most_bytes = most_bytes
        self._timer: asyncio.TimerHandle | None = None
        if timeout_s is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, timeout_s), self._expire)
            if timeout_s <= 0:
                self._expire()

    def time_remaining(self) -> float | None:
        """Seconds to the deadline, if there is one."""
        return max(0.0, self._timer.when() - asyncio.get_running_loop().time()) if self._timer else None

    def weighed(self, message: bytes, sender: str) -> bytes:
        """The message. One that is too large ends the call."""
        if len(message) > self._most_bytes:
            told = f"{sender}: Sent message larger than max ({len(message)} vs. {self._most_bytes})"
            self.give_up(grpc.StatusCode.RESOURCE_EXHAUSTED, told)
        return message

    async def send(self, message: bytes) -> None:
        """Send one of several requests."""
        await self.requests.put(self.weighed(message, "CLIENT"))

    def finish(self, code: grpc.StatusCode, details: str = "", trailing: Any = ()) -> bool:
        """The server's status; what it sent before can still be read. False: the call had ended before."""
        if self.code is not None:
            return False
        self.code, self.details, self.trailing = code, details, tuple(trailing or ())
        if self._timer:
            self._timer.cancel()
        if self.sender:
            self.sender.cancel()
        self.requests.end()
        self.answers.end()
        self.over.set()
        for tell in self.at_end:
            tell()
        return True

    def give_up(self, code: grpc.StatusCode, details: str) -> bool:
        """End the call and its handler, whatever has come until now. False: the call had ended before."""
        if not self.finish(code, details):
            return False
        self.requests.end(drop=True)
        self.answers.end(drop=True)
        if self.handler:
            self.handler.cancel()
        return True

    def cancel(self, why: str) -> bool:
        """Give up, because its caller wants no answer any more."""
        self.cancelled |= self.code is None
        return self.give_up(grpc.StatusCode.CANCELLED, why)

    def failure(self) -> BaseException | None:
        """What a caller gets in place of an answer, if the call did not end well."""
        assert self.code is not None  # noqa: S101  it is over
        if self.code is grpc.StatusCode.OK:
            return None
        if self.cancelled:
            return asyncio.CancelledError()
        return grpc.aio.AioRpcError(
            self.code,
            grpc.aio.Metadata(*self.initial),
            grpc.aio.Metadata(*self.trailing),
            details=self.details,
            debug_error_string=f"{self.method} within this process",
        )

    def _expire(self) -> None:
        self.give_up(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
