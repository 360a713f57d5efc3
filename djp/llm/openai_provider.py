"""OpenAI, and every server that speaks its chat completions, through the official SDK."""

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
    from djp.llm.provider import Question

_BROKEN_OFF = ("error", "abort")
"""What gateways and vLLM say instead of an end when they gave the answer up."""


class OpenAIProvider(SdkProvider):
    """Models behind OpenAI's chat completions."""

    sdk_name = "openai"
    official_url = "https://api.openai.com/v1"
    account_headers = ("OpenAI-Organization", "OpenAI-Project")

    def _client(self, sdk: ModuleType, **options: Any) -> Any:
        return sdk.AsyncOpenAI(**options)

    def _request(self, sdk: ModuleType, model: Model, question: Question) -> tuple[str, dict[str, Any]]:
        messages = [{"role": "system", "content": sendable(question.system)}] if question.system else []
        body: dict[str, Any] = {
            "model": model.remote_id,
            "messages": [*messages, {"role": "user", "content": sendable(question.user)}],
            model.max_tokens_field: question.max_tokens + model.thinking_tokens,
        }
        if model.temperature and question.temperature is not None:
            body["temperature"] = question.temperature
        if model.seed and question.seed is not None:
            body["seed"] = question.seed
        if model.json_schema and question.schema is not None:
            schema = {"name": question.schema_name, "schema": question.schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if model.streaming:
            body["stream_options"] = {"include_usage": True}
        if self._base_url is None:
            body["service_tier"] = "default"  # a project may default to another one, which has other prices
        return "/chat/completions", body

    def _answer(self) -> Answer:
        return _ChatAnswer()

    async def _list(self) -> frozenset[str]:
        return frozenset(model_ids(await self._get("/models")))


class _ChatAnswer(Answer):
    """A chat completion. Servers tell the usage in a last chunk without choices, or so far in each."""

    def __init__(self) -> None:
        super().__init__()
        self._refused = False
        self._usage: Any = None

    def add(self, event: dict[str, Any]) -> str:
        return self._take(event, "delta")

    def whole(self, body: dict[str, Any]) -> str:
        text = self._take(body, "message")
        self.stop = self.stop or "end"
        return text

    def _take(self, event: dict[str, Any], part: str) -> str:
        if event.get("usage") is not None:
            self._usage = event["usage"]
        choices = event.get("choices")
        if not choices and part == "delta":
            return ""
        if not (isinstance(choices, list) and choices and isinstance(choices[0], dict)):
            raise MalformedError("it has no choices")
        said = choices[0].get(part) or {}
        if not isinstance(said, dict):
            raise MalformedError(f"its {part} is no object")
        content, refusal = said.get("content") or "", said.get("refusal") or ""
        if not (isinstance(content, str) and isinstance(refusal, str)):
            raise MalformedError(f"its {part} has content that is no text")
        self._refused = self._refused or bool(refusal)
        self._finish(choices[0].get("finish_reason"))
        return content + refusal

    def _finish(self, reason: Any) -> None:
        if reason in _BROKEN_OFF:
            raise MalformedError("the provider gave it up")
        if self._refused or reason == "content_filter":
            self.stop = "refusal" if reason else self.stop
        elif reason:
            self.stop = "length" if reason == "length" else "end"

    def reply(self) -> Reply:
        return Reply(_usage(self._usage), self.stop or "end")


def _usage(told: Any) -> Usage | None:
    """OpenAI's usage; None where it cannot be true.

    Some servers (Gemini's and xAI's among them) leave thinking out of `completion_tokens`, but count it in
    `total_tokens`: what the total has on top of its parts was put out as well.
    """
    if not isinstance(told, dict):
        return None
    prompt, completion = tokens(told.get("prompt_tokens")), tokens(told.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    total = tokens(told.get("total_tokens", prompt + completion))
    input_details, output_details = told.get("prompt_tokens_details"), told.get("completion_tokens_details")
    cached, written = _detail(input_details, "cached_tokens"), _detail(input_details, "cache_write_tokens")
    reasoning = _detail(output_details, "reasoning_tokens")
    if total is None or total < prompt + completion or cached is None or written is None or reasoning is None:
        return None
    hidden = total - prompt - completion
    try:
        return Usage(prompt, cached, completion + hidden, max(reasoning, hidden), written)
    except ValueError:
        return None


def _detail(details: Any, name: str) -> int | None:
    if not isinstance(details, dict):
        return 0 if details is None else None
    return tokens(details.get(name) or 0)
