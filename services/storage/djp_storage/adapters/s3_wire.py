"""HTTP on the event loop, for requests that are made by the thousand: no thread, one copy, a parser written in C.

The minio client's urllib3 takes several times what all the rest of such a request does (benchmarks/storage.py).
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from djp.mesh.errors import FailedPrecondition

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from urllib.parse import SplitResult

_CONNECT_S, _SILENCE_S = 3.0, 60.0
_AHEAD_BYTES = 1 << 20  # of an answer that nobody has asked for yet
_SHORT_BYTES, _LONG_BYTES = 1 << 16, 1 << 20  # read at once, of most answers and of a long content
_MOST = 32  # requests that wait for an answer at the same time


class Connections:
    """Connections to the hosts of an address, kept for the next request."""

    def __init__(self, secure: bool, ca: Path | None = None) -> None:
        """`ca` is a PEM file of the authority that signed the server's certificate; None: the usual ones.

        Raises FailedPrecondition if it is no such file.
        """
        try:
            self._tls = ssl.create_default_context(cafile=ca) if secure else None
        except OSError as error:
            told = error.strerror if error.filename else "no certificate in PEM"
            raise FailedPrecondition(f"certificate file {ca} cannot be used ({told}); mend DJP_STORAGE_S3_CA") from None
        self._idle: defaultdict[str, list[Exchange]] = defaultdict(list)
        self._all: set[Exchange] = set()
        self._room = asyncio.Semaphore(_MOST)

    async def whole(self, url: SplitResult, request: bytes) -> tuple[int, bytes]:
        """The status and the content of an answer that is short. Once it was sent, a cancelled caller waits for it.

        Who went on at once might remove what the server is just making. Raises OSError.
        """
        async with self._room:
            exchange = await self._sent(url, request, whole=True)
            content = exchange.taken()
            self.done(exchange)
            return exchange.status, content

    async def begun(self, url: SplitResult, request: bytes) -> Exchange:
        """An answer whose content may be long, as soon as its head is here; it is to be `done`. Raises OSError."""
        async with self._room:
            return await self._sent(url, request, whole=False)

    async def _sent(self, url: SplitResult, request: bytes, *, whole: bool) -> Exchange:
        """On a new connection if the one at hand breaks: the server may have closed it at this moment."""
        while True:
            idle = self._idle[url.netloc]
            exchange = idle.pop() if idle else None
            used = exchange is not None
            exchange = exchange or await self._connected(url)
            try:
                await exchange.send(request, whole=whole)
            except BaseException as error:
                self.done(exchange)
                if used and isinstance(error, ConnectionError):
                    continue
                raise
            return exchange

    async def _connected(self, url: SplitResult) -> Exchange:
        loop, port = asyncio.get_running_loop(), url.port or (443 if self._tls else 80)
        async with asyncio.timeout(_CONNECT_S):
            _, exchange = await loop.create_connection(
                lambda: Exchange(url.netloc, self._lost), url.hostname or "", port, ssl=self._tls
            )
        self._all.add(exchange)
        return exchange

    def done(self, exchange: Exchange) -> None:
        """Keep its connection if all of the answer was read, else close it."""
        if exchange.reusable:
            self._idle[exchange.host].append(exchange)
        else:
            exchange.close()

    def _lost(self, exchange: Exchange) -> None:
        self._all.discard(exchange)
        with suppress(ValueError):
            self._idle[exchange.host].remove(exchange)

    async def close(self) -> None:
        """Waits for no request under way."""
        for exchange in list(self._all):
            exchange.close()
        await asyncio.sleep(0)  # the loop lets go of them in its next round


class Exchange(asyncio.BufferedProtocol):
    """A connection, and the request and the answer that are on it. Its errors are OSErrors.

    Once the length of a long content is known, it goes past the parser, which would copy it.
    """

    def __init__(self, host: str, lost: Callable[[Exchange], None]) -> None:
        from httptools import HttpResponseParser

        self.host = host
        self._lost = lost
        self._parser = HttpResponseParser(self)
        self._short = bytearray(_SHORT_BYTES)
        self._requests = self._received = 0
        self._timer: asyncio.TimerHandle | None = None
        self._begin()
        self._ended = True

    def _begin(self) -> None:
        self.status = 0
        self._pieces: list[bytes] = []
        self._ahead = self._least = self._length = self._left = self._filled = 0
        self._long: bytearray | None = None
        self._head = self._ended = False
        self._error: OSError | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def reusable(self) -> bool:
        """Whether its connection can take another request."""
        return self._ended and not self._error and not self._pieces and not self._transport.is_closing()

    async def send(self, request: bytes, *, whole: bool) -> None:
        """Send a request, and return when its answer is here, or the head of it. A cancelled caller waits as well."""
        self._begin()
        self._requests += 1
        if self._transport.is_closing():
            raise ConnectionResetError("the connection was closed meanwhile")
        self._transport.write(request)
        cancelled = None
        while not (self._ended if whole else self._head):
            try:
                await self._more()
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled:
            raise cancelled

    async def piece(self, least: int) -> bytes:
        """The next bytes of the answer: so many or a little more, fewer only at the end; empty after it."""
        while not self._ended and self._ahead < least:
            await self._more(least)
        return self.taken()

    def taken(self) -> bytes:
        """What is here of the answer's content."""
        content = b"".join(self._pieces)
        self._pieces.clear()
        self._ahead = 0
        return content

    async def _more(self, least: int = 0) -> None:
        """Wait until something happens: `least` bytes are here, or the answer ends."""
        if self._error:
            raise self._error
        loop = asyncio.get_running_loop()
        self._transport.resume_reading()
        self._waiter, self._least = loop.create_future(), least
        if self._timer is None:
            self._watch()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._error:
            raise self._error

    def _watch(self) -> None:
        """Look in a while whether something has happened: that costs less than a timer for each wait."""
        self._seen, self._timer = self._progress(), asyncio.get_running_loop().call_later(_SILENCE_S, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._seen == self._progress():
            self._fail(TimeoutError(f"nothing came for {_SILENCE_S} s"))
        else:
            self._watch()

    def _progress(self) -> tuple[int, int, int]:
        """What changes while it takes what we send, or sends what we wait for; and when another request is asked."""
        return self._requests, self._transport.get_write_buffer_size(), self._received

    def _fail(self, error: OSError) -> None:
        self._error = self._error or error
        self.close()
        self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """At once."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio."""
        self._lost(self)
        if self._timer:
            self._timer.cancel()
        if not self._ended:
            self._fail(exc if isinstance(exc, OSError) else ConnectionResetError("the answer broke off"))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Of asyncio."""
        if self._long is None:
            return memoryview(self._short)
        return memoryview(self._long)[self._filled : self._filled + self._left]

    def buffer_updated(self, nbytes: int) -> None:
        """Of asyncio."""
        from httptools import HttpParserError

        if self._ended:  # nobody has asked
            return self.close()
        if self._long is not None:
            self._long_came(self._long, nbytes)
        else:
            try:
                self._parser.feed_data(memoryview(self._short)[:nbytes])
            except HttpParserError as error:
                return self._fail(OSError(f"no HTTP: {error}"))
            if self._head and not self._ended and self._length - self._ahead >= _SHORT_BYTES:
                self._left, self._long = self._length - self._ahead, bytearray(_LONG_BYTES)
        if self._ahead > _AHEAD_BYTES:
            self._transport.pause_reading()
        if self._ended or self._ahead >= self._least:
            self._wake()
        return None

    def _long_came(self, buffer: bytearray, nbytes: int) -> None:
        from httptools import HttpResponseParser

        self._filled += nbytes
        self._left -= nbytes
        self._received += nbytes
        if self._left and self._filled < _LONG_BYTES:
            return
        self._pieces.append(bytes(memoryview(buffer)[: self._filled]))
        self._ahead += self._filled
        self._filled = 0
        if not self._left:
            keep = self._parser.should_keep_alive()
            self._parser = HttpResponseParser(self)  # the other waits for the content
            self._end(keep)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of httptools."""
        if name.lower() == b"content-length":
            self._length = int(value)

    def on_headers_complete(self) -> None:
        """Of httptools."""
        self.status = self._parser.get_status_code()
        self._head = True

    def on_body(self, body: bytes) -> None:
        """Of httptools."""
        self._pieces.append(body)
        self._ahead += len(body)
        self._received += len(body)

    def on_message_complete(self) -> None:
        """Of httptools."""
        self._end(self._parser.should_keep_alive())

    def _end(self, keep: bool) -> None:
        self._ended, self._long = True, None
        if not keep:
            self.close()
