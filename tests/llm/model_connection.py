"""A client's connection to the model server: requests are read, answered as the script says, and recorded."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.llm.model_wire import (
    Api,
    Behaviour,
    error_body,
    error_event,
    refusal_of,
    schema_of,
    settle,
    stream_parts,
    unary_body,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djp.llm.calls import Usage
    from tests.llm.model_server import ModelServer

MAX_REQUEST_BYTES = 64 * 1024 * 1024


@dataclass(eq=False)
class Call:
    """A request to a model, and what became of it. `billed` is what it used, None if it was not billed."""

    number: int
    api: Api
    headers: dict[str, str]
    body: dict[str, Any]
    billed: Usage | None = None
    behaviour: Behaviour | None = None
    closed_by_client: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def model(self) -> str:
        return str(self.body.get("model"))

    @property
    def streamed(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def limit(self) -> int:
        return int(self.body.get("max_completion_tokens") or self.body.get("max_tokens") or 4096)

    @property
    def system(self) -> str:
        """The text of the system message."""
        if self.api == "anthropic":
            return str(self.body.get("system", ""))
        return "\n".join(self._texts("system", "developer"))

    @property
    def user(self) -> str:
        """The text of the user's messages."""
        return "\n".join(self._texts("user"))

    @property
    def schema(self) -> dict[str, Any] | None:
        return schema_of(self.api, self.body)

    def _texts(self, *roles: str) -> Iterator[str]:
        return (str(message["content"]) for message in self.body.get("messages", ()) if message["role"] in roles)


class Connection(asyncio.Protocol):
    """One client's connection: a request at a time, as HTTP/1.1 clients send them."""

    def __init__(self, server: ModelServer) -> None:
        self._server = server
        self._received = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._call: Call | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._server.connections.discard(self)
        if self._call is not None and not self._call.ended.is_set():
            self._call.closed_by_client.set()
            self._call.ended.set()
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """Hang up."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > MAX_REQUEST_BYTES:
            self.close()
        elif self._task is None:
            self._read_request()

    def _read_request(self) -> None:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        first, *lines = bytes(self._received[:end]).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        whole = end + 4 + int(headers.get("content-length", 0))
        if len(self._received) < whole:
            return
        body = bytes(self._received[end + 4 : whole])
        del self._received[:whole]
        method, target, _ = first.split(" ", 2)
        self._task = asyncio.get_running_loop().create_task(self._serve(method, target, headers, body))
        self._task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            self._transport.abort()
            task.get_loop().call_exception_handler(
                {"message": "the model server failed", "exception": task.exception()}
            )
        elif self._received and not self._transport.is_closing():
            self._read_request()

    async def _serve(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        url = urlsplit(target)
        api: Api = "anthropic" if url.path.endswith("/messages") or "anthropic-version" in headers else "openai"
        given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if url.path == "/billed":
            self._respond_json(200, self._server.report())
        elif self._server.key is not None and given != self._server.key:
            self._respond_json(401, error_body(api, 401, "", f"Incorrect API key provided: {given}."))
        elif (method, url.path) == ("GET", "/v1/models"):
            await self._list_models(api, parse_qs(url.query))
        elif (method, url.path) in (("POST", "/v1/chat/completions"), ("POST", "/v1/messages")):
            await self._answer(api, headers, body)
        else:
            self._respond_json(404, error_body(api, 404, "", f"Unknown request URL: {method} {url.path}"))

    async def _list_models(self, api: Api, query: dict[str, list[str]]) -> None:
        behaviour, models = self._server.listing, self._server.models
        if not await self._begin(api, behaviour):
            return
        if api == "openai":
            data: list[dict[str, Any]] = [
                {"id": name, "object": "model", "created": 1_760_000_000, "owned_by": "system"} for name in models
            ]
            self._respond_json(200, {"object": "list", "data": data})
            return
        after = query.get("after_id", [""])[0]
        start = models.index(after) + 1 if after else 0
        page = models[start : start + self._server.page_size]
        data = [
            {"type": "model", "id": name, "display_name": name, "created_at": "2025-09-29T00:00:00Z"} for name in page
        ]
        more = start + len(page) < len(models)
        self._respond_json(200, {"data": data, "has_more": more, "first_id": page[0], "last_id": page[-1]})

    async def _answer(self, api: Api, headers: dict[str, str], raw: bytes) -> None:
        call = self._call = Call(len(self._server.calls) + 1, api, headers, json.loads(raw))
        self._server.calls.append(call)
        self._server.arrived.set()
        refused = refusal_of(api, call.body, headers)
        if refused is not None:
            behaviour = Behaviour(status=400, error_message=refused)
        else:
            behaviour = self._server.behaviour(call)
        call.behaviour = behaviour
        behaviour, usage = settle(behaviour, f"{call.system} {call.user}", call.limit)
        if behaviour.billed if behaviour.billed is not None else behaviour.status == HTTPStatus.OK:
            call.billed = usage
        if await self._begin(api, behaviour):
            if call.streamed:
                await self._stream(api, call, behaviour, usage)
            else:
                await self._whole(api, call, behaviour, usage)
        call.ended.set()

    async def _begin(self, api: Api, behaviour: Behaviour) -> bool:
        """Whether the answer itself is to follow: nothing else was said, and nothing went wrong so far."""
        if behaviour.delay_s:
            await asyncio.sleep(behaviour.delay_s)
        if behaviour.fault and behaviour.after < 0:
            await self._fail(behaviour)
            return False
        if behaviour.raw is not None:
            kind = behaviour.content_type or "application/json"
            self._respond(behaviour.status, behaviour.raw, kind, behaviour.headers)
            return False
        if behaviour.status != HTTPStatus.OK:
            body = error_body(api, behaviour.status, behaviour.error_type, behaviour.error_message)
            self._respond_json(behaviour.status, body, behaviour.headers)
            return False
        return True

    async def _stream(self, api: Api, call: Call, behaviour: Behaviour, usage: Usage) -> None:
        include_usage = bool((call.body.get("stream_options") or {}).get("include_usage"))
        head, pieces, tail = stream_parts(api, call.model, behaviour, usage, include_usage)
        if behaviour.fault:
            pieces, tail = pieces[: behaviour.after], b""
        kind = behaviour.content_type or "text/event-stream; charset=utf-8"
        waiting = self._head(200, kind, behaviour.headers, "Transfer-Encoding: chunked") + _chunk(head)
        step = behaviour.pieces_per_write
        for start in range(0, len(pieces), step):
            waiting += _chunk(b"".join(pieces[start : start + step]))
            if behaviour.gap_s:
                self._transport.write(waiting)
                waiting = b""
                await asyncio.sleep(behaviour.gap_s)
        self._transport.write(waiting + (_chunk(tail) if tail else b""))
        if behaviour.fault == "error":
            self._transport.write(_chunk(error_event(api, behaviour)))
        elif behaviour.fault == "garbage":
            self._transport.write(_chunk(b'event: message_delta\ndata: {"choices": [{"del\n\n'))
        elif behaviour.fault:
            await self._fail(behaviour)
            return
        self._transport.write(b"0\r\n\r\n")

    async def _whole(self, api: Api, call: Call, behaviour: Behaviour, usage: Usage) -> None:
        body = json.dumps(unary_body(api, call.model, behaviour, usage)).encode()
        kind = behaviour.content_type or "application/json"
        if behaviour.fault == "error":
            failed = error_body(api, 500, behaviour.error_type, behaviour.error_message)
            self._respond_json(200, failed, behaviour.headers)
        elif behaviour.fault == "garbage":
            self._respond(200, body[: len(body) // 2], kind, behaviour.headers)
        elif behaviour.fault:
            head = self._head(200, kind, behaviour.headers, f"Content-Length: {len(body)}")
            self._transport.write(head + body[: len(body) // 2])
            await self._fail(behaviour)
        else:
            self._respond(200, body, kind, behaviour.headers)

    async def _fail(self, behaviour: Behaviour) -> None:
        if behaviour.fault == "hang":
            await asyncio.Event().wait()
        if self._call is not None:
            self._call.ended.set()
        self._transport.close()

    def _respond_json(self, status: int, body: Any, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self._respond(status, json.dumps(body).encode(), "application/json", headers)

    def _respond(self, status: int, body: bytes, kind: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self._transport.write(self._head(status, kind, headers, f"Content-Length: {len(body)}") + body)

    def _head(self, status: int, kind: str, headers: tuple[tuple[str, str], ...], framing: str) -> bytes:
        further = "".join(f"{name}: {value}\r\n" for name, value in headers)
        return f"HTTP/1.1 {status} Status\r\nContent-Type: {kind}\r\n{further}{framing}\r\n\r\n".encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
