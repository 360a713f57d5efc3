"""What Anthropic's format is asked for, and how its answers and usages are read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from djp.llm.anthropic_provider import AnthropicProvider
from djp.llm.calls import Usage
from djp.llm.provider import Question, Reply
from tests.llm.model_wire import Behaviour

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from djp.llm.models import Model
    from tests.llm.model_server import ModelServer

SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "string"}, "confidence": {"type": "number", "minimum": 0, "maximum": 1}},
    "required": ["answer", "confidence"],
    "additionalProperties": False,
}
QUESTION = Question("You answer.", "What is a budget?", 100, 0.3, 7, SCHEMA, "draft")


@pytest.fixture
async def provider(model_server: ModelServer) -> AsyncIterator[AnthropicProvider]:
    provider = AnthropicProvider("maker", api_key="key", base_url=model_server.anthropic_url)
    yield provider
    await provider.close()


async def ask(provider: AnthropicProvider, model: Model, question: Question = QUESTION) -> list[str | Reply]:
    return [piece async for piece in provider.ask(model, question)]


async def test_a_question_asks_for_all_that_the_model_takes(
    model_server: ModelServer, provider: AnthropicProvider, model: Model
) -> None:
    await ask(provider, replace(model, thinking_tokens=50))
    await ask(provider, replace(model, streaming=False))
    streamed, whole = (call.body for call in model_server.calls)
    schema = streamed.pop("output_config")["format"]["schema"]
    assert whole.pop("output_config")["format"] == {"type": "json_schema", "schema": schema}
    # The bounds, which Anthropic's schemas do not know, are told in words.
    assert schema["properties"]["confidence"] == {"type": "number", "description": "{minimum: 0, maximum: 1}"}
    assert schema["required"] == SCHEMA["required"]
    assert streamed == {
        "model": "some-model",
        "messages": [{"role": "user", "content": "What is a budget?"}],
        "system": "You answer.",
        "max_tokens": 150,
        "temperature": 0.3,
        "stream": True,
    }
    assert whole == {name: streamed[name] for name in streamed if name != "stream"} | {"max_tokens": 100}


async def test_a_question_leaves_out_what_the_model_does_not_take(
    model_server: ModelServer, provider: AnthropicProvider, model: Model
) -> None:
    await ask(provider, replace(model, temperature=False, json_schema=False))
    await ask(provider, model, Question("", "What?", 10, 0.0))
    assert set(model_server.calls[0].body) == {"model", "messages", "system", "max_tokens", "stream"}
    assert set(model_server.calls[1].body) == {"model", "messages", "temperature", "max_tokens", "stream"}


async def test_the_schema_of_the_question_is_left_as_it_is(provider: AnthropicProvider, model: Model) -> None:
    before = json.dumps(SCHEMA)
    await ask(provider, model)
    assert json.dumps(SCHEMA) == before


async def test_the_makers_own_service_is_asked_for_its_standard_tier(model: Model) -> None:
    provider = AnthropicProvider("anthropic", api_key="key")
    assert provider._request((await provider._open())[0], model, QUESTION)[1]["service_tier"] == "standard_only"
    await provider.close()


def anthropic_usage(**changes: Any) -> dict[str, Any]:
    """A usage as Anthropic tells it, with changes: the input comes in three parts."""
    return {
        "input_tokens": 50,
        "cache_read_input_tokens": 40,
        "cache_creation_input_tokens": 10,
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 20},
    } | changes


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (anthropic_usage(), Usage(100, 40, 50, 20, 10)),
        ({"input_tokens": 9, "output_tokens": 3}, Usage(9, 0, 3)),
        (
            anthropic_usage(cache_read_input_tokens=None, cache_creation_input_tokens=None, output_tokens_details=None),
            Usage(50, 0, 50),
        ),
        (anthropic_usage(output_tokens_details={}), Usage(100, 40, 50, 0, 10)),
        # What cannot be true is no usage.
        (anthropic_usage(input_tokens=-1), None),
        (anthropic_usage(input_tokens=None), None),
        (anthropic_usage(output_tokens="50"), None),
        (anthropic_usage(output_tokens=True), None),
        (anthropic_usage(output_tokens=10**30), None),
        (anthropic_usage(cache_read_input_tokens=-1), None),
        (anthropic_usage(cache_creation_input_tokens={}), None),
        (anthropic_usage(output_tokens_details={"thinking_tokens": 51}), None),
        (anthropic_usage(output_tokens_details={"thinking_tokens": "20"}), None),
    ],
)
async def test_a_usage_is_exact_or_unknown(
    model_server: ModelServer,
    provider: AnthropicProvider,
    model: Model,
    told: Any,
    usage: Usage | None,
    streaming: bool,
) -> None:
    model_server.script = [Behaviour(usage_json=json.dumps(told))]
    answer = await ask(provider, replace(model, streaming=streaming))
    assert answer[-1] == Reply(usage, "end")


def stream_of(*events: dict[str, Any]) -> Behaviour:
    body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return Behaviour(raw=body.encode(), content_type="text/event-stream")


async def test_the_usage_of_the_end_replaces_that_of_the_beginning(
    model_server: ModelServer, provider: AnthropicProvider, model: Model
) -> None:
    model_server.script = [
        stream_of(
            {"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "a"}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "b"}},
            {"type": "some_event_of_next_year", "delta": {"text": "c"}},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn"},
                "usage": {"input_tokens": 6, "cache_read_input_tokens": None, "output_tokens": 3},
            },
            {"type": "message_stop"},
        )
    ]
    assert await ask(provider, model) == ["a", "b", Reply(Usage(6, 0, 3), "end")]


async def test_an_answer_without_a_beginning_has_no_known_usage(
    model_server: ModelServer, provider: AnthropicProvider, model: Model
) -> None:
    # llama.cpp leaves message_start out where the first token is half a character.
    model_server.script = [
        stream_of(
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "\ufffdi"}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 24}},
        )
    ]
    assert await ask(provider, model) == ["\ufffdi", Reply(None, "end")]


@pytest.mark.parametrize(
    ("reason", "stop"),
    [
        ("end_turn", "end"),
        ("stop_sequence", "end"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "refusal"),
        ("pause_turn", "end"),
    ],
)
async def test_the_end_says_why(
    model_server: ModelServer, provider: AnthropicProvider, model: Model, reason: str, stop: str
) -> None:
    model_server.script = [stream_of({"type": "message_delta", "delta": {"stop_reason": reason}})]
    assert await ask(provider, model) == [Reply(None, stop)]  # type: ignore[arg-type]


@pytest.mark.parametrize("streaming", [True, False])
async def test_thinking_is_no_part_of_the_answer(
    model_server: ModelServer, provider: AnthropicProvider, model: Model, streaming: bool
) -> None:
    usage = Usage(10, 0, 30, 25)
    model_server.script = [Behaviour(text="Yes.", usage=usage)]
    assert await ask(provider, replace(model, streaming=streaming)) == ["Yes.", Reply(usage, "end")]
