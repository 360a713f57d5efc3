"""The connections to S3, with servers that break off, close, talk nonsense, or take their time."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djp.mesh.errors import Unavailable
from djp.s3 import S3Account
from djp_storage.adapters import s3_wire
from djp_storage.adapters.s3_signing import signed_head
from djp_storage.adapters.s3_wire import Connections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from djp_storage.ports import ObjectStore

    Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

REQUEST = b"GET / HTTP/1.1\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Server:
    """Does what a test tells it with each connection; counts them."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.connections = 0
        self._tasks: set[asyncio.Task[Any]] = set()

    async def ended(self) -> None:
        while running := [task for task in self._tasks if not task.done()]:
            await asyncio.wait(running)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._tasks |= {task for task in (asyncio.current_task(),) if task}
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._handler(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[tuple[Server, Connections, Any]]:
    server, connections = Server(handler), Connections(secure=False)
    async with await asyncio.start_server(server, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        try:
            yield server, connections, urlsplit(f"http://127.0.0.1:{port}/")
        finally:
            await connections.close()
            await server.ended()


async def asked(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def test_a_connection_serves_again() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await asked(reader):
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

    async with serving(handler) as (server, connections, url):
        for _ in range(3):
            assert await connections.whole(url, REQUEST) == (200, b"abcde")
        assert server.connections == 1
        await asyncio.gather(*(connections.whole(url, REQUEST) for _ in range(100)))
        assert server.connections <= 32


@pytest.mark.parametrize("size", [(1 << 16) - 1, 1 << 16, (1 << 20) + (1 << 16), 3 * (1 << 20) + 1])
@pytest.mark.parametrize("first", [0, 1, 1 << 16])
async def test_a_long_content_comes_whole_and_the_connection_serves_again(size: int, first: int) -> None:
    content = os.urandom(size)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await asked(reader):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + content[:first])
            await writer.drain()
            writer.write(content[first:])

    async with serving(handler) as (server, connections, url):
        for _ in range(3):
            exchange, pieces = await connections.begun(url, REQUEST), []
            while piece := await exchange.piece(1 << 20):
                pieces.append(piece)
            connections.done(exchange)
            assert b"".join(pieces) == content
            assert all(len(piece) >= 1 << 20 for piece in pieces[:-1])
            assert await connections.whole(url, REQUEST) == (200, content)
        assert server.connections == 1


@pytest.mark.parametrize("lacks", [1, -1])
async def test_a_long_content_of_another_length_than_told_is_an_error(lacks: int) -> None:
    size = 3 << 20

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size - lacks))
        await writer.drain()
        if lacks < 0:
            await reader.read()  # until the other side, which did not ask for more, has closed

    async with serving(handler) as (server, connections, url):
        exchange, came = await connections.begun(url, REQUEST), 0
        with suppress(ConnectionError):
            while piece := await exchange.piece(1 << 20):
                came += len(piece)
            assert lacks < 0
        assert (came == size) is (lacks < 0)
        connections.done(exchange)
        await server.ended()
        assert server.connections == 1


@pytest.mark.parametrize("farewell", [b"", b"Connection: close\r\n"])
async def test_a_connection_that_the_server_closes_is_not_used_again(farewell: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + farewell + b"Content-Length: 2\r\n\r\nok")
        if not farewell:
            await asked(reader)  # takes the next request, and closes without an answer

    async with serving(handler) as (server, connections, url):
        for _ in range(3):
            assert await connections.whole(url, REQUEST) == (200, b"ok")
        assert server.connections == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
        b"220 mail.example.org ESMTP\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nshort",
    ],
)
async def test_an_answer_that_is_not_whole_is_an_error(answer: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(answer)

    async with serving(handler) as (_, connections, url):
        with pytest.raises(OSError):  # noqa: PT011  whichever: the store tells its name
            await connections.whole(url, REQUEST)
        with pytest.raises(OSError):  # noqa: PT011
            exchange = await connections.begun(url, REQUEST)
            while await exchange.piece(4):
                pass


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"])
async def test_a_server_that_falls_silent_is_given_up(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_wire, "_SILENCE_S", 0.05)
    silent = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(EMPTY)  # the first request is answered
        await asked(reader)
        writer.write(said)
        silent.set()
        await reader.read()  # until the connection is closed

    async with serving(handler) as (_, connections, url):
        assert await connections.whole(url, REQUEST) == (200, b"")
        with pytest.raises(TimeoutError, match="nothing came"):
            await connections.whole(url, REQUEST)
        assert silent.is_set()


async def test_what_nobody_asked_for_closes_the_connection() -> None:
    closed = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(EMPTY)
        if server.connections == 1:
            await told.wait()
            writer.write(EMPTY)
            with suppress(ConnectionError):
                assert await reader.read() == b""
            closed.set()

    told = asyncio.Event()
    async with serving(handler) as (server, connections, url):
        await connections.whole(url, REQUEST)
        told.set()
        await closed.wait()
        assert (await connections.whole(url, REQUEST))[0] == 200
        assert server.connections == 2


async def test_a_cancelled_caller_waits_for_what_it_has_sent() -> None:
    arrived, answer = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await asked(reader):
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")  # and has not done it yet
            arrived.set()
            await answer.wait()
            writer.write(b"0\r\n\r\n")

    async with serving(handler) as (server, connections, url):
        task = asyncio.create_task(connections.whole(url, REQUEST))
        await arrived.wait()
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        answer.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await connections.whole(url, REQUEST) == (200, b"")
        assert server.connections == 1


async def test_an_answer_is_taken_no_faster_than_it_is_read() -> None:
    sent = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (96 << 20))
        for _ in range(96):
            writer.write(b"x" * (1 << 20))
            await writer.drain()
            sent += 1

    async with serving(handler) as (_, connections, url):
        exchange = await connections.begun(url, REQUEST)
        taken = 0
        while piece := await exchange.piece(1 << 20):
            taken += len(piece)
            assert 1 << 20 <= len(piece) < 2 << 20 or taken == 96 << 20
            assert sent < (taken >> 20) + 40, "the rest waits in the system's buffers, and there with the server"
        assert taken == 96 << 20
        connections.done(exchange)


async def test_a_reader_that_goes_early_leaves_no_connection_behind() -> None:
    gone = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000)
        with suppress(ConnectionError):
            await reader.read()
        gone.set()

    async with serving(handler) as (_, connections, url):
        exchange = await connections.begun(url, REQUEST)
        assert set(await exchange.piece(500)) == {ord("x")}
        connections.done(exchange)
        await gone.wait()


async def test_nonsense_is_told_as_a_store_that_does_not_answer(make_s3_store: Any) -> None:
    from djp_storage.adapters.s3_requests import S3Requests
    from djp_storage.model import ArtifactKey, ObjectName, Tier

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await asked(reader):
            writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\nnot <xml>")

    store: ObjectStore = make_s3_store()
    async with serving(handler) as (_, _, url):
        store._requests = requests = S3Requests(S3Account(f"http://{url.netloc}", "key", "not-to-be-told"))  # type: ignore[attr-defined]
        name = ObjectName(Tier.HOT, ArtifactKey("acme", "w", "a.json"), "0123456789ab")
        with pytest.raises(Unavailable, match="does not answer as it should") as caught:
            async for _ in store.read(name):
                pass
        assert "not-to-be-told" not in caught.value.message
        await requests.close()
    await store.close()


_ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


@given(
    path=st.text(max_size=40).filter(lambda text: not {"\ud800"} & set(text)),
    values=st.lists(_ASCII, max_size=3),
    keys=st.tuples(*[st.text("abcXYZ019+/=", min_size=1)] * 3),
    now=st.datetimes(timezones=st.just(UTC), min_value=datetime(2000, 1, 1)),
)
def test_a_signature_is_that_of_the_minio_client(path: str, values: Any, keys: Any, now: datetime) -> None:
    from minio.credentials.credentials import Credentials
    from minio.helpers import BaseURL
    from minio.signer import sign_v4_s3
    from minio.time import to_amz_date

    address, credentials = BaseURL("http://127.0.0.1:9000", "us-east-1"), Credentials(*keys)
    url = address.build(method="PUT", region="us-east-1", bucket_name="hot", object_name=path)
    headers = {f"x-amz-meta-{n}": value for n, value in enumerate(values)}
    head = signed_head("PUT", url, headers, "0" * 64, credentials, now).decode()
    told = {**headers, "host": url.netloc, "x-amz-content-sha256": "0" * 64, "x-amz-date": to_amz_date(now)}
    told["x-amz-security-token"] = keys[2]
    signed = sign_v4_s3(
        method="PUT",
        url=url,
        region="us-east-1",
        headers=dict(told),
        credentials=credentials,
        content_sha256="0" * 64,
        date=now,
    )
    for name, value in told.items():
        assert f"\r\n{name}: {value}\r\n" in head
    assert f"\r\nauthorization: {signed['Authorization']}\r\n" in head
    assert head.startswith(f"PUT {url.path} HTTP/1.1\r\n")
    assert head.endswith("\r\n\r\n")
