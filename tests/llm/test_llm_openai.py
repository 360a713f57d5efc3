"""What OpenAI's format is asked for, and how its answers and usages are read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from djp.llm.calls import Usage
from djp.llm.openai_provider import OpenAIProvider
from djp.llm.provider import ProviderError, Question, Reply
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
async def provider(model_server: ModelServer) -> AsyncIterator[OpenAIProvider]:
    provider = OpenAIProvider("maker", api_key="key", base_url=model_server.openai_url)
    yield provider
    await provider.close()


async def ask(provider: OpenAIProvider, model: Model, question: Question = QUESTION) -> list[str | Reply]:
    return [piece async for piece in provider.ask(model, question)]


async def test_a_question_asks_for_all_that_the_model_takes(
    model_server: ModelServer, provider: OpenAIProvider, model: Model
) -> None:
    await ask(provider, replace(model, thinking_tokens=50))
    await ask(provider, replace(model, streaming=False))
    streamed, whole = (call.body for call in model_server.calls)
    assert streamed == {
        "model": "some-model",
        "messages": [
            {"role": "system", "content": "You answer."},
            {"role": "user", "content": "What is a budget?"},
        ],
        "max_completion_tokens": 150,
        "temperature": 0.3,
        "seed": 7,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "draft", "schema": SCHEMA, "strict": True},
        },
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert whole == {name: streamed[name] for name in streamed if not name.startswith("stream")} | {
        "max_completion_tokens": 100
    }


async def test_a_question_leaves_out_what_the_model_does_not_take(
    model_server: ModelServer, provider: OpenAIProvider, model: Model
) -> None:
    plain = replace(model, temperature=False, seed=False, json_schema=False, max_tokens_field="max_tokens")
    await ask(provider, plain)
    await ask(provider, model, Question("", "What?", 10))
    assert set(model_server.calls[0].body) == {"model", "messages", "max_tokens", "stream", "stream_options"}
    assert model_server.calls[1].body["messages"] == [{"role": "user", "content": "What?"}]
    assert not {"temperature", "seed", "response_format"} & set(model_server.calls[1].body)


async def test_a_temperature_and_a_seed_of_zero_are_sent(
    model_server: ModelServer, provider: OpenAIProvider, model: Model
) -> None:
    await ask(provider, model, Question("", "What?", 10, 0.0, 0))
    assert model_server.calls[0].body["temperature"] == 0
    assert model_server.calls[0].body["seed"] == 0


async def test_half_characters_in_a_question_do_not_stop_it(
    model_server: ModelServer, provider: OpenAIProvider, model: Model
) -> None:
    await ask(provider, model, Question("a\ud83db", "😀\udc00", 10))
    assert model_server.calls[0].system == "a?b"
    assert model_server.calls[0].user == "😀?"


async def test_the_makers_own_service_is_asked_for_its_standard_tier(model: Model) -> None:
    provider = OpenAIProvider("openai", api_key="key")
    assert provider._request((await provider._open())[0], model, QUESTION)[1]["service_tier"] == "default"


def openai_usage(**changes: Any) -> dict[str, Any]:
    """A usage as OpenAI tells it, with changes."""
    return {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 20},
    } | changes


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (openai_usage(), Usage(100, 40, 50, 20, 10)),
        ({"prompt_tokens": 9, "completion_tokens": 3}, Usage(9, 0, 3)),
        (openai_usage(prompt_tokens_details=None, completion_tokens_details=None), Usage(100, 0, 50)),
        (
            openai_usage(prompt_tokens_details={}, completion_tokens_details={"reasoning_tokens": None}),
            Usage(100, 0, 50),
        ),
        # Thinking that is counted in the total alone.
        (openai_usage(total_tokens=170), Usage(100, 40, 70, 20, 10)),
        (openai_usage(total_tokens=180), Usage(100, 40, 80, 30, 10)),
        # What cannot be true is no usage.
        (openai_usage(prompt_tokens=-1), None),
        (openai_usage(completion_tokens=-50, total_tokens=50), None),
        (openai_usage(completion_tokens=None), None),
        (openai_usage(prompt_tokens="100"), None),
        (openai_usage(prompt_tokens=100.0), None),
        (openai_usage(prompt_tokens=True), None),
        (openai_usage(prompt_tokens=10**30, total_tokens=10**30), None),
        (openai_usage(total_tokens=149), None),
        (openai_usage(total_tokens=10**12), None),
        (openai_usage(total_tokens="many"), None),
        (openai_usage(prompt_tokens_details={"cached_tokens": 101}), None),
        (openai_usage(prompt_tokens_details={"cached_tokens": -1}), None),
        (openai_usage(prompt_tokens_details={"cached_tokens": 60, "cache_write_tokens": 41}), None),
        (openai_usage(prompt_tokens_details=[40]), None),
        (openai_usage(completion_tokens_details={"reasoning_tokens": 51}), None),
        (openai_usage(completion_tokens_details="20"), None),
        ([100, 50], None),
        ("150", None),
        (7, None),
        ({}, None),
    ],
)
async def test_a_usage_is_exact_or_unknown(
    model_server: ModelServer, provider: OpenAIProvider, model: Model, told: Any, usage: Usage | None, streaming: bool
) -> None:
    model_server.script = [Behaviour(usage_json=json.dumps(told))]
    answer = await ask(provider, replace(model, streaming=streaming))
    assert answer[-1] == Reply(usage, "end")


def stream_of(*chunks: dict[str, Any]) -> Behaviour:
    events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    return Behaviour(raw=f"{events}data: [DONE]\n\n".encode(), content_type="text/event-stream")


async def test_a_usage_told_with_every_chunk_is_that_of_the_last(
    model_server: ModelServer, provider: OpenAIProvider, model: Model
) -> None:
    model_server.script = [
        stream_of(
            {"choices": [{"delta": {"content": "a"}}], "usage": {"prompt_tokens": 5, "completion_tokens": 1}},
            {"choices": [{"delta": {"content": "b"}}], "usage": {"prompt_tokens": 5, "completion_tokens": 2}},
            {
                "choices": [{"delta": {}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 5, "completion_tokens": 3},
            },
            {"choices": [], "usage": None},
        )
    ]
    assert await ask(provider, model) == ["a", "b", Reply(Usage(5, 0, 3), "end")]


@pytest.mark.parametrize(
    ("reason", "stop"), [("stop", "end"), ("length", "length"), ("content_filter", "refusal"), ("tool_calls", "end")]
)
async def test_the_end_says_why(
    model_server: ModelServer, provider: OpenAIProvider, model: Model, reason: str, stop: str
) -> None:
    model_server.script = [stream_of({"choices": [{"delta": {"content": "a"}, "finish_reason": reason}]})]
    assert await ask(provider, model) == ["a", Reply(None, stop)]  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", ["error", "abort"])
async def test_an_answer_that_the_server_gave_up_is_none(
    model_server: ModelServer, provider: OpenAIProvider, model: Model, reason: str
) -> None:
    model_server.script = [stream_of({"choices": [{"delta": {"content": "a"}, "finish_reason": reason}]})]
    with pytest.raises(ProviderError) as failure:
        await ask(provider, model)
    assert failure.value.passing
    assert failure.value.billed


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_refusal_is_told_with_its_words(
    model_server: ModelServer, provider: OpenAIProvider, model: Model, streaming: bool
) -> None:
    model_server.script = [Behaviour(refusal="I will not say this.")]
    *pieces, reply = await ask(provider, replace(model, streaming=streaming))
    assert "".join(map(str, pieces)) == "I will not say this."
    assert isinstance(reply, Reply)
    assert reply.stop == "refusal"


async def test_thinking_is_no_part_of_the_answer(
    model_server: ModelServer, provider: OpenAIProvider, model: Model
) -> None:
    model_server.script = [
        stream_of(
            {"choices": [{"delta": {"role": "assistant", "content": None, "reasoning_content": "Hm."}}]},
            {"choices": [{"delta": {"content": "Yes.", "reasoning": "Hm?"}, "finish_reason": None}]},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
        )
    ]
    assert await ask(provider, model) == ["Yes.", Reply(None, "end")]
