"""Anthropic, and every server that speaks its messages, through the official SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from djp.llm.answers import Answer, MalformedError, model_ids, tokens
from djp.llm.calls import Usage
from djp.llm.provider import Reply
from djp.llm.sdk_provider import SdkProvider
from djp.llm.text import sendable

if TYPE_CHECKING:
    from types import ModuleType

    from djp.llm.models import Model
    from djp.llm.provider import Question, Stop

_MAX_MODELS = 10_000
_STOPS: dict[str, Stop] = {"max_tokens": "length", "model_context_window_exceeded": "length", "refusal": "refusal"}


class AnthropicProvider(SdkProvider):
    """Models behind Anthropic's messages, which know no seed."""

    sdk_name = "anthropic"
    official_url = "https://api.anthropic.com"

    def _client(self, sdk: ModuleType, **options: Any) -> Any:
        # Its own spans could be told by the environment to hold the questions.
        return sdk.AsyncAnthropic(**options, open_telemetry=False)

    def _request(self, sdk: ModuleType, model: Model, question: Question) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {
            "model": model.remote_id,
            "messages": [{"role": "user", "content": sendable(question.user)}],
            "max_tokens": question.max_tokens + model.thinking_tokens,
        }
        if question.system:
            body["system"] = sendable(question.system)
        if model.temperature and question.temperature is not None:
            body["temperature"] = question.temperature
        if model.json_schema and question.schema is not None:
            # Bounds that Anthropic's schemas do not know become words in the schema's descriptions.
            schema = sdk.transform_schema(dict(question.schema))
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        if self._base_url is None:
            body["service_tier"] = "standard_only"  # priority has other prices
        return "/v1/messages", body

    def _answer(self) -> Answer:
        return _MessageAnswer()

    async def _list(self) -> frozenset[str]:
        names: set[str] = set()
        page: dict[str, Any] = {"has_more": True}
        while page.get("has_more") is True and len(names) < _MAX_MODELS:
            after = page.get("last_id")
            page = await self._get("/v1/models", limit="1000", **({"after_id": str(after)} if after else {}))
            names.update(model_ids(page))
        return frozenset(names)


class _MessageAnswer(Answer):
    """A message. Its usage comes in two parts: the input when it begins, the output when it ends."""

    def __init__(self) -> None:
        super().__init__()
        self._usage: dict[str, Any] = {}

    def add(self, event: dict[str, Any]) -> str:
        kind = event.get("type")
        if kind == "content_block_delta":
            return _text(event.get("delta"), "text_delta")
        if kind == "content_block_start":
            return _text(event.get("content_block"), "text")
        if kind == "message_start":
            message = event.get("message")
            self._learn(message.get("usage") if isinstance(message, dict) else None)
        elif kind == "message_delta":
            self._learn(event.get("usage"))
            delta = event.get("delta")
            self._finish(delta.get("stop_reason") if isinstance(delta, dict) else None)
        return ""

    def whole(self, body: dict[str, Any]) -> str:
        content = body.get("content")
        if not isinstance(content, list):
            raise MalformedError("it has no content")
        text = "".join(_text(block, "text") for block in content)
        self._learn(body.get("usage"))
        self._finish(body.get("stop_reason") or "end_turn")
        return text

    def _learn(self, usage: Any) -> None:
        if isinstance(usage, dict):
            self._usage |= {name: value for name, value in usage.items() if value is not None}

    def _finish(self, reason: Any) -> None:
        if reason:
            self.stop = _STOPS.get(str(reason), "end")

    def reply(self) -> Reply:
        return Reply(_usage(self._usage), self.stop or "end")


def _text(part: Any, kind: str) -> str:
    if not isinstance(part, dict):
        raise MalformedError("a part of it is no object")
    if part.get("type") != kind:
        return ""  # thinking, or its signature
    text = part.get("text")
    if not isinstance(text, str):
        raise MalformedError("its text is no text")
    return text


def _usage(told: dict[str, Any]) -> Usage | None:
    """Anthropic's usage, whose input tokens are those that no cache had; None where it cannot be true."""
    fresh, output = tokens(told.get("input_tokens")), tokens(told.get("output_tokens"))
    read, written = tokens(told.get("cache_read_input_tokens", 0)), tokens(told.get("cache_creation_input_tokens", 0))
    details = told.get("output_tokens_details")
    thinking = tokens(details.get("thinking_tokens") or 0) if isinstance(details, dict) else 0
    if fresh is None or output is None or read is None or written is None or thinking is None:
        return None
    try:
        return Usage(fresh + read + written, read, output, thinking, written)
    except ValueError:
        return None
