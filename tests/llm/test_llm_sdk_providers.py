"""What goes wrong on the wire, through both SDKs, streamed and whole."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from djp.llm.anthropic_provider import AnthropicProvider
from djp.llm.calls import Usage
from djp.llm.openai_provider import OpenAIProvider
from djp.llm.provider import ProviderError, Question, Reply
from djp.llm.response_bounds import MAX_ERROR_BYTES, MAX_EVENT_BYTES, MAX_RESPONSE_BYTES
from tests.llm.model_wire import Behaviour

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from djp.llm.models import Model
    from djp.llm.sdk_provider import SdkProvider
    from tests.llm.model_server import ModelServer

KEY = "sk-proj-Zx8Qw4Lm2Rt6Vb0Nc5Kd"
QUESTION = Question("You answer.", "What is a budget?", 100)


@pytest.fixture(params=["openai", "anthropic"])
async def open_provider(request: pytest.FixtureRequest, model_server: ModelServer) -> AsyncIterator[Any]:
    """Opens an adapter on the model server: `open_provider(base_url=..., read_timeout_s=...)`."""
    opened: list[SdkProvider] = []
    urls = {"openai": model_server.openai_url, "anthropic": model_server.anthropic_url}
    makers: dict[str, type[SdkProvider]] = {"openai": OpenAIProvider, "anthropic": AnthropicProvider}

    def open_one(**options: Any) -> SdkProvider:
        given = {"api_key": KEY, "key_variable": "MAKER_KEY", "base_url": urls[request.param]} | options
        opened.append(makers[request.param]("maker", **given))
        return opened[-1]

    yield open_one
    for provider in opened:
        await provider.close()


@pytest.fixture
def provider(open_provider: Callable[..., SdkProvider]) -> SdkProvider:
    """An adapter that calls the model server."""
    return open_provider()


@pytest.fixture(params=[True, False], ids=["streamed", "whole"])
def either(request: pytest.FixtureRequest, model: Model) -> Model:
    """A model that streams, and one that does not."""
    return replace(model, streaming=request.param)


async def ask(provider: SdkProvider, model: Model) -> tuple[str, Reply]:
    """The whole answer."""
    *pieces, reply = [piece async for piece in provider.ask(model, QUESTION)]
    assert isinstance(reply, Reply)
    return "".join(str(piece) for piece in pieces), reply


async def failure(provider: SdkProvider, model: Model) -> ProviderError:
    """The failure of a call, with nothing hanging on it that could carry a key into a log."""
    with pytest.raises(ProviderError) as caught:
        await ask(provider, model)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert caught.value.message.startswith("maker ")
    return caught.value


STATUSES = [
    # status, passing, billed
    *[(status, False, False) for status in (301, 307, 400, 401, 402, 403, 404, 405, 413, 422, 431, 451, 501, 505)],
    *[(status, True, False) for status in (409, 425, 429, 503, 529)],
    *[(status, True, True) for status in (408, 500, 502, 504, 520, 522, 524, 599)],
]


@pytest.mark.parametrize(("status", "passing", "billed"), STATUSES)
async def test_a_status_says_whether_to_try_again_and_whether_it_may_cost(
    model_server: ModelServer, provider: SdkProvider, model: Model, status: int, passing: bool, billed: bool
) -> None:
    model_server.script = [Behaviour(status=status, headers=(("Location", "http://localhost:1/"),))]
    error = await failure(provider, model)
    assert (error.passing, error.billed) == (passing, billed)
    assert str(status) in error.message
    assert len(model_server.calls) == 1  # the SDK's own retries are off, and redirects are not followed


async def test_what_a_refusal_says_is_told_with_a_remedy_and_without_the_key(
    model_server: ModelServer, provider: SdkProvider, either: Model
) -> None:
    said = f"Incorrect API key provided: {KEY}\r\n\x1b[31m or sk-proj-********5Kd, '{KEY[8:20]}'.\u202e " + "x" * 5000
    model_server.script = [Behaviour(status=401, error_message=said)]
    error = await failure(provider, either)
    assert "set MAKER_KEY" in error.message
    assert "Incorrect API key provided: [hidden]" in error.message
    assert len(error.message) < 400
    assert error.message.isprintable()
    for start in range(len(KEY) - 7):
        assert KEY[start : start + 8] not in error.message
    assert "5Kd" not in error.message


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ((("Retry-After", "7"),), 7, 7),
        ((("Retry-After", "0.25"),), 0.25, 0.25),
        ((("retry-after-ms", "1500"), ("Retry-After", "9")), 1.5, 1.5),
        ((("Retry-After", "Tue, 01 Jan 2019 00:00:00 GMT"),), 0, 0),
    ],
)
async def test_the_wait_that_is_asked_for_is_told(
    model_server: ModelServer,
    provider: SdkProvider,
    either: Model,
    headers: tuple[tuple[str, str], ...],
    least: float,
    most: float,
) -> None:
    model_server.script = [Behaviour(status=429, headers=headers)]
    error = await failure(provider, either)
    assert error.retry_after_s is not None
    assert least <= error.retry_after_s <= most


@pytest.mark.parametrize(
    "told", ["-1", "nan", "inf", "1e999", "soon", "9" * 5000, "Tue, 99 Foo 2019 00:00:00 GMT", "\xff"]
)
async def test_nonsense_is_no_wait(model_server: ModelServer, provider: SdkProvider, model: Model, told: str) -> None:
    model_server.script = [Behaviour(status=429, headers=(("Retry-After", told),))]
    error = await failure(provider, model)
    assert error.passing
    assert error.retry_after_s is None


async def test_a_spent_quota_does_not_pass(model_server: ModelServer, provider: SdkProvider, model: Model) -> None:
    model_server.script = [
        Behaviour(status=429, error_type="insufficient_quota", headers=(("Retry-After", "5"),)),
        Behaviour(
            status=429,
            raw=b'{"error": {"type": "rate_limit_error", "details": {"error_code": "contract_spend_limit_reached"}}}',
        ),
    ]
    for _ in range(2):
        error = await failure(provider, model)
        assert not error.passing
        assert not error.billed
        assert error.retry_after_s is None


async def test_a_provider_that_is_not_there_costs_nothing(
    open_provider: Callable[..., SdkProvider], either: Model
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, but nobody listens
        provider = open_provider(base_url=f"http://127.0.0.1:{closed.getsockname()[1]}/v1")
        error = await failure(provider, either)
    assert error.passing
    assert not error.billed
    assert "base_url" in error.message


async def test_a_connection_that_is_never_accepted_costs_nothing(
    open_provider: Callable[..., SdkProvider], either: Model
) -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for waiting in (first, second):  # fill the queue of connections that nobody accepts
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        provider = open_provider(base_url=f"http://127.0.0.1:{full.getsockname()[1]}/v1", connect_timeout_s=0.2)
        error = await failure(provider, either)
    assert error.passing
    assert not error.billed


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/v1", "127.0.0.1:80", "http://", "http://[::1"])
async def test_an_address_that_is_none_is_a_final_failure_that_names_it(
    open_provider: Callable[..., SdkProvider], either: Model, url: str
) -> None:
    error = await failure(open_provider(base_url=url), either)
    assert not error.passing
    assert not error.billed
    assert "base_url" in error.message


async def test_a_failure_that_nobody_foresaw_ends_its_own_call_only(
    open_provider: Callable[..., SdkProvider], either: Model, caplog: pytest.LogCaptureFixture
) -> None:
    # The HTTP library lets the socket's OverflowError through.
    error = await failure(open_provider(base_url="http://localhost:99999999"), either)
    assert not error.passing
    assert error.billed
    assert "nobody foresaw" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize("key", ["sk-with-newline\nX-Evil: 1", "sk-ключ", "sk-\x00"])
async def test_a_key_that_no_header_may_have_is_refused_before_the_call(
    model_server: ModelServer, open_provider: Callable[..., SdkProvider], either: Model, key: str
) -> None:
    error = await failure(open_provider(api_key=key), either)
    assert not error.passing
    assert not error.billed
    assert "key" in error.message
    assert "Evil" not in error.message
    assert not model_server.calls


async def test_a_key_with_spaces_around_it_is_used_without_them(
    model_server: ModelServer, open_provider: Callable[..., SdkProvider], either: Model
) -> None:
    model_server.key = KEY
    assert (await ask(open_provider(api_key=f" {KEY}\n"), either))[1].stop == "end"


@pytest.mark.parametrize("after", [-1, 0, 3])
@pytest.mark.parametrize("fault", ["cut", "hang", "garbage"])
async def test_what_was_sent_and_came_to_nothing_may_be_billed(
    model_server: ModelServer, open_provider: Callable[..., SdkProvider], either: Model, fault: Any, after: int
) -> None:
    model_server.script = [Behaviour(fault=fault, after=after)]
    error = await failure(open_provider(read_timeout_s=0.2), either)
    assert error.passing
    assert error.billed
    assert (await ask(open_provider(), either))[1].stop == "end"


async def test_a_server_that_goes_away_between_two_calls_is_reached_anew(
    model_server: ModelServer, provider: SdkProvider, either: Model
) -> None:
    await ask(provider, either)
    for connection in list(model_server.connections):
        connection.close()
    await asyncio.sleep(0)
    assert (await ask(provider, either))[1].stop == "end"


@pytest.mark.parametrize(
    ("kind", "passing"),
    [
        ("overloaded_error", True),
        ("api_error", True),
        ("server_error", True),
        ("rate_limit_error", True),
        ("", True),
        ("502", True),
        ("429", True),
        ("invalid_request_error", False),
        ("authentication_error", False),
        ("insufficient_quota", False),
        ("400", False),
    ],
)
async def test_an_error_after_the_status_was_good_may_be_billed(
    model_server: ModelServer, provider: SdkProvider, either: Model, kind: str, passing: bool
) -> None:
    model_server.script = [Behaviour(fault="error", after=2, error_type=kind, error_message=f"{KEY} is overloaded")]
    error = await failure(provider, either)
    assert (error.passing, error.billed) == (passing, True)
    assert error.message.endswith("[hidden] is overloaded")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"choices": [], "content": null}',
        b'{"choices": [null], "content": [null]}',
        b'{"choices": [{"message": [1]}], "content": [{"type": "text"}]}',
        b'{"choices": [{"message": {"content": 7}}], "content": [{"type": "text", "text": 7}]}',
        b'{"choices": {"0": 1}, "content": "text"}',
        b"[" * 100_000,
        b'{"a": "\xff"}',
        b'{"a": 1',
        b"9" * 10_000,
    ],
)
async def test_an_answer_that_cannot_be_read_may_be_billed_and_may_come_next_time(
    model_server: ModelServer, provider: SdkProvider, model: Model, body: bytes
) -> None:
    model_server.script = [Behaviour(raw=body)]
    error = await failure(provider, replace(model, streaming=False))
    assert error.passing
    assert error.billed


@pytest.mark.parametrize(
    "data",
    [
        "null",
        "[]",
        "7",
        '{"choices": [7], "type": "content_block_delta", "delta": 7}',
        '{"choices": [{"delta": [1]}], "type": "content_block_delta", "delta": {"type": "text_delta"}}',
        '{"choices": [{"delta": {"content": 7}}], "type": "content_block_start", "content_block": null}',
        "[" * 100_000,
        '{"choices": [{"delta',
    ],
)
async def test_an_event_that_cannot_be_read_may_be_billed_and_may_come_next_time(
    model_server: ModelServer, provider: SdkProvider, model: Model, data: str
) -> None:
    body = f"event: content_block_delta\ndata: {data}\n\n".encode()
    model_server.script = [Behaviour(raw=body, content_type="text/event-stream")]
    error = await failure(provider, model)
    assert error.passing
    assert error.billed


async def test_a_stream_with_nothing_in_it_is_no_answer(
    model_server: ModelServer, provider: SdkProvider, model: Model
) -> None:
    for body in (b"", b": comment\n\n", b"data: [DONE]\n\n", b"event: ping\ndata: {}\n\n", b"\r\r\r", b"nonsense"):
        model_server.script = [Behaviour(raw=body, content_type="text/event-stream")]
        error = await failure(provider, model)
        assert error.passing
        assert error.billed


async def test_another_content_type_is_a_final_failure_with_a_remedy(
    model_server: ModelServer, provider: SdkProvider, either: Model
) -> None:
    model_server.script = [Behaviour(raw=b"<html>Welcome</html>", content_type="text/html; charset=utf-8")]
    error = await failure(provider, either)
    assert not error.passing
    assert "text/html" in error.message
    assert "base_url" in error.message
    assert "Welcome" not in error.message


async def test_a_content_type_of_any_size_is_told_in_short(
    model_server: ModelServer, provider: SdkProvider, either: Model
) -> None:
    model_server.script = [Behaviour(content_type=f"text/{'x' * 9000}"), Behaviour(content_type=f"text/{KEY}")]
    for _ in range(2):
        error = await failure(provider, either)
        assert len(error.message) < 200
        assert KEY not in error.message


async def test_a_server_that_does_not_stream_is_told_how_to_be_set(
    model_server: ModelServer, provider: SdkProvider, model: Model
) -> None:
    model_server.script = [Behaviour(raw=b"{}")]
    assert "streaming: false" in (await failure(provider, model)).message


async def test_a_compressed_answer_is_refused_unread(
    model_server: ModelServer, provider: SdkProvider, either: Model
) -> None:
    model_server.script = [Behaviour(headers=(("Content-Encoding", "gzip"),))]
    assert "gzip" in (await failure(provider, either)).message
    assert model_server.calls[0].headers["accept-encoding"] == "identity"


async def test_an_event_without_end_is_cut_short(
    model_server: ModelServer, provider: SdkProvider, model: Model
) -> None:
    body = b"event: message_start\ndata: " + b"x" * (MAX_EVENT_BYTES + 100_000)
    model_server.script = [Behaviour(raw=body, content_type="text/event-stream")]
    assert "more than" in (await failure(provider, model)).message


async def test_a_whole_answer_of_any_size_is_cut_short(
    model_server: ModelServer, provider: SdkProvider, model: Model
) -> None:
    model_server.script = [Behaviour(raw=b" " * (MAX_RESPONSE_BYTES + 1))]
    error = await failure(provider, replace(model, streaming=False))
    assert "more than" in error.message
    assert error.billed


async def test_a_refusal_of_any_size_is_a_refusal(
    model_server: ModelServer, provider: SdkProvider, either: Model
) -> None:
    body = json.dumps({"error": {"message": "too long " * MAX_ERROR_BYTES}}).encode()
    model_server.script = [Behaviour(status=413, raw=body)]
    error = await failure(provider, either)
    assert not error.passing
    assert not error.billed


async def test_ten_megabytes_come_piece_by_piece(
    model_server: ModelServer, provider: SdkProvider, either: Model
) -> None:
    text = "ten megabytes of words " * 430_000
    model_server.script = [Behaviour(text=text, obeys_limit=False, usage=Usage(1, output_tokens=1))]
    assert await ask(provider, either) == (text, Reply(Usage(1, output_tokens=1), "end"))


async def test_a_drip_is_no_silence(
    model_server: ModelServer, open_provider: Callable[..., SdkProvider], model: Model
) -> None:
    model_server.script = [Behaviour(text="drip " * 30, gap_s=0.05)]
    answer, reply = await ask(open_provider(read_timeout_s=1), model)
    assert answer.split() == ["drip"] * 30
    assert reply.stop == "end"


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (["\\ud83d\\ude00"], "😀"),
        (["a\\ud83d", "\\ude00b"], "a😀b"),
        (["a\\ud83d", "b"], "a\ufffdb"),
        (["\\ude00"], "\ufffd"),
        (["a\\ud83d"], "a\ufffd"),
        (["\\ufeff\\ud83d"], "\ufeff\ufffd"),
        (["\\u0000\\u2028"], "\x00\u2028"),
    ],
)
async def test_half_characters_are_joined_or_replaced(
    model_server: ModelServer, provider: SdkProvider, model: Model, sent: list[str], read: str
) -> None:
    events = [
        'event: content_block_delta\ndata: {"type": "content_block_delta", '
        f'"choices": [{{"delta": {{"content": "{text}"}}}}], "delta": {{"type": "text_delta", "text": "{text}"}}}}\n\n'
        for text in sent
    ]
    end = (
        'event: message_delta\ndata: {"type": "message_delta", '
        '"choices": [{"finish_reason": "stop"}], "delta": {"stop_reason": "end_turn"}}\n\n'
    )
    model_server.script = [Behaviour(raw="".join([*events, end]).encode(), content_type="text/event-stream")]
    assert await ask(provider, model) == (read, Reply(None, "end"))


async def test_an_answer_whose_end_was_seen_is_kept_when_only_the_connection_breaks(
    model_server: ModelServer, open_provider: Callable[..., SdkProvider], model: Model
) -> None:
    end = (
        'event: message_delta\ndata: {"choices": [{"delta": {"content": "whole"}, "finish_reason": "stop"}], '
        '"type": "message_delta", "delta": {"stop_reason": "end_turn"}}\n\n'
    )
    head = f"{end}event: message_delta\ndata: {{"
    model_server.script = [Behaviour(raw=head.encode(), content_type="text/event-stream")]
    _, reply = await ask(open_provider(), model)
    assert reply == Reply(None, "end")


@pytest.mark.parametrize("after", [-1, 0, 3])
async def test_cancelling_the_reader_closes_the_socket_at_once(
    model_server: ModelServer, provider: SdkProvider, either: Model, after: int
) -> None:
    model_server.script = [Behaviour(fault="hang", after=after)]
    reading = asyncio.create_task(ask(provider, either))
    async with asyncio.timeout(30):
        await model_server.arrived.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    async with asyncio.timeout(1):  # the promise: within a second
        await model_server.calls[0].closed_by_client.wait()
    assert (await ask(provider, either))[1].stop == "end"


async def test_a_hundred_cancelled_calls_leave_nothing(
    model_server: ModelServer, open_provider: Callable[..., SdkProvider], either: Model
) -> None:
    provider = open_provider()
    model_server.script = lambda _: Behaviour(text="a " * 100, gap_s=0.01, obeys_limit=False)
    tasks = [asyncio.create_task(ask(provider, either)) for _ in range(100)]
    async with asyncio.timeout(60):
        for number, task in enumerate(tasks):
            await asyncio.sleep(number % 3 / 1000)  # so that they are at different places when they are stopped
            task.cancel()
        await asyncio.wait(tasks)
        await provider.close()
        for call in model_server.calls:
            await call.ended.wait()
    gc.collect()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - {asyncio.current_task()} <= {c._task for c in model_server.connections}


async def test_reachable_lists_every_page(model_server: ModelServer, provider: SdkProvider) -> None:
    model_server.models = [f"model-{number}" for number in range(7)]
    model_server.page_size = 3
    assert await provider.reachable() == frozenset(model_server.models)


@pytest.mark.parametrize(
    ("listing", "said"),
    [
        (Behaviour(status=401, error_message=f"bad {KEY}"), "set MAKER_KEY"),
        (Behaviour(status=404), "base_url"),
        (Behaviour(status=500), "500"),
        (Behaviour(raw=b"<html>", content_type="text/html"), "text/html"),
        (Behaviour(raw=b'{"data": 7}'), "list of models"),
        (Behaviour(fault="cut", after=-1), "did not answer"),
    ],
)
async def test_reachable_says_why_not(
    model_server: ModelServer, provider: SdkProvider, listing: Behaviour, said: str
) -> None:
    model_server.listing = listing
    with pytest.raises(ProviderError) as caught:
        await provider.reachable()
    assert said in caught.value.message
    assert KEY not in caught.value.message
    assert caught.value.__context__ is None


async def test_reachable_does_not_wait_for_ever(
    model_server: ModelServer, provider: SdkProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp.llm.sdk_provider.REACHABLE_TIMEOUT_S", 0.2)
    model_server.listing = Behaviour(fault="hang", after=-1)
    with pytest.raises(ProviderError, match="within"):
        await provider.reachable()
    model_server.listing = Behaviour(raw=b'{"data": [], "has_more": true, "last_id": "a"}')  # pages without end
    if isinstance(provider, AnthropicProvider):
        with pytest.raises(ProviderError, match="within"):
            await provider.reachable()
    else:
        assert await provider.reachable() == frozenset()


async def test_closing_twice_and_without_a_call_is_nothing(provider: SdkProvider, model: Model) -> None:
    await provider.close()
    assert (await ask(provider, model))[1].stop == "end"
    await provider.close()
    await provider.close()


async def test_no_key_is_sent_where_none_is_set(
    model_server: ModelServer, open_provider: Callable[..., SdkProvider], either: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.setenv(name, KEY)  # the SDKs would take these, which are for the makers' own services
    provider = open_provider(api_key=None, headers={"X-Gateway": "some-gateway-secret"})
    await ask(provider, either)
    await provider.reachable()
    headers = model_server.calls[0].headers
    assert not {"authorization", "x-api-key"} & set(headers)
    assert headers["x-gateway"] == "some-gateway-secret"


async def test_headers_of_ones_own_replace_the_key(
    model_server: ModelServer, open_provider: Callable[..., SdkProvider], either: Model
) -> None:
    await ask(open_provider(api_key=None, headers={"Authorization": "Basic abcdefgh"}), either)
    assert model_server.calls[0].headers["authorization"] == "Basic abcdefgh"
    model_server.script = [Behaviour(status=403, error_message="Basic abcdefgh may not")]
    error = await failure(open_provider(api_key=None, headers={"Authorization": "Basic abcdefgh"}), either)
    assert "abcdefgh" not in error.message


async def test_the_environment_does_not_move_the_makers_service(
    open_provider: Callable[..., SdkProvider], model_server: ModelServer, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", model_server.openai_url)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", model_server.anthropic_url)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # so that this test does not go out
    error = await failure(open_provider(base_url=None), model)
    assert not error.billed
    assert not model_server.calls


async def test_what_the_environment_tells_the_maker_is_not_told_to_others(
    model_server: ModelServer, open_provider: Callable[..., SdkProvider], either: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-ours")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-ours")
    for name in ("OPENAI_CUSTOM_HEADERS", "ANTHROPIC_CUSTOM_HEADERS"):
        monkeypatch.setenv(name, "X-Account: account-of-ours\nX-Team: blue\n\nnonsense")
    await ask(open_provider(headers={"x-team": "red"}), either)
    headers = model_server.calls[0].headers
    assert headers["x-team"] == "red"
    assert not any("of-ours" in value for value in headers.values())


async def test_nothing_of_question_answer_or_key_is_logged(
    model_server: ModelServer,
    open_provider: Callable[..., SdkProvider],
    either: Model,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    await ask(open_provider(), either)
    model_server.script = [Behaviour(status=400), Behaviour(fault="cut", after=2)]
    await failure(open_provider(), either)
    await failure(open_provider(), either)
    for secret in (KEY, "What is a budget", "answer of the model server", "HTTP Request"):
        assert secret not in caplog.text


async def test_the_key_is_hidden_however_often_it_is_echoed(
    model_server: ModelServer, provider: SdkProvider, model: Model
) -> None:
    echoes = [(KEY[:5] + "*" * 50) * 1000, KEY[:-1] * 2000, " ".join(KEY[start:] for start in range(len(KEY))) * 100]
    model_server.script = [Behaviour(status=400, error_message=echo) for echo in echoes]
    for _ in echoes:
        assert KEY[:8] not in (await failure(provider, model)).message
